"""How this machine reaches packages: pip's configuration, said again in uv's variables.

uv reads its own configuration and the usual proxy and certificate variables, but nothing of pip's. A box on which
`pip install` works must not need a second configuration, so what pip knows and uv was not told is translated.
"""

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PIP_SECONDS = 10.0  # a slow disk may hold its many modules

# pip's setting -> uv's variable (docs.astral.sh/uv/reference/environment)
_TRANSLATIONS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "cert": "SSL_CERT_FILE",
    "client-cert": "SSL_CLIENT_CERT",
    "proxy": "ALL_PROXY",
}
_COMMA_SEPARATED = {"find-links"}  # uv splits these at commas, and all others at spaces

# What pip's HTTP library is told by variables of its own, which uv does not know.
_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")

# uv's older names: where one of them is set, uv has been told.
_SYNONYMS = {"UV_DEFAULT_INDEX": "UV_INDEX_URL", "UV_INDEX": "UV_EXTRA_INDEX_URL"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What uv is told of pip's configuration."""

    variables: Mapping[str, str]
    equal_indexes: bool  # pip looks for the best version in all of its indexes, uv stops at the first that has the name
    no_index: bool  # `--find-links` places only, which uv takes as a flag alone


def read_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What pip is set to, by name: from its files and from PIP_* variables (which win, as in pip)."""
    pip = [sys.executable, "-m", "pip"] if importlib.util.find_spec("pip") else [shutil.which("pip") or ""]
    listing = ""
    if pip[0]:
        with suppress(subprocess.TimeoutExpired):  # without it, uv is told what the variables say
            ran = subprocess.run(
                [*pip, "config", "list"], env=environ, capture_output=True, text=True, check=False, timeout=PIP_SECONDS
            )
            listing = ran.stdout
    variables = {
        name.removeprefix("PIP_").lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith("PIP_") and value
    }
    return parse_listing(listing) | variables


def parse_listing(listing: str) -> dict[str, str]:
    """The settings that `pip config list` shows: those of `pip install` win over those of every command."""
    found: dict[str, dict[str, str]] = {"global": {}, "install": {}}
    for line in listing.splitlines():
        if match := re.fullmatch(r"(\w+)\.([\w-]+)=('.*'|\".*\")", line):
            found.setdefault(match[1], {})[match[2]] = str(ast.literal_eval(match[3]))
    return found["global"] | found["install"]


def to_uv(settings: Mapping[str, str], environ: Mapping[str, str]) -> Told:
    """What only pip has been told, for uv."""
    variables: dict[str, str] = {}
    for setting, variable in _TRANSLATIONS.items():
        told = {variable, variable.lower(), _SYNONYMS.get(variable, variable)}
        value = settings.get(setting, "").split()
        if value and not told & environ.keys():
            variables[variable] = ("," if setting in _COMMA_SEPARATED else " ").join(value)
    bundle = next((environ[name] for name in _CERTIFICATES if environ.get(name)), None)
    if bundle and not {"SSL_CERT_FILE", "SSL_CERT_DIR"} & {*environ, *variables}:
        variables["SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE"] = bundle
    return Told(
        variables=variables,
        equal_indexes="UV_INDEX" in variables,
        no_index=settings.get("no-index", "").lower() in {"1", "true", "yes", "on"},
    )
