"""How what a container was started with is changed: by Docker's flags, a pod's fields, a provider's settings. Pure."""

from collections.abc import Mapping
from enum import Enum, auto

from selfhost.hardware.inventory import PERSISTENT, Host


class Setting(Enum):
    """What whoever starts a container decides."""

    SHM = auto()
    OPEN_FILES = auto()
    PROCESSES = auto()
    LOCKED_MEMORY = auto()
    MEMORY = auto()
    CORES = auto()
    INIT = auto()
    DRIVER_LIBRARIES = auto()


_DOCKER: Mapping[Setting, str] = {
    Setting.SHM: "docker run --shm-size=8g ...  # in compose.yaml: shm_size: 8g",
    Setting.OPEN_FILES: "docker run --ulimit nofile=65536 ...",
    Setting.PROCESSES: "docker run --pids-limit=-1 ...",
    Setting.LOCKED_MEMORY: "docker run --ulimit memlock=-1 ...",
    Setting.MEMORY: "docker run --memory=32g ...",
    Setting.CORES: "docker run --cpus={cores} ...",
    Setting.INIT: "docker run --init ...",
    Setting.DRIVER_LIBRARIES: "docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility ...",
}
_KUBERNETES: Mapping[Setting, str] = {
    Setting.SHM: "kubectl explain pod.spec.volumes.emptyDir  # mount {{medium: Memory, sizeLimit: 8Gi}} on that path",
    Setting.MEMORY: "kubectl explain pod.spec.containers.resources.limits  # memory: 32Gi",
    Setting.CORES: "kubectl explain pod.spec.containers.resources.limits  # cpu: {cores}",
    Setting.INIT: "kubectl explain pod.spec.shareProcessNamespace  # true: process 1 is one that collects them",
    Setting.DRIVER_LIBRARIES: "kubectl explain pod.spec.runtimeClassName  # nvidia; and set the variable "
    "NVIDIA_DRIVER_CAPABILITIES=compute,utility",
}
# docs.runpod.io, `runpodctl create pod`: no flag of Docker's is taken; a template has variables and a start command.
_RUNPOD: Mapping[Setting, str] = {
    Setting.MEMORY: "runpodctl create pod --mem 32 ...",
    Setting.CORES: "runpodctl create pod --vcpu {cores} ...",
    Setting.INIT: "let the container start command of the template begin with `tini --`, if its image has tini",
    Setting.DRIVER_LIBRARIES: "add NVIDIA_DRIVER_CAPABILITIES=compute,utility to the environment variables of the "
    "template, and start another pod",
}
# docs.vast.ai: of Docker's flags the FAQ names -p, -e and --shm-size; memory and cores come with the offer.
_VAST: Mapping[Setting, str] = {
    Setting.SHM: "add --shm-size=8g to the Docker options of the template, and rent another instance",
    Setting.MEMORY: "vastai search offers 'cpu_ram>=32'",
    Setting.CORES: "vastai search offers 'cpu_cores_effective>={cores}'",
    Setting.DRIVER_LIBRARIES: "add -e NVIDIA_DRIVER_CAPABILITIES=compute,utility to the Docker options of the "
    "template, and rent another instance",
}
_PROVIDERS: Mapping[str, tuple[str, Mapping[Setting, str]]] = {
    "runpod": ("RunPod", _RUNPOD),
    "vast.ai": ("Vast.ai", _VAST),
}
_WORTH_NO_OTHER_MACHINE = {Setting.LOCKED_MEMORY, Setting.INIT}  # little depends on them


def is_limited(host: Host) -> bool:
    """Whether limits come from whoever started this container; WSL's and LXC's are set inside, as on a machine."""
    return host.container is not None and host.container not in PERSISTENT


def start_with(host: Host, setting: Setting, *, cores: int = 0) -> str | None:
    """What is to be done about `setting` where `is_limited` holds; None if nothing. `cores` is how many are needed."""
    rented = _PROVIDERS.get(host.container or "")
    if rented:
        provider, known = rented
        none = f"rent another machine: {provider} has no setting for this"
    elif host.container == "kubernetes":
        known, none = _KUBERNETES, "no field of a pod sets this: the container runtime of its node does"
    else:
        known, none = _DOCKER, ""
    if setting not in known and setting in _WORTH_NO_OTHER_MACHINE:
        return None
    return known.get(setting, none).format(cores=cores)


def on_host(host: Host, command: str) -> str:
    """`command`, which works only on the machine itself: in a container it is said who has to give it."""
    if not is_limited(host):
        return command
    if rented := _PROVIDERS.get(host.container or ""):
        return f"rent another machine, and tell {rented[0]}: only its owner can mend this one"
    return f"on the host of this container: {command}"
