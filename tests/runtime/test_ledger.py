"""The machine ledger on disk: whose claims count, what is not believed, and two who add to it at once."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

from selfhost import paths, state
from selfhost.catalog.model import CheckpointKind, CheckpointRef
from selfhost.errors import BlockedError, SelfhostError
from selfhost.planner.plan import (
    Basis,
    Deployment,
    DeviceRoom,
    EngineBuild,
    Figure,
    GatewayPlan,
    KvCache,
    Memory,
    Plan,
    Platform,
    Replica,
)
from selfhost.runtime import ledger, process
from selfhost.runtime.ledger import OwnClaims, read_ledger
from selfhost.state import ProcessIdentity, RunRecord

CLAIM = {"replica": "chat/0", "device": "GPU-0", "bytes": 5, "held_bytes": 0, "state": "loading"}


def write(name: str, manager: ProcessIdentity, **changes: object) -> Path:
    folder = paths.make_private(paths.runtime_dir(name))
    identity = {"pid": manager.pid, "start_ticks": manager.start_ticks, "boot_id": manager.boot_id}
    document = {"format_version": 1, "manager": identity, "claims": [CLAIM], **changes}
    (folder / "claims.json").write_text(json.dumps(document))
    return folder / "claims.json"


@pytest.fixture
def us() -> ProcessIdentity:
    found = process.identify(os.getpid())
    assert found
    return found


@pytest.fixture
def sleeper():
    child = subprocess.Popen(["sleep", "60"], start_new_session=True)
    yield child
    child.kill()
    child.wait()


def test_without_a_runtime_directory_nobody_claims_anything() -> None:
    assert not paths.runtime_root().exists()
    assert read_ledger() == ledger.Ledger()


def test_the_claims_of_a_living_manager_count(us) -> None:
    write("left", us)
    write("right", us)
    read = read_ledger()
    assert [each.manifest for each in read.others("left")] == ["right"]
    assert read.of("left").promised_bytes("GPU-0") == 5
    assert read.of("nobody").claims == ()


def test_after_a_kill_the_claims_of_engines_that_still_run_count(sleeper) -> None:
    manager = process.identify(sleeper.pid)
    assert manager
    engine = subprocess.Popen(["sleep", "60"], start_new_session=True)
    other = {**CLAIM, "replica": "gone/0"}
    write("left", manager, claims=[CLAIM, other])
    identity = process.identify(engine.pid)
    assert identity
    state.write_record("left", RunRecord(name="chat/0", process=identity, started=0.0, log=""))
    assert [claim.replica for claim in read_ledger().of("left").claims] == ["chat/0", "gone/0"]
    sleeper.send_signal(signal.SIGKILL)
    sleeper.wait()
    assert [claim.replica for claim in read_ledger().of("left").claims] == ["chat/0"]
    engine.kill()
    engine.wait()
    assert read_ledger().manifests == ()


def test_what_may_still_run_counts_when_its_record_is_damaged(us) -> None:
    write("left", ProcessIdentity(pid=us.pid, start_ticks=us.start_ticks + 1, boot_id=us.boot_id))
    assert read_ledger().manifests == ()
    record = paths.state_dir("left") / "running/chat-0.json"
    record.parent.mkdir(parents=True)
    record.write_text("{")
    assert read_ledger().of("left").promised_bytes("GPU-0") == 5


@pytest.mark.parametrize(
    "spoil, words",
    [
        (lambda path: path.write_text("{"), "it is damaged"),
        (lambda path: path.write_text("[]"), "it is damaged"),
        (lambda path: path.write_text("[" * 100_000), "it is damaged"),
        (lambda path: path.write_text(path.read_text().replace('bytes":', 'bytes":-')), "it is damaged"),
        (lambda path: path.write_text('{"format_version": 1}'), "it is damaged"),
        (lambda path: path.write_text('{"format_version": 2}'), "it has format 2, and this selfhost knows 1"),
        (lambda path: path.write_bytes(b" " * (1 << 21)), "larger than"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "it is a named pipe, not a file"),
        (lambda path: (path.unlink(), path.mkdir()), "it is a directory, not a file"),
    ],
)
def test_claims_that_cannot_be_read_are_told_and_hide_no_others(us, spoil, words: str) -> None:
    write("right", us)
    path = write("left", us)
    spoil(path)
    read = read_ledger()
    assert [each.manifest for each in read.manifests] == ["right"]
    (problem,) = read.problems
    assert problem.startswith("cannot tell what manifest 'left' claims of this machine")
    assert words in problem
    assert str(path) in problem


def test_claims_count_where_the_kernel_does_not_tell_who_lives(us, monkeypatch: pytest.MonkeyPatch) -> None:
    write("left", us)

    def hidden() -> str:
        raise SelfhostError("the kernel does not tell when it booted")

    monkeypatch.setattr(process, "boot_id", hidden)
    assert [each.manifest for each in read_ledger().manifests] == ["left"]


def test_what_others_could_have_written_is_not_read(us, tmp_path: Path) -> None:
    write("left", us)
    (paths.runtime_root() / "away").symlink_to(tmp_path)
    (tmp_path / "claims.json").write_text("{")
    paths.runtime_root().chmod(0o777)
    assert read_ledger() == ledger.Ledger()
    paths.runtime_root().chmod(0o700)
    assert [each.manifest for each in read_ledger().manifests] == ["left"]
    assert read_ledger().problems == ()


async def test_only_one_at_a_time_adds_to_it(monkeypatch: pytest.MonkeyPatch, us) -> None:
    monkeypatch.setattr(ledger, "LOCK_SECONDS", 0.1)
    paths.make_private(paths.runtime_dir("left"))
    somebody = os.open(paths.runtime_root(), os.O_RDONLY)
    fcntl.flock(somebody, fcntl.LOCK_EX)
    claims = OwnClaims("left")
    with pytest.raises(SelfhostError, match=r"another process keeps .* locked"):
        await claims.accept(wanting("left", 5), (), ())
    os.close(somebody)
    await claims.accept(wanting("left", 5), (), ())
    path = paths.runtime_dir("left") / "claims.json"
    assert json.loads(path.read_text())["manager"]["pid"] == us.pid
    claims.withdraw()
    assert not path.exists()


async def test_claims_that_cannot_be_written_are_a_refusal() -> None:
    paths.make_private(paths.runtime_dir("left"))
    (paths.runtime_dir("left") / "claims.json").mkdir()
    with pytest.raises(SelfhostError, match=r"cannot write .*claims\.json"):
        await OwnClaims("left").accept(wanting("left", 5), (), ())


async def test_of_two_managers_that_accept_at_once_one_is_refused() -> None:
    claims = {}
    for name in ("left", "right"):
        paths.make_private(paths.runtime_dir(name))
        claims[name] = OwnClaims(name)
    results = await asyncio.gather(
        *(own.accept(wanting(name, 60), (), ()) for name, own in claims.items()), return_exceptions=True
    )
    assert sorted(type(result) for result in results if result) == [BlockedError]
    (winner,) = read_ledger().manifests
    assert winner.promised_bytes("GPU-0") == 60
    claims[winner.manifest].withdraw()
    (loser,) = set(claims) - {winner.manifest}
    await claims[loser].accept(wanting(loser, 60), (), ())
    await claims[winner.manifest].accept(wanting(winner.manifest, 40), (), ())
    assert sum(each.promised_bytes("GPU-0") for each in read_ledger().manifests) == 100


def wanting(name: str, budget: int) -> Plan:
    """A plan that takes so many of the 100 bytes of a GPU."""
    figure = Figure(bytes=budget, basis=Basis.DERIVED, note="")
    replica = Replica(
        name="chat/0",
        gpu_uuids=("GPU-0",),
        gpu_labels=("0",),
        gpu_memory_utilization=0.5,
        memory=Memory(
            total=figure, budget=figure, weights=figure, reserve=figure, kv_cache=figure, kv_cache_needed=figure
        ),
        kv_cache=KvCache(block_size=16, bytes_per_block=1, num_blocks=1, tokens=16, max_concurrency=1.0),
    )
    deployment = Deployment(
        name="chat",
        aliases=(),
        checkpoint=CheckpointRef(kind=CheckpointKind.BUILT_IN, location="demo-a", revision=None, total_bytes=1),
        max_model_len=1024,
        concurrency=1,
        tensor_parallel_size=1,
        gpu_memory_utilization=0.5,
        engine_args={},
        replicas=(replica,),
        causes=(),
    )
    return Plan(
        name=name,
        machine="a box",
        engine=EngineBuild(vllm_version="0.32.0", platform=Platform.CUDA),
        gateway=GatewayPlan(host="127.0.0.1", port=8000, keys=()),
        deployments=(deployment,),
        room=(DeviceRoom(device="GPU-0", label="GPU 0", bytes=100),),
    )
