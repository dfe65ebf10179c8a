from dataclasses import replace
from pathlib import Path

import pytest

from selfhost.engines import prerequisites
from selfhost.engines.prerequisites import Machine, Room
from selfhost.errors import BlockedError, ExitCode
from selfhost.units import GIB

GOOD = Machine(
    system="Linux",
    architecture="x86_64",
    python=(3, 11),
    glibc=(2, 36),
    avx2=True,
    libnuma=True,
    compiler=True,
    python_headers=True,
)
ROOMS = (Room(path=Path("/data/engines"), free_bytes=10 * GIB, needed_bytes=2 * GIB),)


def test_a_good_machine_lacks_nothing() -> None:
    prerequisites.require(GOOD, ROOMS, "0.32.0", needs_compiler=True)


def test_everything_that_is_missing_is_named_at_once() -> None:
    machine = replace(GOOD, libnuma=False, compiler=False, python_headers=False)
    rooms = (replace(ROOMS[0], free_bytes=GIB),)
    with pytest.raises(BlockedError) as caught:
        prerequisites.require(machine, rooms, "0.32.0", needs_compiler=True)
    assert caught.value.exit_code is ExitCode.BLOCKED
    assert caught.value.message == (
        "vLLM 0.32.0 for CPU cannot be installed here:\n"
        "  libnuma.so.1 is missing, which its kernels link\n"
        "  g++ is missing, which compiles kernels when a model starts"
        " (not with enforce_eager for every model, and --no-compiler)\n"
        "  Python.h is missing, which compiled kernels include"
        " (not with enforce_eager for every model, and --no-compiler)\n"
        "  the disk of /data/engines has 1 GiB free, and 2 GiB are needed"
    )
    assert caught.value.hint == (
        "sudo apt-get install libnuma1 g++ python3-dev;"
        " free some space, or set SELFHOST_HOME (and UV_CACHE_DIR) to a directory on a larger disk"
    )


@pytest.mark.parametrize(
    ("machine", "sentence"),
    [
        (replace(GOOD, architecture="aarch64", avx2=None), None),
        (replace(GOOD, python=(3, 14)), None),
        (
            replace(GOOD, architecture="riscv64", avx2=None),
            "there is no wheel for Linux on riscv64, only for Linux on x86_64 and aarch64",
        ),
        (
            replace(GOOD, system="Darwin", architecture="arm64", glibc=None, avx2=None),
            "there is no wheel for Darwin on arm64, only for Linux on x86_64 and aarch64",
        ),
        (replace(GOOD, glibc=(2, 28)), "its wheels need glibc 2.31 or newer, and this is glibc 2.28"),
        (replace(GOOD, glibc=None), "its wheels need glibc 2.31 or newer, and this is another C library"),
        (replace(GOOD, avx2=False), "its kernels need a CPU with AVX2, and this one has none"),
        (replace(GOOD, python=(3, 15)), "its wheels need Python 3.11 to 3.14, and selfhost runs on 3.15"),
        (replace(GOOD, libnuma=False), "libnuma.so.1 is missing, which its kernels link"),
    ],
)
def test_problems(machine: Machine, sentence: str | None) -> None:
    found = [problem.sentence for problem in prerequisites.find_problems(machine, ROOMS, needs_compiler=True)]
    assert found == ([sentence] if sentence else [])


def test_without_compilation_no_compiler_is_asked_for() -> None:
    machine = replace(GOOD, compiler=False, python_headers=False)
    assert list(prerequisites.find_problems(machine, ROOMS, needs_compiler=False)) == []


def test_this_machine_is_looked_at_without_guessing() -> None:
    machine = prerequisites.look({"PATH": "/nowhere"})
    assert machine.system in {"Linux", "Darwin"}
    assert machine.compiler is False


def test_one_disk_is_counted_once_and_two_are_counted_each(tmp_path: Path) -> None:
    together = prerequisites.rooms(tmp_path / "home/engines/vllm", tmp_path / "cache/uv")
    assert [room.path for room in together] == [tmp_path / "home/engines/vllm"]
    apart = prerequisites.rooms(tmp_path / "home", Path("/proc/self"))
    assert [room.path for room in apart] == [Path("/proc/self"), tmp_path / "home"]
