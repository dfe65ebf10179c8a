"""`models.yaml` as types: every field, what it means and its default. Pure.

Fields are spelled as vLLM and the Hub spell them. What editors know about the manifest is generated from these types.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from selfhost import versions
from selfhost.manifest.engine_args import EngineArgs
from selfhost.manifest.values import (
    Alias,
    Count,
    Interpreter,
    Listen,
    ListenAddress,
    Location,
    Name,
    Revision,
    Sha256,
    Source,
    SourceKind,
    Twin,
    VllmVersion,
    refuse,
    without_twins,
)


def _same_names(section: str) -> Callable[[Any], Iterator[Twin]]:
    """Find entries of `section` that share a name or an alias, however wrong they are otherwise."""

    def find(entries: Any) -> Iterator[Twin]:
        first: dict[str, tuple[Location, str]] = {}
        for index, entry in enumerate(entries if isinstance(entries, tuple | list) else ()):
            for place, name in _names(entry):
                if not isinstance(name, str):
                    continue
                if name in first:
                    yield Twin((index, *place), *first[name])
                is_a = "the name" if place == ("name",) else "an alias"
                first.setdefault(name, ((index, *place), f"is already {is_a} of {section}.{index}"))

    return find


def _names(entry: Any) -> Iterator[tuple[Location, Any]]:
    fields = entry if isinstance(entry, Mapping) else getattr(entry, "__dict__", {})
    yield ("name",), fields.get("name")
    aliases = fields.get("aliases")
    for index, alias in enumerate(aliases if isinstance(aliases, tuple | list) else ()):
        yield ("aliases", index), alias


def _version(value: Any) -> Any:
    # Literal[1] alone takes True and 1.0 as well, which are equal to 1.
    if type(value) is not int or value != 1:
        raise refuse("should be 1", hint="this selfhost knows no other version of the format")
    return value


def _at_least_one(models: Any) -> Any:
    # Not `min_length`: pydantic counts only the valid ones.
    if models == ():
        raise refuse("has no entry", hint="a manifest serves at least one model")
    return models


def _auto_is_none(value: Any) -> Any:
    if isinstance(value, str) and value != "auto":
        raise refuse("should be a whole number or `auto`")
    return None if value == "auto" else value


class _Section(BaseModel):
    """What all sections have in common: frozen, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ApiKey(_Section):
    """An API key that clients may use, known by its hash alone."""

    name: Name = Field(description="Whose key it is; what logs and usage show.", examples=["ci"])
    sha256: Sha256 = Field(
        description='SHA-256 of the whole key, in hexadecimal: `printf %s "$KEY" | sha256sum`.',
        examples=["ba0e5f9b5452ebd924c09a0607d11015330500706be3250ebad64cddd94d7d4b"],
    )


class Gateway(_Section):
    """The one address that clients talk to."""

    listen: ListenAddress = Field(
        default=Listen("127.0.0.1", 8000),
        description="ADDRESS:PORT to listen on. An address that other machines can reach needs keys.",
        examples=["127.0.0.1:8000", "0.0.0.0:8000", "[::1]:8000"],
    )
    keys: Annotated[tuple[ApiKey, ...], without_twins(_same_names("gateway.keys"))] = Field(
        default=(),
        description="API keys by their hash, beside those of `selfhost keys create`.",
    )


class Engine(_Section):
    """The vLLM that serves the models."""

    vllm: VllmVersion = Field(
        default=versions.DEFAULT,
        description=f'The release of vLLM, in quotes; "{versions.OLDEST}" or newer.',
        examples=[versions.DEFAULT],
    )
    python: Interpreter | None = Field(
        default=None,
        description="A Python interpreter that has this vLLM already, instead of an environment that selfhost builds. "
        "A relative path starts at the folder of the manifest.",
        examples=["/opt/vllm/bin/python"],
    )


class Model(_Section):
    """A model and how it is served."""

    name: Name = Field(description='What clients put in "model".', examples=["chat"])
    source: Source = Field(
        default="auto",
        description="`auto` (the best catalogue model for this machine), a catalogue id, a Hub repo (org/name), or a "
        "folder (./path, ../path, /path, ~/path; a relative one starts at the folder of the manifest).",
        examples=["auto", "Qwen/Qwen3-8B", "./models/chat"],
    )
    revision: Revision = Field(
        default="main",
        description="Branch, tag or commit of the Hub repo.",
        examples=["main", "b968826d9c46dd6066d109eabc6255188de91218"],
    )
    max_model_len: Count | None = Field(
        default=None,
        description="Tokens that one request may have, prompt and answer together. Default: as many as the model can.",
        examples=[32768],
    )
    concurrency: Count = Field(
        default=1,
        description="How many requests of full length must fit into memory at once; if they do not, the plan says no. "
        "Shorter requests fit in larger numbers.",
        examples=[16],
    )
    replicas: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=1,
        description="How many engines serve this model, each on GPUs of its own.",
        examples=[2],
    )
    tensor_parallel_size: Annotated[
        Count | None, BeforeValidator(_auto_is_none, json_schema_input_type=Count | Literal["auto"] | None)
    ] = Field(
        default=None,
        description="GPUs that share one replica. `auto`, the default: as few as the model needs.",
        examples=["auto", 2],
    )
    gpu_memory_utilization: float = Field(
        default=0.92,
        gt=0,
        le=1,
        description="The share of each GPU's memory that the engine may use.",
        examples=[0.92],
    )
    aliases: tuple[Alias, ...] = Field(
        default=(),
        description="More names for the same model.",
        examples=[["default", "gpt-4o"]],
    )
    engine_args: EngineArgs = Field(
        default={},
        description="Options of `vllm serve` that have no field here, without the dashes. They are checked against the "
        "engine's own argument parser.",
        examples=[{"max-num-seqs": 64, "enable-prefix-caching": True}],
    )

    @property
    def source_kind(self) -> SourceKind:
        """Where `source` lies, told by its spelling."""
        return SourceKind.of(self.source)


class Manifest(_Section):
    """What should run on a machine: a gateway, an engine and models."""

    version: Annotated[Literal[1], BeforeValidator(_version)] = Field(description="The version of this format: 1.")
    name: Name = Field(
        default="selfhost",
        description="Tells several manifests on one machine apart. Default: the name of the manifest's folder.",
        examples=["box"],
    )
    gateway: Gateway = Field(default=Gateway(), description="The one address that clients talk to.")
    engine: Engine = Field(default=Engine(), description="The vLLM that serves the models.")
    models: Annotated[tuple[Model, ...], without_twins(_same_names("models")), BeforeValidator(_at_least_one)] = Field(
        description="The models, at least one.", json_schema_extra={"minItems": 1}
    )
