"""Every check as a function of facts: what is said about which box."""

from dataclasses import fields, replace

import pytest

from selfhost.catalog.model import CheckpointKind, CheckpointRef
from selfhost.doctor.facts import (
    CrashedRun,
    CudaAnswer,
    Facts,
    HubAnswer,
    InstalledEngine,
    Leftovers,
    Listener,
    NotLooked,
    Planned,
    PortAnswer,
    PrivateFile,
    Problem,
    Rest,
)
from selfhost.doctor.finding import Severity
from selfhost.doctor.gate import require_no_blocker
from selfhost.doctor.registry import CHECKS, examine, worst_first
from selfhost.errors import BlockedError
from selfhost.hardware.inventory import (
    Disk,
    Gpu,
    GpuLink,
    GpuProcess,
    Host,
    Inventory,
    KernelLimits,
    MigDevice,
    PciPath,
    Storage,
    UnusableGpu,
)
from selfhost.manifest.schema import Manifest
from selfhost.planner.plan import Deployment, EngineBuild, GatewayPlan, Plan, Platform
from selfhost.units import GIB, KIB, MIB

HOST = Host(
    architecture="x86_64",
    cpu_count=16,
    memory_total_bytes=64 * GIB,
    memory_available_bytes=60 * GIB,
    shm_total_bytes=8 * GIB,
    shm_free_bytes=8 * GIB,
    init="systemd",
    limits=KernelLimits(open_files=1 << 20, processes=1 << 16),
)
IN_DOCKER = replace(HOST, container="docker", init="bash")
GPU = Gpu(
    index=0,
    uuid="GPU-0",
    name="NVIDIA L4",
    memory_total_bytes=24 * GIB,
    memory_free_bytes=int(23.5 * GIB),
    compute_capability=(8, 9),
    pci_bus_id="0000:01:00.0",
)
SECOND = replace(GPU, index=1, uuid="GPU-1", pci_bus_id="0000:21:00.0")
LINK = GpuLink(first="GPU-0", second="GPU-1", pci_path=PciPath.HOST_BRIDGE, nvlink_count=0, peer_access=False)
A_SLICE = MigDevice(**dict.fromkeys((field.name for field in fields(MigDevice)), 0))  # that it is one is what matters
SLICE = replace(GPU, uuid="MIG-0", mig=A_SLICE)
LISTENER = Listener(host="0.0.0.0", port=8265, pid=17, program="ray", ours=False, private=False)
DISK = Disk(purpose="weights", path="/data/hub", total_bytes=100 * GIB, free_bytes=50 * GIB)
PORT = PortAnswer(address="127.0.0.1:8000", error=None)
HUB = HubAnswer(endpoint="https://hub", offline=False, repositories={"acme/tiny@main": None}, clock_ahead_seconds=1.5)
GATED = Problem(message="acme/tiny is gated", hint="accept its licence")


def box(*gpus: Gpu, host: Host = HOST, links: tuple[GpuLink, ...] = (), disks: tuple[Disk, ...] = (), **more) -> Facts:
    return Facts(inventory=Inventory(host=host, gpus=gpus, links=links, disks=disks), **more)


def host(**changes) -> Facts:
    return box(host=replace(HOST, **changes))


def gpu(**changes) -> Facts:
    return box(replace(GPU, **changes))


def disk(**changes) -> Facts:
    return box(disks=(replace(DISK, **changes),))


def broken(*sources: str) -> Facts:
    models = [{"name": f"m{number}", "source": source} for number, source in enumerate(sources)]
    manifest = Manifest.model_validate({"version": 1, "models": tuple(models)}) if sources else None
    inventory = Inventory(host=HOST, problem="the NVIDIA driver is not loaded", hint="sudo modprobe nvidia")
    return Facts(inventory=inventory, manifest=manifest)


def visible(value: str, *gpus: Gpu, hidden: int = 0, ignored: str | None = None) -> Facts:
    inventory = Inventory(host=HOST, gpus=gpus, hidden_gpu_count=hidden, ignored_visible_device=ignored)
    return Facts(inventory=inventory, environ={"CUDA_VISIBLE_DEVICES": value})


def cuda(*gpus: Gpu, **answer) -> Facts:
    return box(*gpus, cuda=CudaAnswer(**{"code": 0, **answer}))


TABLE = [
    # check, facts, severity, words of the sentence, words of the fix
    ("gpu-driver", box(GPU), "ok", "1 GPU, driver unknown", None),
    ("driver-build", box(GPU), "ok", "vLLM 0.32.0 (cu130) runs here", None),
    ("driver-build", gpu(compute_capability=(7, 0)), "blocking", "has no kernels for GPU 0", "compute capability 7.5"),
    ("gpu-driver", box(GPU, SLICE, SLICE), "ok", "1 GPU and 2 MIG devices", None),
    ("gpu-driver", box(), "ok", "no GPU: models run on the CPU", None),
    ("gpu-driver", broken(), "blocking", "the NVIDIA driver is not loaded", "sudo modprobe nvidia"),
    ("gpu-driver", broken("auto", "demo-a"), "blocking", "the NVIDIA driver is not loaded", "sudo modprobe nvidia"),
    ("gpu-driver", broken("demo-a"), "warning", "the NVIDIA driver is not loaded", "sudo modprobe nvidia"),
    ("gpu-unusable", box(GPU), "ok", "every GPU", None),
    (
        "gpu-unusable",
        Facts(
            inventory=Inventory(
                host=HOST,
                gpus=(GPU,),
                unusable_gpus=(
                    UnusableGpu(index=1, uuid=None, name=None, pci_bus_id=None, cause="GPU 1 is lost", hint="reboot"),
                ),
            )
        ),
        "warning",
        "left out: GPU 1 is lost",
        "reboot",
    ),
    ("gpu-visibility", box(GPU), "ok", "is not set", None),
    ("gpu-visibility", visible("0", GPU), "ok", "hides none", None),
    ("gpu-visibility", visible("0", GPU, hidden=7), "info", "hides 7 of 8 GPUs", None),
    (
        "gpu-visibility",
        visible("0,GPU-1", GPU, hidden=1, ignored="GPU-1"),
        "warning",
        'shows 1 of 2 GPUs: "GPU-1" names none',
        "nvidia-smi -L",
    ),
    ("gpu-visibility", visible("1,0", SECOND, replace(GPU, name="H100")), "info", "differ", "PCI_BUS_ID"),
    ("cuda-init", cuda(GPU, device_count=1), "ok", "CUDA starts, with 1 device", None),
    ("gpu-mig", box(SLICE), "ok", "can start on 1 MIG device", None),
    ("gpu-mig", box(replace(SLICE, mig=replace(A_SLICE, index=1))), "warning", "on MIG device 0:1", None),
    (
        "gpu-mig",
        box(SLICE, replace(SLICE, uuid="MIG-1", mig=replace(A_SLICE, index=1))),
        "warning",
        "on MIG device 0:1",
        "export CUDA_VISIBLE_DEVICES=MIG-0",
    ),
    ("gpu-mig", box(GPU, SECOND, replace(SLICE, mig=replace(A_SLICE, index=1))), "ok", "can start", None),
    ("cuda-init", cuda(SLICE, SLICE, device_count=1), "ok", "CUDA starts, with 1 device", None),
    ("cuda-init", cuda(GPU, SECOND, device_count=1), "warning", "1 of the 2 GPUs", "/dev/nvidia*"),
    ("cuda-init", cuda(GPU, device_count=0), "blocking", "0 of the 1 GPUs", "/dev/nvidia*"),
    ("cuda-init", cuda(GPU, code=None, error="no such file"), "blocking", "no such file", "NVIDIA_DRIVER_CAPABILITIES"),
    ("cuda-init", cuda(GPU, code=100), "blocking", "no device (CUDA error 100: CUDA_ERROR_NO_DEVICE)", "nvidia-smi -L"),
    ("cuda-init", cuda(GPU, code=802), "blocking", "CUDA error 802", "nvidia-fabricmanager"),
    ("cuda-init", cuda(GPU, code=803), "blocking", "differ in version (CUDA error 803: ", "reboot"),
    ("cuda-init", cuda(GPU, code=804), "blocking", "CUDA error 804", "cuda-compat"),
    ("cuda-init", cuda(GPU, code=999), "blocking", "CUDA error 999", "nvidia_uvm"),
    ("cuda-init", cuda(GPU, code=2), "warning", "CUDA error 2: CUDA_ERROR_OUT_OF_MEMORY", "nvidia-smi"),
    ("cuda-init", cuda(GPU, code=46), "blocking", "CUDA_ERROR_DEVICE_UNAVAILABLE", "sudo nvidia-smi -c DEFAULT"),
    ("cuda-init", cuda(GPU, code=101), "blocking", "CUDA_ERROR_INVALID_DEVICE", "ls -l /dev/nvidia*"),
    ("cuda-init", cuda(GPU, code=719), "blocking", "CUDA error 719", "dmesg"),
    ("cuda-init", cuda(GPU, code=None, seconds=2.3), "warning", "still starting after 2.3 s", "nvidia-smi -pm 1"),
    (
        "cuda-init",
        box(GPU, cuda=NotLooked(cause="no process")),
        "info",
        "CUDA could not be looked at: no process",
        None,
    ),
    ("gpu-memory-errors", gpu(ecc_enabled=True, ecc_uncorrected_errors=0), "ok", "no uncorrected", None),
    ("gpu-memory-errors", gpu(ecc_enabled=True, ecc_uncorrected_errors=3), "warning", "GPU 0 has 3 unc", "--gpu-reset"),
    ("gpu-memory-errors", gpu(row_remap_pending=True), "warning", "at its next reset", "--gpu-reset -i 0"),
    ("gpu-memory-errors", gpu(row_remap_pending=False, row_remap_failed=True), "warning", "have it replaced", None),
    ("gpu-xid", gpu(xids=(13, 79, 79)), "warning", "has Xid 79 × 2 (fell off the bus)", "dmesg"),
    ("gpu-xid", gpu(xids=(62,)), "info", "GPU 0: the kernel's log has Xid 62", None),
    ("gpu-xid", gpu(xids=(31, 13, 31)), "info", "Xid 13 (error of a program), 31 × 2 (error of a program)", None),
    (
        "gpu-power",
        gpu(power_limit_watts=250, power_default_watts=450),
        "info",
        "250 W of 450 W",
        "sudo nvidia-smi -i 0 -pl 450",
    ),
    ("gpu-power", gpu(power_limit_watts=450, power_default_watts=450), "ok", "capped", None),
    ("gpu-peer-access", box(GPU, SECOND, links=(LINK,)), "info", "the GPUs 0-1 have no peer access", "topo -p2p"),
    (
        "gpu-peer-access",
        box(GPU, SECOND, links=(replace(LINK, peer_access=True, nvlink_count=4),)),
        "ok",
        "both GPUs have peer access, 1 over NVLink",
        None,
    ),
    ("gpu-memory-held", gpu(), "ok", "nobody else", None),
    (
        "gpu-memory-held",
        gpu(memory_free_bytes=4 * GIB),
        "warning",
        "20 GiB of 24 GiB: processes that are not visible here",
        "-smi",
    ),
    (
        "gpu-memory-held",
        gpu(memory_free_bytes=4 * GIB, processes=(GpuProcess(pid=17, used_bytes=None, command="python3"),)),
        "warning",
        "others hold 20 GiB of 24 GiB: python3 (17) an unknown amount",
        "ps -o user,pid,etime,args -p 17",
    ),
    (
        "gpu-memory-held",
        gpu(memory_free_bytes=4 * GIB, processes=(GpuProcess(pid=17, used_bytes=2 * GIB, command=None),)),
        "warning",
        "others hold 20 GiB of 24 GiB: process 17 2 GiB, 18 GiB by processes that are not visible here",
        "nvidia-smi -i 0",
    ),
    ("shm-size", host(), "ok", "8 GiB of 8 GiB free", None),
    ("shm-size", host(shm_free_bytes=0), "blocking", "/dev/shm is full (0 B of 8 GiB free)", "selfhost down"),
    ("shm-size", host(shm_free_bytes=100 * MIB), "warning", "100 MiB of 8 GiB free", "ls -lS"),
    (
        "shm-size",
        box(host=replace(IN_DOCKER, shm_total_bytes=64 * MIB, shm_free_bytes=64 * MIB)),
        "warning",
        "/dev/shm has 64 MiB",
        "docker run --shm-size=8g",
    ),
    (
        "open-files",
        host(limits=KernelLimits(open_files=128)),
        "blocking",
        "may open 128 files",
        "'* - nofile 65536' | sudo",
    ),
    ("open-files", host(limits=KernelLimits(open_files=4096)), "warning", "about 2,048 requests", "nofile 65536"),
    ("open-files", host(), "ok", "1,048,576 files", None),
    ("processes", host(limits=KernelLimits(processes=100)), "blocking", "100 processes", "* - nproc 65536"),
    (
        "processes",
        box(host=replace(IN_DOCKER, limits=KernelLimits(processes=2048))),
        "warning",
        "2,048",
        "--pids-limit",
    ),
    (
        "locked-memory",
        box(GPU, SECOND, host=replace(HOST, limits=KernelLimits(locked_memory_bytes=8 * KIB))),
        "info",
        "may lock 8 KiB",
        "'* - memlock unlimited' | sudo tee -a /etc/security/limits.conf",
    ),
    ("host-memory", host(), "ok", "60 GiB of 64 GiB", None),
    ("host-memory", box(GPU, host=replace(HOST, memory_available_bytes=2 * GIB)), "warning", "signal 9", "ps -eo"),
    ("cpu-cores", box(GPU, SECOND, host=replace(IN_DOCKER, cpu_count=3)), "warning", "asks for 4", "--cpus=4"),
    ("cpu-cores", box(GPU, host=replace(HOST, cpu_count=1)), "warning", "1 core for 1 GPU", "nproc --all"),
    ("cpu-cores", host(cpu_count=1), "ok", "1 core", None),
    ("shm-size", box(host=replace(HOST, container="wsl", shm_total_bytes=64 * MIB)), "warning", "64 MiB", "remount"),
    ("init-process", box(host=IN_DOCKER), "info", "process 1 of this container is bash", "docker run --init"),
    ("init-process", box(host=replace(IN_DOCKER, init="tini")), "ok", "process 1 is tini", None),
    ("disk-room", disk(), "ok", "/data/hub has 50 GiB of 100 GiB free for weights", None),
    ("disk-room", disk(purpose="state", free_bytes=0), "blocking", "No space left on device", "SELFHOST_STATE="),
    ("disk-room", disk(purpose="runtime", free_bytes=0), "blocking", "No space left on", "SELFHOST_RUNTIME="),
    ("disk-room", disk(purpose="state", free_bytes=5 * MIB), "warning", "5 MiB of 100 GiB free", "SELFHOST_STATE="),
    ("disk-writable", disk(writable=False), "warning", "/data/hub for weights cannot be written", "export HF_HOME="),
    ("disk-writable", disk(writable=False, purpose="state"), "blocking", "for state cannot", "export SELFHOST_STATE="),
    ("disk-answers", disk(), "ok", "every disk answers", None),
    (
        "disk-answers",
        Facts(inventory=Inventory(host=HOST, silent_disks=("/mnt/gone/hub",))),
        "warning",
        "the disk of /mnt/gone/hub does not answer",
        "df -h /mnt/gone/hub",
    ),
    ("disk-writable", disk(writable=True), "ok", "can be written", None),
    ("disk-inodes", disk(purpose="engines", free_inodes=500), "warning", "500 more files", "df -i"),
    ("disk-storage", disk(storage=Storage.LOCAL, mount="/data"), "ok", "weights lie on /data (local)", None),
    ("disk-storage", disk(storage=Storage.EPHEMERAL, mount="/"), "warning", "gone with the container", "HF_HOME="),
    ("disk-storage", disk(storage=Storage.MEMORY, mount="/"), "warning", "gone with the next boot", "export HF_HOME="),
    ("disk-storage", disk(storage=Storage.MEMORY, purpose="runtime"), "ok", "runtime files lie", None),
    ("disk-storage", disk(storage=Storage.NETWORK), "info", "engines start slower", None),
    ("disk-storage", disk(storage=Storage.NETWORK, purpose="state"), "warning", "state lies on", "SELFHOST_STATE="),
    ("disk-storage", disk(storage=Storage.NETWORK, purpose="runtime"), "warning", "sockets and locks", "_RUNTIME="),
    ("gateway-port", box(port=PORT), "ok", "127.0.0.1:8000 is free", None),
    (
        "gateway-port",
        box(port=replace(PORT, error="Address already in use", ours=True)),
        "ok",
        "of this manifest",
        None,
    ),
    (
        "gateway-port",
        box(port=replace(PORT, error="Address already in use", holder=replace(LISTENER, program="nginx"))),
        "blocking",
        "cannot listen on 127.0.0.1:8000: Address already in use, by nginx (pid 17)",
        "ss -ltnp 'sport = :8000'",
    ),
    ("public-listeners", box(listeners=(LISTENER,)), "warning", "ray (pid 17) on 0.0.0.0:8265", "ss -ltnp"),
    ("public-listeners", box(listeners=(replace(LISTENER, private=True),)), "ok", "no other program", None),
    ("public-listeners", box(listeners=(replace(LISTENER, program="nginx"),)), "ok", "no other program", None),
    ("public-listeners", box(listeners=NotLooked(cause="not root")), "info", "could not be looked at: not root", None),
    ("hub-access", box(hub=HUB), "ok", "acme/tiny can be fetched", None),
    ("hub-access", box(hub=replace(HUB, repositories={})), "ok", "answers", None),
    (
        "hub-access",
        box(hub=replace(HUB, repositories={"acme/tiny@main": GATED})),
        "blocking",
        "is gated",
        "its licence",
    ),
    (
        "hub-access",
        box(hub=replace(HUB, repositories={"acme/tiny@main": replace(GATED, blocks=False)})),
        "warning",
        "is gated",
        "its licence",
    ),
    ("hub-access", box(hub=replace(HUB, unreachable="refused")), "warning", "cannot be reached: refused", "curl -I"),
    ("hub-access", box(hub=replace(HUB, unreachable="x", repositories={})), "info", "nothing is to be", "curl -I"),
    ("hub-access", box(hub=replace(HUB, offline=True)), "info", "HF_HUB_OFFLINE", "unset"),
    ("hub-access", box(hub=NotLooked(cause="the Hub did not answer")), "info", "Hub did not answer", None),
    ("clock", box(hub=HUB), "ok", "agrees", None),
    ("clock", box(hub=replace(HUB, clock_ahead_seconds=-900)), "warning", "15 min 0 s behind", "set-ntp"),
    ("clock", box(hub=replace(HUB, clock_ahead_seconds=None)), "info", "the Hub tells no time", None),
    (
        "secret-modes",
        box(private_files=(PrivateFile(path="/home/me/a b", holds="the Hub token", mode=0o644),)),
        "warning",
        "the Hub token in /home/me/a b can be read by other users (mode 0644)",
        "chmod 600 '/home/me/a b'",
    ),
    (
        "secret-modes",
        box(private_files=(PrivateFile(path="/x", holds="state", mode=0o755, folder=True),)),
        "warning",
        "(mode 0755)",
        "chmod 700 /x",
    ),
    ("secret-modes", box(private_files=(PrivateFile(path="/x", holds="", mode=0o600),)), "ok", "this user alone", None),
    ("secrets-in-manifest", box(secrets_in_manifest=(3, 7)), "warning", "in line 3, 7", None),
    ("secrets-in-manifest", box(secrets_in_manifest=()), "ok", "nothing in the manifest looks like a key", None),
    (
        "engine-holes",
        box(engines=(InstalledEngine(vllm_version="0.31.0", path="/e"),)),
        "warning",
        "vLLM 0.31.0 in /e has security holes that a request can reach: CVE-2026-115918",
        "selfhost engine remove 0.31.0",
    ),
    ("engine-holes", box(engines=(InstalledEngine(vllm_version="0.32.0", path="/e"),)), "ok", "older than", None),
    ("engine-needs", box(engine_problems=()), "ok", "has what", None),
    (
        "engine-needs",
        box(engine_problems=(Problem(message="its wheels need glibc 2.31", hint="another machine"),)),
        "blocking",
        "glibc 2.31",
        "another machine",
    ),
    ("plan", box(planned=Planned(problem=Problem(message="does not fit", hint="less"))), "blocking", "not fit", "less"),
    (
        "plan",
        box(planned=Planned(problem=Problem(message="no Hub", hint=None, blocks=False))),
        "info",
        "no plan could be made: no Hub",
        None,
    ),
    ("manifest", box(manifest_problem=Problem(message="models.yaml:3: x", hint="y")), "blocking", "yaml:3", "y"),
    (
        "crashed-runs",
        box(leftovers=Leftovers(runs=(CrashedRun(manifest="b", name="chat/0", pid=9, shared_memory_bytes=0),))),
        "warning",
        "'b' has no manager, and chat/0 (pid 9) still runs",
        "selfhost down --name b",
    ),
    (
        "crashed-runs",
        box(leftovers=Leftovers(runs=(CrashedRun(manifest="b", name="chat/0", pid=None, shared_memory_bytes=MIB),))),
        "warning",
        "the record of chat/0 is left, with 1 MiB of /dev/shm",
        "selfhost down --name b",
    ),
    ("crashed-runs", box(leftovers=Leftovers(unreadable=(GATED,))), "warning", GATED.message, GATED.hint),
    (
        "unfinished-engines",
        box(leftovers=Leftovers(builds=(Rest(path="/h/engines/vllm-0.32.0-cpu", size_bytes=GIB),))),
        "info",
        "takes 1 GiB",
        "selfhost engine remove 0.32.0",
    ),
    (
        "unfinished-downloads",
        box(leftovers=Leftovers(downloads=(Rest(path="/h/a b.incomplete", size_bytes=GIB),))),
        "info",
        "1 half-fetched file that nobody has open takes 1 GiB",
        "rm -f -- '/h/a b.incomplete'",
    ),
]


@pytest.mark.parametrize("check, facts, severity, words, fix", TABLE)
def test_a_check_says(check: str, facts: Facts, severity: str, words: str, fix: str | None) -> None:
    found = [finding for finding in examine(facts) if finding.check == check]
    told = worst_first(found)[0]
    assert told.severity == severity
    assert words in told.sentence
    assert (told.fix or "") == "" if fix is None else fix in told.fix


def split(parts: int, missing_bytes: int = 0) -> Planned:
    """A plan with one model over so many GPUs, of whose weights so much is missing."""
    checkpoint = CheckpointRef(kind=CheckpointKind.HUB, location="acme/big", revision="c", total_bytes=missing_bytes)
    deployment = Deployment(
        name="chat",
        aliases=(),
        checkpoint=checkpoint,
        max_model_len=1,
        concurrency=1,
        tensor_parallel_size=parts,
        gpu_memory_utilization=0.9,
        engine_args={},
        replicas=(),
        causes=(),
    )
    plan = Plan(
        name="box",
        machine="",
        engine=EngineBuild(vllm_version="0.32.0", platform=Platform.CUDA),
        gateway=GatewayPlan(host="127.0.0.1", port=8000, keys=()),
        deployments=(deployment,),
        room=(),
    )
    return Planned(plan=plan, missing_weights={checkpoint.label: missing_bytes})


READ_ONLY = replace(DISK, writable=False)
DOCKERS_SHM = replace(IN_DOCKER, shm_total_bytes=64 * MIB, shm_free_bytes=64 * MIB)
GATED_HUB = HubAnswer(endpoint="https://hub", offline=False, repositories={"acme/big@main": GATED})
WITH_PLAN = [
    ("plan", box(planned=split(1)), "ok", "the plan fits: chat"),
    ("shm-size", box(host=DOCKERS_SHM, planned=split(1)), "warning", "/dev/shm has 64 MiB"),
    ("shm-size", box(host=DOCKERS_SHM, planned=split(2)), "blocking", "the 2 GPUs of a split model want 256 MiB"),
    (
        "shm-size",
        box(GPU, SECOND, host=DOCKERS_SHM, links=(replace(LINK, peer_access=True),), planned=split(2)),
        "warning",
        "the 2 GPUs of a split model want 256 MiB",
    ),
    ("gpu-peer-access", box(GPU, SECOND, links=(LINK,), planned=split(1)), "info", "have no peer access"),
    ("gpu-peer-access", box(GPU, SECOND, links=(LINK,), planned=split(2)), "warning", "slowly (chat)"),
    ("disk-room", box(disks=(DISK,), planned=split(1, 60 * GIB)), "blocking", "60 GiB of weights are to be fetched"),
    ("disk-room", box(disks=(DISK,), planned=split(1, 40 * GIB)), "ok", "50 GiB of 100 GiB free"),
    ("disk-writable", box(disks=(READ_ONLY,), planned=split(1, GIB)), "blocking", "for weights cannot be written"),
    ("disk-writable", box(disks=(READ_ONLY,), planned=split(1, 0)), "info", "nothing is to be fetched into it"),
    ("hub-access", box(hub=GATED_HUB, planned=split(1, GIB)), "blocking", "is gated"),
    ("hub-access", box(hub=GATED_HUB, planned=split(1, 0)), "warning", "its weights are here already"),
]


@pytest.mark.parametrize("check, facts, severity, words", WITH_PLAN)
def test_a_check_weighs_what_the_plan_needs(check: str, facts: Facts, severity: str, words: str) -> None:
    told = worst_first(finding for finding in examine(facts) if finding.check == check)[0]
    assert told.severity == severity
    assert words in told.sentence


def test_one_repository_at_two_revisions_is_two_answers() -> None:
    models = tuple({"name": name, "source": "acme/big", "revision": name} for name in ("chat", "old"))
    hub = replace(HUB, repositories={"acme/big@chat": None, "acme/big@old": GATED})
    asked = Manifest.model_validate({"version": 1, "models": models})
    found = examine(box(hub=hub, manifest=asked, planned=split(1, GIB)))
    assert [(each.severity, each.sentence) for each in found if each.check == "hub-access"] == [
        ("ok", "acme/big@chat can be fetched, 1 GiB to fetch"),
        ("warning", "acme/tiny is gated; its weights are here already"),
    ]


@pytest.mark.parametrize("hub", [NotLooked(cause="x"), replace(HUB, offline=True), replace(HUB, unreachable="refused")])
def test_where_the_hub_cannot_be_asked_it_is_said_once(hub: HubAnswer | NotLooked) -> None:
    facts = box(hub=replace(hub, clock_ahead_seconds=None) if isinstance(hub, HubAnswer) else hub)
    assert [each.check for each in examine(facts) if each.check in {"hub-access", "clock"}] == ["hub-access"]


def test_the_gate_of_up_says_all_that_blocks_and_counts_the_warnings() -> None:
    assert require_no_blocker(box(GPU)) == 0
    assert require_no_blocker(host(limits=KernelLimits(open_files=4096, processes=600))) == 2
    with pytest.raises(BlockedError, match="/dev/shm is full") as one:
        require_no_blocker(host(shm_free_bytes=0))
    assert one.value.hint == "ls -lS /dev/shm | head; selfhost down"
    with pytest.raises(BlockedError) as two:
        require_no_blocker(host(shm_free_bytes=0, limits=KernelLimits(open_files=64)))
    assert two.value.message.splitlines()[0] == "this box will not serve:"
    assert "/dev/shm is full" in two.value.message
    assert "may open 64 files" in two.value.message


def test_the_table_has_every_check_and_no_id_stands_for_two() -> None:
    ids = [check.id for check in CHECKS]
    assert len(ids) == len(set(ids))
    assert {row[0] for row in TABLE} | {"cuda-engine", "peer-copies", "all-reduce"} == set(ids)  # test_deep.py
    assert all(check.title for check in CHECKS)


def test_what_is_unknown_is_neither_good_nor_bad() -> None:
    nothing = Host(architecture="x86_64", cpu_count=1, memory_total_bytes=GIB, memory_available_bytes=GIB)
    bare = replace(GPU, memory_total_bytes=None, memory_free_bytes=None)
    said = {finding.check for finding in examine(box(bare, host=nothing, disks=(DISK,)))}
    unknown = {"shm-size", "open-files", "processes", "init-process", "gpu-power", "gpu-xid", "gpu-memory-held"}
    assert not said & (unknown | {"gpu-memory-errors", "disk-writable", "disk-storage", "cuda-init", "plan"})


def test_where_hidden_devices_may_be_cards_or_slices_the_number_of_a_slice_is_not_called_good() -> None:
    third = replace(SLICE, mig=replace(A_SLICE, index=2))
    said = {finding.check for finding in examine(visible("MIG-0", third, hidden=3))}
    assert "gpu-mig" not in said
    assert "gpu-mig" in {finding.check for finding in examine(visible("MIG-0", third))}


LITTLE = KernelLimits(open_files=256, processes=100, locked_memory_bytes=8 * KIB)
SMALL = replace(
    IN_DOCKER,
    cpu_count=1,
    memory_available_bytes=GIB,
    shm_total_bytes=64 * MIB,
    shm_free_bytes=64 * MIB,
    limits=LITTLE,
    root=True,
)
RENT = "rent another machine: {} has no setting for this"
INSIDE = {
    # container: parts of the fixes, "" where nothing helps, of LIMITED
    "docker": ("--shm-size=8g", "nofile=65536", "--pids-limit", "memlock=-1", "--memory=32g", "--cpus=4", "--init"),
    "runpod": (*(RENT.format("RunPod"),) * 3, "", "create pod --mem 32", "create pod --vcpu 4", "`tini --`"),
    "vast.ai": (
        "--shm-size=8g to the Docker options of the template",
        *(RENT.format("Vast.ai"),) * 2,
        "",
        "search offers 'cpu_ram>=32'",
        "'cpu_cores_effective>=4'",
        "",
    ),
    "kubernetes": (
        "{medium: Memory, sizeLimit: 8Gi}",
        *("the container runtime of its node",) * 2,
        "",
        "memory: 32Gi",
        "cpu: 4",
        "shareProcessNamespace",
    ),
}
LIMITED = ("shm-size", "open-files", "processes", "locked-memory", "host-memory", "cpu-cores", "init-process")


@pytest.mark.parametrize("container", INSIDE)
def test_in_a_container_the_fix_is_one_that_whoever_started_it_can_do(container: str) -> None:
    found = {each.check: each.fix for each in examine(box(GPU, SECOND, host=replace(SMALL, container=container)))}
    for check, words in zip(LIMITED, INSIDE[container], strict=True):
        fix = found[check] or ""
        assert words in fix
        assert bool(words) == bool(fix)
        assert ("docker run" in fix) == (container == "docker")


@pytest.mark.parametrize(
    "code, container, words",
    [
        (803, "docker", "restart this container"),
        (804, "docker", "an image of an older CUDA"),
        (999, "docker", "on the host of this container: rmmod nvidia_uvm"),
        (999, "runpod", "rent another machine, and tell RunPod"),
        (802, "vast.ai", "rent another machine, and tell Vast.ai"),
        (304, "docker", "restart this container, with all its GPUs"),
        (None, "runpod", "NVIDIA_DRIVER_CAPABILITIES=compute,utility to the environment variables of the template"),
    ],
)
def test_what_cuda_needs_in_a_container_is_no_reboot_and_no_module(
    code: int | None, container: str, words: str
) -> None:
    answer = CudaAnswer(code=code, error="no such file")
    facts = box(GPU, host=replace(SMALL, container=container), cuda=answer)
    fix = next(each.fix for each in examine(facts) if each.check == "cuda-init")
    assert words in fix
    assert not fix.startswith("rmmod")
    assert "reboot" not in fix


def test_root_is_told_no_sudo_and_raises_limits_at_once() -> None:
    capped = replace(GPU, power_limit_watts=250, power_default_watts=450)
    as_root, as_other = (
        {each.check: each.fix for each in examine(box(capped, SECOND, host=replace(HOST, limits=LITTLE, root=root)))}
        for root in (True, False)
    )
    assert as_root["gpu-power"] == "nvidia-smi -i 0 -pl 450"
    assert as_other["gpu-power"] == "sudo nvidia-smi -i 0 -pl 450"
    assert not [fix for fix in as_root.values() if fix and "sudo" in fix]
    assert (as_root["locked-memory"], as_root["open-files"]) == ("ulimit -l unlimited", "ulimit -n 65536")
    assert all("sudo tee" in as_other[check] for check in ("locked-memory", "open-files", "processes"))


def test_a_card_in_mig_mode_tells_its_errors_once() -> None:
    sick = replace(SLICE, ecc_uncorrected_errors=3, ecc_enabled=True, row_remap_pending=True, xids=(79,))
    found = [
        finding
        for finding in examine(box(sick, replace(sick, uuid="MIG-1", mig=replace(A_SLICE, index=1)), SECOND))
        if finding.check in {"gpu-memory-errors", "gpu-xid"}
    ]
    assert [finding.sentence.partition(" has ")[0] for finding in found] == [
        "GPU 0",
        "GPU 0",
        "GPU 0: the kernel's log",
    ]
    assert "the whole card" in found[0].fix


def test_the_worst_comes_first_and_the_rest_keeps_its_order() -> None:
    order = list(Severity)
    facts = box(GPU, host=replace(HOST, cpu_count=1, shm_free_bytes=0), hub=NotLooked(cause="x"))
    found = worst_first(examine(facts))
    assert [order.index(finding.severity) for finding in found] == sorted(order.index(f.severity) for f in found)
    assert [finding.check for finding in found][:3] == ["shm-size", "cpu-cores", "hub-access"]
