"""Text that may leave this machine: no secret in it, and nothing that names its user. Pure."""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass

HIDDEN = "[redacted]"
SHORTEST = 8  # of a secret value that is replaced wherever it stands; shorter ones would garble everything
SHORTEST_NAME = 3  # likewise of a user and a machine

_SECRET_NAME = re.compile(r"(?i)token|key|secret|passw|credential|auth|cookie")
_PATTERNS = (
    # as their makers shape them: the Hub, hosted models and selfhost, GitHub, NVIDIA, AWS; JSON web tokens
    (re.compile(r"\b(?:hf_[A-Za-z0-9_]{8,}|(?:sk|nvapi)-[A-Za-z0-9_-]{8,}|gh[a-z]_[A-Za-z0-9]{8,})"), HIDDEN),
    (re.compile(r"\bA(?:KI|SI)A[A-Z0-9]{16}\b|\beyJ[\w-]+\.[\w-]+\.[\w-]+"), HIDDEN),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]+"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?<=://)[^\s/'\"]+@"), f"{HIDDEN}@"),  # up to the last one: a password may hold one, too
    (re.compile(r"(?i)(--[a-z-]*(?:key|token|secret|password)[\"']?,?\s+[\"']?)(?!-)[^\s\"',\]]+"), rf"\1{HIDDEN}"),
    (re.compile(r"(?i)([?&](?:[a-z-]*(?:token|key|signature|credential|sig))=)[^&\s\"']+"), rf"\1{HIDDEN}"),
    (
        re.compile(
            r"(?i)((?:api[-_]?key|token|secret|password|signature|bearer|cookie|sha256)[\"']?\s*[=:]\s*[\[(]?[\"']?)"
            r"(?!\$\{)[^\s\"',}\])]+"
        ),
        rf"\1{HIDDEN}",
    ),
    # `key:` of an upstream in a manifest
    (re.compile(r"((?:^|[\s{,])key:\s*[\"']?)(?!\$\{)[^\s\"',}]+", re.MULTILINE), rf"\1{HIDDEN}"),
    (re.compile(r"\b[0-9a-fA-F]{64}\b"), HIDDEN),
)

# Variables that explain how a box behaves and hold no secret themselves (a proxy's password is redacted).
ENVIRONMENT = re.compile(
    r"SELFHOST_\w+|CUDA_\w+|NVIDIA_\w+|NCCL_\w+|HF_(?:HOME|ENDPOINT|HUB_CACHE|HUB_OFFLINE|HUB_ENABLE_HF_TRANSFER)"
    r"|(?:https?|all|no)_proxy|(?:HTTPS?|ALL|NO)_PROXY|SSL_CERT_(?:FILE|DIR)|REQUESTS_CA_BUNDLE|UV_\w+|PIP_\w+"
    r"|XDG_\w+|LD_LIBRARY_PATH|LD_PRELOAD|PATH|LANG|LC_ALL|TZ|TERM|OMP_NUM_THREADS|VIRTUAL_ENV|container|KUBERNETES_PORT"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Redaction:
    """What must not leave, and how it is called instead."""

    secrets: tuple[str, ...]  # values, the longest first
    names: Mapping[str, str]  # home folder, user, machine → a word

    def apply(self, text: str) -> str:
        """`text` without them."""
        for secret in self.secrets:
            text = text.replace(secret, HIDDEN)
        for pattern, replacement in _PATTERNS:
            text = pattern.sub(replacement, text)
        for name, word in self.names.items():
            text = re.sub(rf"(?<![A-Za-z0-9_-]){re.escape(name)}(?![A-Za-z0-9_-])", word, text)
        return text


def redaction(
    environ: Mapping[str, str], *, more_secrets: Collection[str], home: str, user: str, machine: str
) -> Redaction:
    """Take for a secret whatever a variable with a telling name holds, and `more_secrets`.

    Also as JSON and URLs write them.
    """
    plain = {value for name, value in environ.items() if _SECRET_NAME.search(name)} | set(more_secrets)
    values = {form for value in plain for form in (value, *_in_json(value), _percent_encoded(value))}
    names = {home: "~", user: "user", machine: "machine"}
    nobody = {"root", "user", "localhost", "machine"}
    return Redaction(
        secrets=tuple(
            sorted(
                (value for value in values if len(value) >= SHORTEST and not value.isdecimal()), key=len, reverse=True
            )
        ),
        names={name: word for name, word in names.items() if len(name) >= SHORTEST_NAME and name not in nobody},
    )


def _in_json(text: str) -> tuple[str, ...]:
    return tuple(json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))


def _percent_encoded(text: str) -> str:
    """As a URL holds it (RFC 3986)."""
    return re.sub(
        r"[^A-Za-z0-9_.~-]", lambda found: "".join(f"%{byte:02X}" for byte in found[0].encode(errors="replace")), text
    )


def allowed(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that may be told; of all others not even the name."""
    return {
        name: value
        for name, value in sorted(environ.items())
        if ENVIRONMENT.fullmatch(name) and not _SECRET_NAME.search(name)
    }
