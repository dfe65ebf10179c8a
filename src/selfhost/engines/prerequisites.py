"""What a machine must have before an engine environment is worth downloading, checked all at once."""

import ctypes
import os
import platform
import re
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from selfhost.errors import BlockedError
from selfhost.planner.plan import Variant
from selfhost.units import GIB, format_bytes

ARCHITECTURES = ("x86_64", "aarch64")  # all builds of vLLM 0.32.0 have wheels for these
PYTHONS = ((3, 11), (3, 14))  # vLLM 0.32.0: Requires-Python <3.15,>=3.11
GLIBC = (2, 31)  # llguidance 1.7's wheels; those of vLLM and torch need 2.28
GLIBC_CUDA_AARCH64 = (2, 34)  # tilelang 0.1.12's wheel (resolved for 2.31 and 2.34 with uv's --python-platform)

# What an installation takes, with what Python compiles on the first imports. Measured on x86_64: 2.1 GiB for CPUs and
# 8.1 GiB for CUDA 13 (3.7 GiB of downloads). CUDA 12.9 could not be measured; NVIDIA's libraries are the bulk of both.
DISK_BYTES = {Variant.CPU: int(2.3 * GIB), Variant.CU129: int(8.5 * GIB), Variant.CU130: int(8.5 * GIB)}

ELSEWHERE = "run it on another machine, or set engine.python to an environment with a vLLM of your own"


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """The facts that decide whether an engine will run; None is unknown and never held against a machine."""

    system: str
    architecture: str
    python: tuple[int, int]
    glibc: tuple[int, int] | None  # None: another C library
    avx2: bool | None
    libnuma: bool
    c_compiler: bool  # gcc or clang
    cxx_compiler: bool  # g++
    python_headers: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What one filesystem must hold."""

    path: Path  # what will be written
    free_bytes: int
    needed_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One thing that is missing, and what to do about it."""

    sentence: str
    package: str | None = None  # of Debian and Ubuntu
    advice: str | None = None


def require(machine: Machine, rooms: Sequence[Room], version: str, variant: Variant, *, needs_compiler: bool) -> None:
    """Raise `BlockedError` with everything that is missing, unless nothing is."""
    problems = list(find_problems(machine, rooms, variant, needs_compiler=needs_compiler))
    if not problems:
        return
    packages = [problem.package for problem in problems if problem.package]
    steps = [f"sudo apt-get install {' '.join(packages)}"] if packages else []
    raise BlockedError(
        f"vLLM {version} ({variant}) cannot be installed here:\n"
        + "\n".join(f"  {problem.sentence}" for problem in problems),
        hint="; ".join(steps + [problem.advice for problem in problems if problem.advice]),
    )


def find_problems(
    machine: Machine, rooms: Sequence[Room], variant: Variant, *, needs_compiler: bool
) -> Iterator[Problem]:
    """Everything that is missing."""
    on_cuda = variant != Variant.CPU
    glibc = GLIBC_CUDA_AARCH64 if on_cuda and machine.architecture == "aarch64" else GLIBC
    if machine.system != "Linux" or machine.architecture not in ARCHITECTURES:
        yield Problem(
            sentence=f"there is no wheel for {machine.system} on {machine.architecture},"
            f" only for Linux on {' and '.join(ARCHITECTURES)}",
            advice=ELSEWHERE,
        )
    elif machine.glibc is None or machine.glibc < glibc:
        has = f"glibc {_dotted(machine.glibc)}" if machine.glibc else "another C library"
        yield Problem(sentence=f"its wheels need glibc {_dotted(glibc)} or newer, and this is {has}", advice=ELSEWHERE)
    if not PYTHONS[0] <= machine.python <= PYTHONS[1]:
        yield Problem(
            sentence=f"its wheels need Python {_dotted(PYTHONS[0])} to {_dotted(PYTHONS[1])},"
            f" and selfhost runs on {_dotted(machine.python)}",
            advice=f"install selfhost with Python {_dotted(PYTHONS[1])}",
        )
    yield from _missing_for_cuda(machine) if on_cuda else _missing_for_cpu(machine, needs_compiler=needs_compiler)
    for room in rooms:
        if room.free_bytes < room.needed_bytes:
            yield Problem(
                sentence=f"the disk of {room.path} has {format_bytes(room.free_bytes)} free,"
                f" and {format_bytes(room.needed_bytes)} are needed",
                advice="free some space, or set SELFHOST_HOME (and UV_CACHE_DIR) to a directory on a larger disk",
            )


def _missing_for_cpu(machine: Machine, *, needs_compiler: bool) -> Iterator[Problem]:
    eager = " (not with enforce_eager for every model, and --no-compiler)"
    if machine.architecture == "x86_64" and machine.avx2 is False:
        yield Problem(sentence="its kernels need a CPU with AVX2, and this one has none", advice=ELSEWHERE)
    if not machine.libnuma:
        yield Problem(sentence="libnuma.so.1 is missing, which its kernels link", package="libnuma1")
    if needs_compiler and not machine.cxx_compiler:
        yield Problem(sentence=f"g++ is missing, which compiles kernels when a model starts{eager}", package="g++")
    if needs_compiler and not machine.python_headers:
        yield Problem(sentence=f"Python.h is missing, which compiled kernels include{eager}", package="python3-dev")


def _missing_for_cuda(machine: Machine) -> Iterator[Problem]:
    """Triton compiles its own connection to the driver, whatever the model (triton/runtime/build.py)."""
    if not machine.c_compiler:
        yield Problem(sentence="gcc is missing, with which Triton compiles its kernels' launchers", package="gcc")
    if not machine.python_headers:
        yield Problem(sentence="Python.h is missing, which Triton's launchers include", package="python3-dev")


def look(environ: Mapping[str, str]) -> Machine:
    """The facts of this machine."""
    return Machine(
        system=platform.system(),
        architecture=platform.machine(),
        python=(sys.version_info.major, sys.version_info.minor),
        glibc=_glibc(),
        avx2=_avx2(),
        libnuma=_loads("libnuma.so.1"),
        c_compiler=any(_found(name, environ) for name in ([environ["CC"]] if "CC" in environ else ["gcc", "clang"])),
        cxx_compiler=_found(environ.get("CXX", "g++"), environ),  # as torch looks for it
        python_headers=Path(sysconfig.get_path("include"), "Python.h").exists(),
    )


def rooms(environment: Path, cache: Path, variant: Variant) -> tuple[Room, ...]:
    """What the disks of the environment and of uv's cache must hold: once if uv can link, else each a whole copy."""
    places = {_existing(path).stat().st_dev: path for path in (cache, environment)}
    return tuple(
        Room(path=path, free_bytes=shutil.disk_usage(_existing(path)).free, needed_bytes=DISK_BYTES[variant])
        for path in places.values()
    )


def _found(program: str, environ: Mapping[str, str]) -> bool:
    return shutil.which(program, path=environ.get("PATH")) is not None


def _existing(path: Path) -> Path:
    return next(parent for parent in (path, *path.parents) if os.access(parent, os.F_OK))


def _glibc() -> tuple[int, int] | None:
    try:
        match = re.fullmatch(r"glibc (\d+)\.(\d+)", os.confstr("CS_GNU_LIBC_VERSION") or "")
    except (ValueError, OSError):
        return None
    return (int(match[1]), int(match[2])) if match else None


def _avx2() -> bool | None:
    try:
        flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return None
    return "avx2" in flags[1].split() if flags else None


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
