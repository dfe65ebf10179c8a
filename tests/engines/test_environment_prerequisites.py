from dataclasses import replace
from pathlib import Path

import pytest

from selfhost.engines import prerequisites
from selfhost.engines.prerequisites import Machine, Room
from selfhost.errors import BlockedError, ExitCode
from selfhost.planner.plan import Variant
from selfhost.units import GIB

GOOD = Machine(
    system="Linux",
    architecture="x86_64",
    python=(3, 11),
    glibc=(2, 36),
    avx2=True,
    libnuma=True,
    c_compiler=True,
    cxx_compiler=True,
    python_headers=True,
)
ROOMS = (Room(path=Path("/data/engines"), free_bytes=10 * GIB, needed_bytes=2 * GIB),)


def test_a_good_machine_lacks_nothing() -> None:
    prerequisites.require(GOOD, ROOMS, "0.32.0", Variant.CPU, needs_compiler=True)


def test_everything_that_is_missing_is_named_at_once() -> None:
    machine = replace(GOOD, libnuma=False, cxx_compiler=False, python_headers=False)
    rooms = (replace(ROOMS[0], free_bytes=GIB),)
    with pytest.raises(BlockedError) as caught:
        prerequisites.require(machine, rooms, "0.32.0", Variant.CPU, needs_compiler=True)
    assert caught.value.exit_code is ExitCode.BLOCKED
    assert caught.value.message == (
        "vLLM 0.32.0 (cpu) cannot be installed here:\n"
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
    found = [
        problem.sentence for problem in prerequisites.find_problems(machine, ROOMS, Variant.CPU, needs_compiler=True)
    ]
    assert found == ([sentence] if sentence else [])


def test_without_compilation_no_compiler_is_asked_for() -> None:
    machine = replace(GOOD, cxx_compiler=False, python_headers=False)
    assert list(prerequisites.find_problems(machine, ROOMS, Variant.CPU, needs_compiler=False)) == []


def test_this_machine_is_looked_at_without_guessing() -> None:
    machine = prerequisites.look({"PATH": "/nowhere"})
    assert machine.system in {"Linux", "Darwin"}
    assert (machine.c_compiler, machine.cxx_compiler) == (False, False)


def test_one_disk_is_counted_once_and_two_are_counted_each(tmp_path: Path) -> None:
    together = prerequisites.rooms(tmp_path / "home/engines/vllm", tmp_path / "cache/uv", Variant.CPU)
    assert [room.path for room in together] == [tmp_path / "home/engines/vllm"]
    apart = prerequisites.rooms(tmp_path / "home", Path("/proc/self"), Variant.CPU)
    assert [room.path for room in apart] == [Path("/proc/self"), tmp_path / "home"]
    assert [room.needed_bytes for room in apart] == [prerequisites.DISK_BYTES[Variant.CPU]] * 2


@pytest.mark.parametrize("variant", [Variant.CU129, Variant.CU130])
def test_a_build_for_cuda_is_told_what_it_lacks_and_not_what_cpus_need(variant: Variant) -> None:
    bare = replace(
        GOOD, architecture="aarch64", glibc=(2, 31), avx2=None, libnuma=False,
        c_compiler=False, cxx_compiler=False, python_headers=False,
    )  # fmt: skip
    with pytest.raises(BlockedError) as caught:
        prerequisites.require(bare, ROOMS, "0.32.0", variant, needs_compiler=False)
    assert caught.value.message == (
        f"vLLM 0.32.0 ({variant}) cannot be installed here:\n"
        "  its wheels need glibc 2.34 or newer, and this is glibc 2.31\n"
        "  gcc is missing, with which Triton compiles its kernels' launchers\n"
        "  Python.h is missing, which Triton's launchers include"
    )
    assert caught.value.hint == (
        "sudo apt-get install gcc python3-dev;"
        " run it on another machine, or set engine.python to an environment with a vLLM of your own"
    )
    x86 = replace(GOOD, glibc=(2, 31), avx2=False, libnuma=False, cxx_compiler=False)
    prerequisites.require(x86, ROOMS, "0.32.0", variant, needs_compiler=True)
