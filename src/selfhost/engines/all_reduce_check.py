"""Run by an engine's own Python, once per rank: does an all-reduce between two GPUs come to its end, and how fast?

    python all_reduce_check.py BACKEND RANK STORE      BACKEND: nccl, or gloo where there is no GPU

Prints one line of JSON per answer: `{"torch": ...}` once torch is imported (which may take long, and is not what is
tested), then `{"gib_per_second": ...}`, the algorithm's bandwidth, or `{"error": ...}`. Imports nothing of selfhost.
"""

import json
import sys
import time
from typing import Any

RANKS = 2
ELEMENTS = 16 * 1024 * 1024  # 64 MiB of float32: large enough for the bandwidth to be the link's
ROUNDS = 5


def say(**answer: Any) -> None:
    """Print one answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def check(backend: str, rank: int, store: str) -> None:
    """Meet the other rank in the file `store`, add up, and measure."""
    import torch  # noqa: PLC0415 (failing to import it is an answer too)
    from torch import distributed  # noqa: PLC0415

    say(torch=torch.__version__)
    device = "cpu"
    if backend == "nccl":
        device = f"cuda:{rank}"
        torch.cuda.set_device(rank)
    distributed.init_process_group(backend, init_method=f"file://{store}", rank=rank, world_size=RANKS)
    numbers = torch.full((ELEMENTS,), rank + 1.0, device=device)
    distributed.all_reduce(numbers)
    if not torch.all(numbers == 1.0 + 2.0).item():
        raise RuntimeError("the sum is wrong")
    started = time.monotonic()
    for _ in range(ROUNDS):
        distributed.all_reduce(numbers)
    numbers[0].item()  # waits for the GPU
    seconds = time.monotonic() - started
    distributed.barrier()
    say(gib_per_second=ROUNDS * ELEMENTS * 4 / 2**30 / seconds)
    distributed.destroy_process_group()


if __name__ == "__main__":
    try:
        check(sys.argv[1], int(sys.argv[2]), sys.argv[3])
    except Exception as error:  # noqa: BLE001 (the answer is the error)
        say(error=f"{type(error).__name__}: {error}")
        sys.exit(1)
