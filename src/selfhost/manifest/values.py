"""The values that fields of the manifest hold, and the sentence for everything that is not one. Pure."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    InstanceOf,
    PlainSerializer,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from selfhost import versions
from selfhost.control_characters import CONTROL

_FROM_ENVIRONMENT = r"\$\{env:"  # a pattern for editors, which cannot know what the environment holds

Location = tuple[str | int, ...]  # pydantic's `loc`: keys and indices from the outside in


def refuse(sentence: str, *, hint: str | None = None) -> PydanticCustomError:
    """The error of a validator of ours: `sentence` continues the path of the value ("should be ...").

    It never holds the value itself, which may come from the environment. Whoever reports the error adds what the file
    says, to sentences that begin with "should".
    """
    return PydanticCustomError("refused", sentence, {"hint": hint})


@dataclass(frozen=True, slots=True)
class Twin:
    """A value that may not be there twice."""

    location: Location
    first: Location
    sentence: str  # "is already the name of models.0"


def without_twins(find: Callable[[Any], Iterable[Twin]]) -> WrapValidator:
    """A validator that adds what `find` sees in the raw value to whatever the types find wrong in it.

    An ordinary validator runs before the types and hides their errors, or after them and only if there were none.
    """

    def validate(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        errors = [
            InitErrorDetails(
                type=PydanticCustomError("twin", twin.sentence, {"depth": len(twin.location), "first": twin.first}),
                loc=twin.location,
                input=None,
            )
            for twin in find(value)
        ]
        try:
            valid = handler(value)
        except ValidationError as error:
            errors += [
                InitErrorDetails(
                    type=PydanticCustomError(found["type"], found["msg"], found.get("ctx")),
                    loc=found["loc"],
                    input=None,
                )
                for found in error.errors(include_url=False, include_input=False)
            ]
        if errors:
            raise ValidationError.from_exception_data("manifest", errors)
        return valid

    return WrapValidator(validate)


@dataclass(frozen=True, slots=True)
class Shape:
    """Text that matches `pattern` from end to end; `sentence` says what that means."""

    pattern: str
    sentence: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Tell pydantic how to check it."""
        return core_schema.no_info_after_validator_function(self.check, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Tell editors."""
        return {**handler(schema), "pattern": f"^(?:{self.pattern})$|{_FROM_ENVIRONMENT}"}

    def check(self, text: str) -> str:
        """`text` itself, if it has this shape."""
        if re.fullmatch(self.pattern, text) is None:
            raise refuse(self.sentence)
        return text


# 40 characters, because a name becomes a folder of unix sockets, and their whole path has only 107 bytes.
Name = Annotated[
    str,
    Shape(
        r"[a-z0-9](?:[a-z0-9.-]{0,38}[a-z0-9])?",
        "should be at most 40 lower-case letters, digits, '.' and '-', with a letter or digit at both ends",
    ),
]
Alias = Annotated[
    str,
    Shape(
        r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,95}",
        "should be at most 96 letters, digits and any of '._:/-', with a letter or digit first",
    ),
]
Revision = Annotated[
    str,
    Shape(
        r"(?!.*\.\.)[A-Za-z0-9][A-Za-z0-9._/-]{0,127}",
        "should be a branch, a tag or a commit of the Hub repo",
    ),
]
Sha256 = Annotated[
    str,
    Shape("[0-9A-Fa-f]{64}", "should be the 64 hexadecimal digits of a SHA-256"),
    AfterValidator(str.lower),
]
Count = Annotated[int, Field(ge=1, le=2**31 - 1)]


def _one_line(path: str) -> str:
    """`path` itself, if it is shown as it is."""
    if CONTROL.search(path) or not {"\n", "\t"}.isdisjoint(path):
        raise refuse("should be a path without control characters")
    return path


def _interpreter(value: Any) -> Path:
    if not isinstance(value, str | Path) or not str(value):
        raise refuse("should be the path of a Python interpreter")
    return Path(_one_line(str(value)))


Interpreter = Annotated[Path, BeforeValidator(_interpreter)]


def _supported(release: str) -> str:
    if not versions.is_supported(release):
        raise refuse(
            f"should be {versions.OLDEST} or newer",
            hint="the security floor: in older ones a request can crash the engine or run code (CVE-2026-114053, "
            "CVE-2026-115918 and others)",
        )
    return release


VllmVersion = Annotated[
    str,
    Shape(versions.RELEASE, f'should be one release of vLLM with all its numbers, such as "{versions.DEFAULT}"'),
    AfterValidator(_supported),
]


class SourceKind(StrEnum):
    """Where a `source` lies, told by its spelling alone."""

    AUTO = "auto"
    CATALOGUE = "catalogue"
    HUB = "hub"
    PATH = "path"

    @classmethod
    def of(cls, source: str) -> "SourceKind":
        """The kind of `source`, which is valid."""
        if source == "auto":
            return cls.AUTO
        if source.startswith(("./", "../", "/", "~/")):
            return cls.PATH
        return cls.HUB if "/" in source else cls.CATALOGUE


_WORD = "[A-Za-z0-9](?:[A-Za-z0-9._-]{0,94}[A-Za-z0-9])?"


def _source(text: str) -> str:
    if SourceKind.of(text) is SourceKind.PATH:
        return _one_line(text)
    if re.fullmatch(f"{_WORD}(?:/{_WORD})?", text):
        return text
    hint = None
    if "://" in text:
        hint = "of a URL, write only the org/name"
    elif "@" in text:
        hint = "what follows the @ belongs in `revision`"
    raise refuse("should be `auto`, a catalogue id, a Hub repo (org/name) or a path (./folder)", hint=hint)


Source = Annotated[str, AfterValidator(_source)]


@dataclass(frozen=True, slots=True)
class Listen:
    """The address that the gateway listens on."""

    host: str  # an IPv4 or IPv6 address (no brackets), or "localhost"
    port: int

    @classmethod
    def parse(cls, text: str) -> "Listen":
        """Read `ADDRESS:PORT`; raises `ValueError` for anything else."""
        found = re.fullmatch(r"(?:\[(?P<v6>.+)\]|(?P<v4>[0-9.]+)|localhost):(?P<port>[0-9]{1,5})", text)
        if found is None or not 1 <= int(found["port"]) <= 65535:
            raise ValueError(text)
        host = "localhost"
        if found["v6"]:
            host = str(IPv6Address(found["v6"]))
        elif found["v4"]:
            host = str(IPv4Address(found["v4"]))
        return cls(host, int(found["port"]))

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can connect."""
        return self.host == "localhost" or ip_address(self.host).is_loopback

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _listen(value: Any) -> Any:
    if isinstance(value, Listen):
        return value
    try:
        return Listen.parse(value)
    except (TypeError, ValueError):
        raise refuse('should be ADDRESS:PORT, such as 127.0.0.1:8000, 0.0.0.0:8000 or "[::1]:8000"') from None


ListenAddress = Annotated[
    InstanceOf[Listen],
    BeforeValidator(_listen),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": rf"^(?:[0-9.]+|\[.+\]|localhost):[0-9]{{1,5}}$|{_FROM_ENVIRONMENT}"}),
]
