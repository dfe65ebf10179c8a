"""How selfhost's own long-running processes log: one line per event on standard error, UTC, no colours."""

import logging
import time


def configure(*, level: int = logging.INFO) -> None:
    """Send every logger to standard error as `2026-11-21T22:30:00Z INFO gateway: sentence`."""
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler()
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
