"""The steps of a build: each told as it begins, each with what uv downloads and writes meanwhile."""

import errno
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import uv

from selfhost.engines import child, environment, network, pip_config, prerequisites, proof
from selfhost.engines.pip_config import Told
from selfhost.errors import SelfhostError
from selfhost.planner.plan import Variant
from selfhost.progress import Progress, Report

PRUNE_SECONDS = 10
FULL = (errno.ENOSPC, errno.EDQUOT)


class Steps:
    """The steps of one build: where they run, and how far they are.

    `held` is the descriptor of the build's lock, which children keep open.
    """

    def __init__(
        self, directory: Path, variant: Variant, environ: Mapping[str, str], report: Report, *, held: int | None = None
    ) -> None:
        self.directory = directory
        self.variant = variant
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
        for number in FULL:
            if ended.code and any(f"(os error {number})" in line for line in ended.lines):
                raise OSError(number, os.strerror(number))
        return ended

    def must_uv(self, command: Sequence[str], failure: str) -> None:
        """Run uv; raises `SelfhostError` with `failure` and uv's reason when it fails."""
        ended = self.uv(command)
        if ended.code:
            raise SelfhostError(
                f"{failure}: {explain(ended.lines)}{self.by_proxy()}", hint="correct that and run the command again"
            )

    def by_proxy(self) -> str:
        """` (through the proxy http://...)` where the network is reached through one: it may be what refuses."""
        proxy = network.proxy_in_use(self.environ)
        return f" (through the proxy {proxy})" if proxy else ""

    def runs(self, code: str) -> bool:
        """Whether the environment's Python runs `code`."""
        python, environ = environment.python_in(self.directory), proof.environ(self.variant)
        return child.run([python, "-c", code], cwd=self.directory, environ=environ, hold=self._held).code == 0

    def prove(self) -> None:
        """Import vLLM and write arguments.json."""
        python, output = environment.python_in(self.directory), self.directory / "arguments.json"
        proof.prove(python, self.variant, output, hold=self._held)

    def rooms(self) -> tuple[prerequisites.Room, ...]:
        """The disks that this build writes to."""
        return prerequisites.rooms(self.directory, Path(self.environ["UV_CACHE_DIR"]), self.variant)

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
        total = None if done_bytes is None else max(done_bytes, prerequisites.DISK_BYTES[self.variant])
        self._report(Progress(phase=self._phase, message=message, done_bytes=done_bytes, total_bytes=total))


def environ_for_uv() -> tuple[dict[str, str], Told]:
    """Our environment for uv with what pip was told, without the virtual environment that selfhost may run in."""
    told = pip_config.to_uv(pip_config.read_settings(os.environ), os.environ)
    kept = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "CONDA_PREFIX"}}
    unwrapped = {"COLUMNS": "1000"}  # uv breaks its errors into lines of that width, and we read them line by line
    return {"UV_CACHE_DIR": str(environment.download_cache()), **kept, **unwrapped, **told.variables}, told


def explain(lines: Sequence[str]) -> str:
    """Uv's error and its innermost cause; of a failed resolution the first cause, which names the package."""
    errors = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
    causes = [line.strip().removeprefix("cause: ") for line in lines if line.strip().startswith("cause: ")]
    if not errors:
        return lines[-1] if lines else "it said nothing"
    cause = causes[0 if "No solution" in errors[0] else -1] if causes else ""
    return f"{errors[0]} ({cause})" if cause else errors[0]
