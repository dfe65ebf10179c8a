import os
import signal
import time

from torch import SCRIPT, _meet


def init_process_group(backend, *, init_method, rank, world_size):
    assert (backend, world_size) == ("nccl", 2)
    assert init_method.startswith("file:///")
    os.write(1, b"NCCL version 2.28.9+cuda13.0\n")
    if SCRIPT.get("nccl_crash") and rank == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    needed = SCRIPT.get("nccl_needs", {})
    if SCRIPT.get("nccl_crash") or any(os.environ.get(name) != value for name, value in needed.items()):
        time.sleep(3600)
    _meet("nccl")


def all_reduce(numbers):
    pass


def barrier():
    pass


def destroy_process_group():
    pass
