"""The models that selfhost knows by a short id: the built-in ones and the rows of data/models.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources

import yaml

from selfhost import demo


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownModel:
    """One row of the catalogue."""

    id: str  # "qwen3-8b"
    repo: str | None  # Hub repository; None for a built-in model
    engine_args: Mapping[str, bool | int | str] = field(default_factory=dict)  # options of `vllm serve` that suit it


@cache
def known_models() -> dict[str, KnownModel]:
    """All rows by id."""
    # Compiling a model of a million parameters takes half a minute and gains nothing.
    built_in = [KnownModel(id=variant, repo=None, engine_args={"enforce-eager": True}) for variant in demo.VARIANTS]
    text = resources.files("selfhost.catalog").joinpath("data/models.yaml").read_text(encoding="utf-8")
    rows = [KnownModel(id=key, **row) for key, row in yaml.safe_load(text).items()]
    return {row.id: row for row in [*built_in, *rows]}
