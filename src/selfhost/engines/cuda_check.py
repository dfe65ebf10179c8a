"""Run by an engine's own Python: does CUDA work in it, on every visible GPU and between every two of them?

Prints one line of JSON per answer as it comes, so that whoever waits knows at which question it hangs:
`{"torch": ..., "cuda": ...}` once torch is imported, `{"devices": 2}` once CUDA is initialised, `{"device": 0}` when a
kernel ran there, `{"copy": [0, 1], "access": true, "intact": true}` when memory was copied. What fails ends it, with
`{"error": ...}`. Imports nothing of selfhost: it is not there.
"""

import json
import sys
from typing import Any

COPIED_ELEMENTS = 4 * 1024 * 1024  # 16 MiB: more than one DMA transfer, gone in milliseconds


def say(**answer: Any) -> None:
    """Print one answer."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def check() -> None:
    """Ask one thing after another, the fundamental ones first."""
    import torch  # noqa: PLC0415 (failing to import it is an answer too)

    say(torch=torch.__version__, cuda=torch.version.cuda)
    torch.cuda.init()
    count = torch.cuda.device_count()
    say(devices=count)
    for device in range(count):
        numbers = torch.arange(1024, dtype=torch.float32)
        doubled = (numbers.to(f"cuda:{device}") * 2).cpu()  # a kernel: the build may have none for this GPU
        if not torch.equal(doubled, numbers * 2):
            raise RuntimeError(f"GPU {device} computed wrong numbers")
        say(device=device)
    for first in range(count):
        for second in range(count):
            if first != second:
                say(copy=[first, second], **copied(torch, first, second))


def copied(torch: Any, first: int, second: int) -> dict[str, bool]:
    """Whether what arrives is what was sent: with an IOMMU in the way, peers claim access and copy rubbish."""
    sent = torch.arange(COPIED_ELEMENTS, dtype=torch.int32)
    arrived = sent.to(f"cuda:{first}").to(f"cuda:{second}")
    return {
        "access": torch.cuda.can_device_access_peer(first, second),
        "intact": torch.equal(arrived.cpu(), sent),
    }


if __name__ == "__main__":
    try:
        check()
    except Exception as error:  # noqa: BLE001 (the answer is the error)
        say(error=f"{type(error).__name__}: {error}")
        sys.exit(1)
