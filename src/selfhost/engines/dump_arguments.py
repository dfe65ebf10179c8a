"""Write the argument parser of `vllm serve` down as JSON: `python -P dump_arguments.py OUTPUT`.

A script for the engine environment's own Python, on the standard library alone. It calls vLLM by its console entry
point only and stops when that asks argparse to parse, so it depends on no module of vLLM. On the way vLLM imports its
compiled kernels, which makes this the proof that an environment works.
"""

import argparse
import json
import re
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, NoReturn

FORMAT_VERSION = 1

# What each option's converter is tried on. selfhost.engines.arguments reads the answers.
SAMPLES = ("7", "0.5", "2k", "auto", "None", "word", "{}", "[]")


class Parser(BaseException):
    """The parser of `vllm serve`, thrown out of the entry point past every `except Exception`."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.parser = parser


def capture() -> argparse.ArgumentParser:
    """The parser that `vllm serve` would read its command line with."""
    parse_args = argparse.ArgumentParser.parse_args

    def stop_at_serve(self: argparse.ArgumentParser, *args: Any, **kwargs: Any) -> Any:
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction) and "serve" in action.choices:  # noqa: SLF001
                raise Parser(action.choices["serve"])
        return parse_args(self, *args, **kwargs)

    argparse.ArgumentParser.parse_args = stop_at_serve  # type: ignore[method-assign]
    sys.argv = ["vllm", "serve", "--help"]  # asked for help, vLLM also writes what its options mean
    try:
        for script in entry_points(group="console_scripts", name="vllm"):
            script.load()()
    except Parser as found:
        return found.parser
    sys.exit("there is no `vllm serve`")


def describe(action: argparse.Action) -> dict[str, Any]:
    """One option as JSON."""
    choices = [str(choice) for choice in action.choices or ()]
    return {
        "names": list(action.option_strings),
        "dest": action.dest,
        "kind": _kind(action),
        "type": getattr(action.type, "__name__", "str"),
        "accepts": [] if action.nargs == 0 else [sample for sample in SAMPLES if _converts(action, sample)],
        "choices": choices,
        "folds": bool(choices) and _convert(action, "Ab-C") == "ab_c",
        "suggestions": _suggestions(action.metavar),
        "default": _json_or_none(action.default),
        "help": (action.help or "").strip().partition("\n")[0],
    }


def _kind(action: argparse.Action) -> str:
    if action.nargs == 0:
        return "boolean" if any(name.startswith("--no-") for name in action.option_strings[1:]) else "flag"
    if action.nargs == "?":
        return "optional"
    if action.nargs is not None:
        return "list"
    return "append" if isinstance(action, argparse._AppendAction) else "value"  # noqa: SLF001


def _converts(action: argparse.Action, sample: str) -> bool:
    return _convert(action, sample) is not Ellipsis


def _convert(action: argparse.Action, sample: str) -> Any:
    if not callable(action.type):
        return sample
    try:
        return action.type(sample)
    except Exception:  # noqa: BLE001 (any failure of a converter means that it does not take the sample)
        return ...


def _suggestions(metavar: Any) -> list[str]:
    """`{hermes,mistral} or a registered name`: the values between the braces."""
    braces = re.search(r"\{([^}]*)\}", metavar) if isinstance(metavar, str) else None
    return braces[1].split(",") if braces else []


def _json_or_none(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        return None


def main(output: str) -> NoReturn:
    """Write `output` and end without running the exit handlers of a half-started engine."""
    options = [describe(action) for action in capture()._actions if action.option_strings]  # noqa: SLF001
    Path(output).write_text(json.dumps({"format_version": FORMAT_VERSION, "options": options}, indent=1))
    sys.exit(0)


if __name__ == "__main__":
    main(sys.argv[1])
