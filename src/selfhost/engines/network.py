"""What can be reached: package indexes, asked as uv asks them, by the same proxy and with the same certificates."""

import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlsplit

from selfhost.engines import indexes
from selfhost.errors import SelfhostError
from selfhost.planner.plan import Variant

ASK_SECONDS = 5  # for an index to answer; a firewall that drops packets costs this much per index


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What answers, and how the configured indexes are meant."""

    vllm_index: bool = False
    pytorch_index: bool = False
    equal_indexes: bool = False  # all configured indexes are searched, as pip does it
    no_index: bool = False  # nothing but the configured find-links
    wheelhouse: Path | None = None  # a folder of wheels, and nothing else
    problems: tuple[str, ...] = ()  # why an index of the engine's is not used, each with its name


def ask(version: str, variant: Variant, environ: Mapping[str, str], *, equal_indexes: bool, no_index: bool) -> Network:
    """Find out which of the engine indexes answer; none is asked where the configuration says to stay off the net."""
    questions = {f"PyTorch's {variant} index": indexes.PYTORCH.format(variant=variant) + "/torch/"}
    if variant != Variant.CU130:  # which is the build of the ordinary index
        own = indexes.VLLM.format(version=version, variant=variant) + "/vllm/"
        questions = {f"vLLM's own {variant} index": own} | questions
    if no_index or environ.get("UV_OFFLINE"):
        problems = dict.fromkeys(questions, "not asked: the configuration says to stay off the network")
    else:
        problems = {name: problem for name, url in questions.items() if (problem := _problem(url, environ))}
    return Network(
        vllm_index=variant != Variant.CU130 and f"vLLM's own {variant} index" not in problems,
        pytorch_index=f"PyTorch's {variant} index" not in problems,
        equal_indexes=equal_indexes,
        no_index=no_index,
        problems=tuple(f"{name}: {problem}" for name, problem in problems.items()),
    )


def opener(environ: Mapping[str, str]) -> urllib.request.OpenerDirector:
    """Opens URLs through the proxies of `environ` (urllib itself heeds NO_PROXY), trusting its certificates.

    Raises `SelfhostError` when the certificates of `environ` cannot be read.
    """
    file, folder = environ.get("SSL_CERT_FILE") or None, environ.get("SSL_CERT_DIR") or None
    try:
        context = ssl.create_default_context(cafile=file, capath=folder)
    except OSError as error:
        raise SelfhostError(
            f"the certificates of SSL_CERT_FILE={file} cannot be read: {error.strerror or error}",
            hint="let it name a file in PEM format, or unset it (pip's cert and REQUESTS_CA_BUNDLE are read likewise)",
        ) from error
    proxies = {scheme: value for scheme in ("http", "https") if (value := _proxy(scheme, environ)[1])}
    return urllib.request.build_opener(
        urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)
    )


def proxy_in_use(environ: Mapping[str, str]) -> str | None:
    """The proxy for package indexes and the variable that names it, without its password: for a message."""
    variable, value = _proxy("https", environ)
    if not value:
        return None
    parts = urlsplit(value if "://" in value else f"http://{value}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]} ({variable})"


def _proxy(scheme: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """The variable that names the proxy for `scheme`, and its value; empty strings when there is none."""
    names = (f"{scheme}_proxy", "all_proxy")
    spelled = (spelling for name in names for spelling in (name, name.upper()))
    return next(((name, environ[name]) for name in spelled if environ.get(name)), ("", ""))


def _problem(url: str, environ: Mapping[str, str]) -> str:
    """Why `url` cannot be had, "" when it can."""
    try:
        with opener(environ).open(urllib.request.Request(url, method="HEAD"), timeout=ASK_SECONDS):  # noqa: S310 (ours)
            return ""
    except urllib.error.HTTPError as error:
        return "does not have it" if error.code == 404 else f"answers {error.code} {error.reason}"
    except urllib.error.URLError as error:
        reason = error.reason
        return f"does not answer ({reason.strerror or reason if isinstance(reason, OSError) else reason})"
    # timed out while reading; a proxy that urllib cannot speak to; one that does not speak HTTP
    except (OSError, ValueError, HTTPException) as error:
        return f"does not answer ({error})"
