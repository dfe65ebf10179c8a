"""The question to CUDA: `python -m selfhost.doctor.cuda_query` starts it and prints one line of JSON.

A process of its own: libcuda may hang inside the kernel, and takes memory on every GPU as long as it is loaded.
"""

import ctypes
import json
import signal
import sys

LIBRARY = "libcuda.so.1"
LIFETIME_SECONDS = 30  # SIGALRM ends this process even inside libcuda, when nobody waits for it any more


def query() -> dict[str, int | str | None]:
    """What cuInit(0) returns, and how many devices there are then."""
    try:
        cuda = ctypes.CDLL(LIBRARY)
    except OSError as error:
        return {"code": None, "error": str(error)}
    code = int(cuda.cuInit(0))
    count = ctypes.c_int(0)
    if code == 0:
        code = int(cuda.cuDeviceGetCount(ctypes.byref(count)))
    return {"code": code, "device_count": count.value}


if __name__ == "__main__":
    signal.alarm(LIFETIME_SECONDS)
    sys.stdout.write(json.dumps(query()) + "\n")
