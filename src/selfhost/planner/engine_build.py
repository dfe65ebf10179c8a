"""Which build of vLLM a machine can run: decided from driver, CUDA version, architecture and GPUs. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from packaging.version import Version

from selfhost import versions
from selfhost.errors import BlockedError
from selfhost.hardware.inventory import Gpu, Inventory
from selfhost.planner.plan import EngineBuild, Platform, Variant

Capability = tuple[int, int]  # compute capability: (9, 0) for Hopper


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaBuild:
    """One CUDA build of a release of vLLM."""

    variant: Variant
    cuda: int  # major version of its CUDA runtime
    oldest_driver: str  # of that CUDA: minor versions are compatible with each other
    kernels: Mapping[str, Sequence[Capability]]  # by host architecture: what code is compiled for


# What minor-version compatibility asks of the driver: branches 525 and 580 (read: NVIDIA's "CUDA Compatibility", minor
# version compatibility, table 1), and of them these releases (read: in what others quote of CUDA's release notes).
# torch built for CUDA 12.9 ran on an A100 whose driver supports 12.2; one built for 13.0 refused it (read: eullm#428).
_CUDA_12_DRIVER = "525.60.13"
_CUDA_13_DRIVER = "580.65.06"

# release of vLLM, and those after it until another is named -> its builds, newest CUDA first.
#
# 0.32.0: the wheels of the ordinary index link libcudart.so.13 and hold code for 7.5, 8.0, 8.6, 8.9, 9.0, 10.0 and 12.0
# (x86_64) and 8.0, 8.7, 8.9, 9.0, 10.0, 11.0 and 12.0 (aarch64) (measured: their ELF files' fatbins). The CUDA 12.9
# build is on vLLM's own index (read: vllm#39878, and vllm#44335 for 0.25.1; that index was not reachable for 0.32.0).
# What an engine runs on is narrowed by its torch, 2.13, and that is written here
# (read: torch/cuda/__init__.py:PYTORCH_RELEASES_CODE_CC).
_BUILDS: dict[str, tuple[CudaBuild, ...]] = {
    "0.32.0": (
        CudaBuild(
            variant=Variant.CU130,
            cuda=13,
            oldest_driver=_CUDA_13_DRIVER,
            kernels={
                "x86_64": ((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
                "aarch64": ((8, 0), (9, 0), (10, 0), (11, 0), (12, 0)),
            },
        ),
        CudaBuild(
            variant=Variant.CU129,
            cuda=12,
            oldest_driver=_CUDA_12_DRIVER,
            kernels={
                "x86_64": ((7, 5), (8, 0), (8, 6), (9, 0), (10, 0), (12, 0)),
                "aarch64": ((8, 0), (9, 0), (10, 0), (12, 0)),
            },
        ),
    ),
}

# Integrated GPUs that run only code compiled for just them: Orin, and Thor under its first number
# (read: torch/cuda/__init__.py:DEVICE_REQUIREMENT).
_APART: tuple[Capability, ...] = ((8, 7), (10, 1))


def choose_build(vllm_version: str, inventory: Inventory) -> EngineBuild:
    """The build for the GPUs of this machine, all of them, or for its CPU where there is none.

    What is unknown is never held against a machine: the newest build is taken then, and its `cause` says so.
    Raises `BlockedError` when a GPU is too old for every build, or the driver for all that have code for the GPUs.
    """
    if not inventory.gpus:
        return EngineBuild(vllm_version=vllm_version, platform=Platform.CPU, variant=Variant.CPU)
    builds = cuda_builds(vllm_version)
    covering = [build for build in builds if not _not_covered(build, inventory)]
    if not covering:
        raise _no_kernels(vllm_version, builds, inventory)
    for build in covering:
        if _driver_is_enough(build, inventory):
            return EngineBuild(
                vllm_version=vllm_version,
                platform=Platform.CUDA,
                variant=build.variant,
                cause=_cause(build, covering[0], inventory),
            )
    raise _driver_too_old(vllm_version, covering, inventory)


def cuda_builds(vllm_version: str) -> tuple[CudaBuild, ...]:
    """The CUDA builds of a release, newest CUDA first."""
    known = [release for release in _BUILDS if Version(release) <= Version(vllm_version)]
    return _BUILDS[max(known or _BUILDS, key=Version)]


def _not_covered(build: CudaBuild, inventory: Inventory) -> list[Gpu]:
    codes = build.kernels.get(inventory.host.architecture, ())
    return [gpu for gpu in inventory.gpus if not _covers(codes, gpu.compute_capability)]


def _covers(codes: Sequence[Capability], capability: Capability | None) -> bool:
    """Whether code for `codes` runs on a GPU: that of its own major version does, up to its minor version."""
    if capability is None:
        return bool(codes)
    if capability in _APART:
        return capability in codes
    return any(major == capability[0] and minor <= capability[1] for major, minor in codes)


def _driver_is_enough(build: CudaBuild, inventory: Inventory) -> bool:
    # CUDA's own number decides, as in libcudart: drivers of Jetsons are numbered differently, and CUDA's compatibility
    # package lets an old driver of a data center run a new CUDA.
    if inventory.cuda_version:
        return inventory.cuda_version[0] >= build.cuda
    if inventory.driver_version:
        return Version(inventory.driver_version) >= Version(build.oldest_driver)
    return True


def _cause(build: CudaBuild, newest: CudaBuild, inventory: Inventory) -> str:
    said = _driver(inventory)
    if build is not newest:
        said += f"; {newest.variant} needs driver {newest.oldest_driver} or newer"
    if any(gpu.compute_capability is None for gpu in inventory.gpus):
        said += "; a GPU whose compute capability is unknown is taken for one that it can run on"
    return said


def _driver_too_old(vllm_version: str, covering: Sequence[CudaBuild], inventory: Inventory) -> BlockedError:
    nearest, newest = covering[-1], covering[0]
    return BlockedError(
        f"{_driver(inventory)}, and vLLM {vllm_version} needs driver {nearest.oldest_driver} or newer"
        f" (CUDA {nearest.cuda}, build {nearest.variant})",
        hint=f"install driver branch {newest.oldest_driver.partition('.')[0]}, or at least {nearest.oldest_driver};"
        f" in a container the driver is its host's: choose a host with CUDA {nearest.cuda}.0 or newer when renting;"
        f" a vLLM older than {versions.OLDEST} is not offered, since it has known security holes",
    )


def _driver(inventory: Inventory) -> str:
    """What is known of the driver, as a clause."""
    if inventory.what_if and inventory.cuda_version:
        return f"a driver for CUDA {'.'.join(map(str, inventory.cuda_version))} is assumed"
    name = f"NVIDIA driver {inventory.driver_version}" if inventory.driver_version else "the NVIDIA driver"
    if inventory.cuda_version:
        return f"{name} supports CUDA {'.'.join(map(str, inventory.cuda_version))}"
    return f"{name} does not tell which CUDA it supports"


def _no_kernels(vllm_version: str, builds: Sequence[CudaBuild], inventory: Inventory) -> BlockedError:
    architecture = inventory.host.architecture
    codes = sorted({code for build in builds for code in build.kernels.get(architecture, ())})
    if not codes:
        known = " and ".join(builds[0].kernels)
        return BlockedError(
            f"vLLM {vllm_version} has no CUDA build for {architecture}, only for {known}",
            hint="set engine.python in the manifest to the Python of an environment with a vLLM of your own",
        )
    refused = min((_not_covered(build, inventory) for build in builds), key=len)
    left = [gpu.uuid if gpu.mig else str(gpu.index) for gpu in inventory.gpus if gpu not in refused]
    own = "or set engine.python in the manifest to an environment with a vLLM that you built for it"
    if left:
        advice = f"leave it out: CUDA_VISIBLE_DEVICES={','.join(left)} selfhost up"
    else:
        oldest = ".".join(map(str, codes[0]))
        advice = f"it takes a GPU of compute capability {oldest} or newer (developer.nvidia.com/cuda-gpus lists them)"
    return BlockedError(
        f"vLLM {vllm_version} has no kernels for {', '.join(_kinds(refused))}; its builds for {architecture} are for"
        f" compute capability {', '.join(f'{major}.{minor}' for major, minor in codes)}",
        hint=f"{advice}; {own}",
    )


def _kinds(gpus: Sequence[Gpu]) -> list[str]:
    """`GPU 0 (Tesla V100-SXM2-16GB, compute capability 7.0)`, one for all of a kind."""
    labels: dict[tuple[str, Capability | None], list[str]] = {}
    for gpu in gpus:
        labels.setdefault((gpu.name or "unknown", gpu.compute_capability), []).append(gpu.label)
    return [
        f"GPU {', '.join(each)} ({name}, compute capability {'.'.join(map(str, capability or ('unknown',)))})"
        for (name, capability), each in labels.items()
    ]
