"""The scripted NVML itself: what selfhost does not ask for yet answers too, as nvidia-ml-py reads it."""

import ast
import subprocess
import sys

import pytest

# `gpu(i)` is a handle, `error(call)` the name of the error that it raises
PRELUDE = """
import pynvml as N
N.nvmlInit()
gpu = N.nvmlDeviceGetHandleByIndex
def error(call, *args):
    try:
        return call(*args)
    except N.NVMLError as raised:
        return type(raised).__name__
"""

ANSWERS = {
    "h100x8": {
        "[N.nvmlDeviceGetTopologyCommonAncestor(gpu(0), gpu(other)) for other in (0, 3, 4)]": [0, 40, 50],
        "N.nvmlDeviceGetP2PStatus(gpu(0), gpu(7), N.NVML_P2P_CAPS_INDEX_NVLINK)": 0,
        "N.nvmlDeviceGetNvLinkState(gpu(0), 17), error(N.nvmlDeviceGetNvLinkState, gpu(0), 18)": (
            1,
            "NVMLError_InvalidArgument",
        ),
        "N.nvmlDeviceGetNvLinkRemoteDeviceType(gpu(0), 0)": 2,
        "N.nvmlDeviceGetNvLinkRemotePciInfo(gpu(0), 5).busId": "00000000:81:00.0",
        "[N.nvmlDeviceGetNumaNodeId(gpu(index)) for index in (3, 4)]": [0, 1],
        "N.nvmlDeviceGetIndex(N.nvmlDeviceGetHandleByPciBusId('0000:5b:00.0'))": 2,
        "N.nvmlDeviceGetIndex(N.nvmlDeviceGetHandleByUUID(N.nvmlDeviceGetUUID(gpu(6))))": 6,
        "error(gpu, 8), error(N.nvmlDeviceGetHandleByUUID, 'GPU-no')": (
            "NVMLError_InvalidArgument",
            "NVMLError_NotFound",
        ),
        "N.nvmlDeviceGetMigMode(gpu(0)), N.nvmlDeviceGetEccMode(gpu(0))": ([0, 0], [1, 1]),
        "N.nvmlDeviceGetTemperatureV(gpu(0), 0), N.nvmlDeviceGetPowerUsage(gpu(0))": (35, 75000),
        "N.nvmlSystemGetNVMLVersion(), error(N.nvmlDeviceGetFanSpeed, gpu(0))": (
            "13.580.95.05",
            "NVMLError_FunctionNotFound",
        ),
    },
    "rtx4090x2": {
        "error(N.nvmlDeviceGetEccMode, gpu(0)), error(N.nvmlDeviceGetNvLinkState, gpu(0), 0)": (
            "NVMLError_NotSupported",
            "NVMLError_NotSupported",
        ),
        "N.nvmlDeviceGetP2PStatus(gpu(0), gpu(1), N.NVML_P2P_CAPS_INDEX_NVLINK)": 5,
    },
    "v100": {
        "[N.nvmlDeviceGetNvLinkRemotePciInfo(gpu(0), link).busId[9:11] for link in range(6)]": [
            "3B",
            "3B",
            "5B",
            "5B",
            "7B",
            "7B",
        ],
    },
    "a100mig": {
        "error(N.nvmlDeviceGetUtilizationRates, gpu(0)), N.nvmlDeviceGetMigMode(gpu(1))": (
            "NVMLError_NotSupported",
            [0, 0],
        ),
        "N.nvmlDeviceGetMemoryInfo(N.nvmlDeviceGetMigDeviceHandleByIndex(gpu(0), 1)).total": 20937965568,
        "N.nvmlDeviceGetAttributes(N.nvmlDeviceGetMigDeviceHandleByIndex(gpu(0), 0)).multiprocessorCount": 42,
        "N.nvmlDeviceGetGpuInstanceId(N.nvmlDeviceGetMigDeviceHandleByIndex(gpu(0), 2))": 13,
        "error(N.nvmlDeviceGetMigDeviceHandleByIndex, gpu(0), 3)": "NVMLError_NotFound",
        "N.nvmlDeviceGetIndex(N.nvmlDeviceGetDeviceHandleFromMigDeviceHandle("
        "N.nvmlDeviceGetHandleByUUID('MIG-aaaa0001-1111-2222-3333-444444444444')))": 0,
    },
    "busy": {
        "[(p.pid, p.usedGpuMemory) for p in N.nvmlDeviceGetComputeRunningProcesses(gpu(0))]": [
            (4242, 74088185856),
            (4243, None),
        ],
        "N.nvmlDeviceGetComputeRunningProcesses(gpu(1))": [],
    },
    "lost": {
        "N.nvmlDeviceGetRemappedRows(gpu(1))": (0, 1, 1, 0),
        "N.nvmlEventSetWait_v2(N.nvmlEventSetCreate(), 100).eventData": 79,
    },
    "vgpu": {"N.nvmlDeviceGetVirtualizationMode(gpu(0))": 2},
}


@pytest.mark.parametrize(("scenario", "answers"), ANSWERS.items(), ids=ANSWERS)
def test_nvidia_ml_py_reads_what_the_scenario_says(nvml, scenario: str, answers: dict[str, object]) -> None:
    nvml(scenario)
    script = PRELUDE + "\n".join(f"print(repr(({question})))" for question in answers)
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    said = dict(zip(answers, (ast.literal_eval(line) for line in ran.stdout.splitlines()), strict=True))
    assert said == answers


def test_a_handle_outlives_its_gpu_and_says_so(nvml) -> None:
    scenario = nvml("h100x8")
    fewer = scenario.path.read_text().rpartition("[gpu]")[0].replace("\\", "")
    script = f"{PRELUDE}\nlast = gpu(7)\nopen(r'{scenario.path}', 'w').write({fewer!r})\n"
    script += "print(error(N.nvmlDeviceGetName, last), N.nvmlDeviceGetCount())"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "NVMLError_GpuIsLost 7\n"
