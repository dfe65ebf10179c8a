"""Decide which packages an environment gets: from the first source that has the wanted vLLM, or from a given list."""

import sys
from pathlib import Path

from selfhost import regular_file
from selfhost.engines import sources
from selfhost.engines.build_steps import Steps, explain
from selfhost.engines.network import Network
from selfhost.engines.sources import Source
from selfhost.errors import SelfhostError
from selfhost.planner.plan import Variant
from selfhost.units import MIB

LARGEST_BYTES = 4 * MIB  # of a list; vLLM's has 200 packages in 400 KB


def resolve(steps: Steps, version: str, network: Network) -> Source:
    """Create the virtual environment and write packages.txt beside it; tell which source it is from.

    Raises `SelfhostError` with everything that was tried when no source has it.
    """
    steps.start("resolving", f"which packages vLLM {version} needs")
    (steps.directory / "overrides.txt").write_text(sources.CPU_OVERRIDES if steps.variant == Variant.CPU else "")
    create_venv(steps)
    tried = list(network.problems)
    for source in sources.sources(version, steps.variant, network):
        (steps.directory / "requirements.txt").write_text(source.requirements)
        ended = steps.uv(sources.resolve_command(source, steps.variant, network))
        if ended.code:
            tried.append(f"{source.origin}: {explain(ended.lines)}")
            continue
        if wrong := sources.wrong_torch((steps.directory / "packages.txt").read_text(), steps.variant):
            tried.append(f"{source.origin}: comes with {wrong}, which is not built for {steps.variant}")
            continue
        return source
    raise SelfhostError(
        f"no installable vLLM {version} ({steps.variant}) was found{steps.by_proxy()}:\n"
        + "\n".join(f"  {line}" for line in tried),
        hint="check the network; a mirror or a proxy is set as for pip (PIP_INDEX_URL, HTTPS_PROXY) or uv",
    )


def take(steps: Steps, version: str, packages: Path, network: Network) -> Source:
    """Create the virtual environment for the list `packages`, which an earlier build recorded; tell its source.

    Raises `SelfhostError` when it cannot be read, or lists another vLLM.
    """
    steps.start("resolving", f"as listed in {packages}")
    try:
        text = regular_file.read(packages, limit=LARGEST_BYTES).decode()
    except (OSError, ValueError) as error:
        raise SelfhostError(f"cannot read {packages}: {error}", hint="name the packages.txt of a build") from error
    if foreign := sources.foreign_line(text):
        raise SelfhostError(
            f"{packages} is no list of packages with their hashes: {foreign}", hint="name the packages.txt of a build"
        )
    everywhere = Network(vllm_index=True, wheelhouse=network.wheelhouse)
    for source in sources.sources(version, steps.variant, everywhere):
        if f"\n{source.requirement} " in f"\n{text}":
            create_venv(steps)
            (steps.directory / "packages.txt").write_text(text)
            (steps.directory / "requirements.txt").write_text(source.requirements)
            return source
    raise SelfhostError(
        f"{packages} does not list vLLM {version} ({steps.variant})",
        hint="name what it lists with --vllm and --variant",
    )


def create_venv(steps: Steps) -> None:
    """Create the virtual environment, on the Python that selfhost runs on."""
    steps.must_uv(sources.venv_command(Path(sys.executable)), "uv cannot create a virtual environment")
