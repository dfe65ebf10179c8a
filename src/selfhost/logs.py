"""How selfhost's own long-running processes log: one line per event, UTC, no colours."""

import logging
import time
from typing import TextIO


def configure(stream: TextIO | None = None, *, level: int = logging.INFO) -> None:
    """Send every logger to `stream` (default: standard error) as `2026-11-21T22:30:00Z INFO gateway: sentence`."""
    formatter = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
