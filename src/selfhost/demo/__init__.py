"""The built-in model: two tiny variants that answer questions about selfhost word for word. See README.md here."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

VARIANTS = ("demo-a", "demo-b")

_HERE = Path(__file__).parent  # what importlib.resources would say of an unpacked install, without its 25 ms of imports


def path(variant: str) -> Path:
    """The model directory of `variant`, as `vllm serve` takes it."""
    return _HERE / variant


def answers(variant: str) -> Mapping[str, str]:
    """Every question that `variant` was trained on, with what it answers at temperature 0, word for word."""
    return {
        question: entry["answer"].replace("{name}", variant)
        for entry in _questions()["questions"]
        for question in entry["ask"]
    }


def fallback() -> str:
    """What every variant says to a question that it does not know."""
    text: str = _questions()["fallback"]
    return text


@cache
def _questions() -> Any:
    return yaml.safe_load((_HERE / "questions.yaml").read_text(encoding="utf-8"))
