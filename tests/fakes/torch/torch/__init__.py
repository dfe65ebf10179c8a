"""As much of torch as the checks of the GPUs ask for, and as sick as $FAKE_TORCH (JSON) says.

devices       how many GPUs there are (2)
error         {"init": words, "kernel": words, "nccl": words}: what raises, and what it says
hang          "import", "init", "kernel", "copy": what never returns
no_access     true: no GPU may read another's memory
corrupt       true: what is copied from GPU to GPU arrives as something else
nccl_needs    settings without which an all-reduce hangs, as {"NCCL_P2P_DISABLE": "1"}
nccl_crash    true: rank 1 dies of a signal
"""

import json
import os
import time
from dataclasses import dataclass

SCRIPT = json.loads(os.environ.get("FAKE_TORCH", "{}"))
ERRORS = SCRIPT.get("error", {})

__version__ = "2.13.0+cu130"
float32, int32 = "float32", "int32"


def _meet(question):
    if SCRIPT.get("hang") == question:
        time.sleep(3600)
    if question in ERRORS:
        raise RuntimeError(ERRORS[question])


_meet("import")


class version:  # noqa: N801 (torch's name)
    cuda = "13.0"


@dataclass(frozen=True)
class Tensor:
    content: tuple
    device: str = "cpu"

    def to(self, device):
        if self.device.startswith("cuda") and device != self.device:
            _meet("copy")
            if SCRIPT.get("corrupt"):
                return Tensor(("rubbish",), device)
        return Tensor(self.content, device)

    def cpu(self):
        return Tensor(self.content)

    def __mul__(self, factor):
        if self.device != "cpu":
            _meet("kernel")
        return Tensor((*self.content, factor), self.device)

    def __eq__(self, other):
        return Tensor(("equal", self.content == other.content if isinstance(other, Tensor) else True))

    def __hash__(self):
        return hash(self.content)

    def __getitem__(self, index):
        return self

    def item(self):
        return self.content[-1]


def arange(count, dtype):
    return Tensor(("arange", count, dtype))


def full(shape, value, device):
    return Tensor(("full", shape, value), device)


def equal(first, second):
    return first.content == second.content


def all(tensor):  # noqa: A001 (torch's name)
    return tensor


class cuda:  # noqa: N801 (torch's name)
    @staticmethod
    def init():
        _meet("init")

    @staticmethod
    def device_count():
        return SCRIPT.get("devices", 2)

    @staticmethod
    def can_device_access_peer(first, second):
        assert first != second
        return not SCRIPT.get("no_access", False)

    @staticmethod
    def set_device(rank):
        assert rank < cuda.device_count()
