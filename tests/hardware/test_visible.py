import pytest

from selfhost.hardware.inventory import UnusableGpu
from selfhost.hardware.visible import first_ignored, select_visible

UUIDS = ("GPU-aa11", "GPU-aa22", "GPU-bb33", None)  # the last one is lost and does not say
GPUS = [
    UnusableGpu(index=index, uuid=uuid, name=None, pci_bus_id=None, cause="", hint="")
    for index, uuid in enumerate(UUIDS)
]


@pytest.mark.parametrize(
    ("visible_devices", "expected"),
    [
        (None, [0, 1, 2, 3]),
        ("", []),
        ("-1", []),
        ("0", [0]),
        ("2,0", [2, 0]),
        (" 2 , 0 ", [2, 0]),
        ("0,7,1", [0]),  # an invalid entry hides the later ones
        ("0,2,-1,1", [0, 2]),
        ("0,,1", [0]),
        ("002", [2]),
        ("9" * 5000, []),  # more digits than int() takes
        ("\u0662", []),  # a digit, and none that CUDA knows
        ("0,0", []),  # named twice: nothing at all
        ("3", [3]),
        ("GPU-bb33", [2]),
        ("GPU-bb33,GPU-aa1", [2, 0]),  # enough of a UUID to be unique
        ("GPU-aa,GPU-bb33", []),  # not unique
        ("GPU-cc,0", []),
        ("1,GPU-bb", [1, 2]),
        ("MIG-aaaa0000-1111-2222-3333-444444444444", []),
        ("all", []),
        ("NoDevFiles", []),
        ("0:1", []),  # NVIDIA's container tools name MIG devices like this, CUDA does not
    ],
)
def test_cuda_visible_devices_means_what_cuda_makes_of_it(visible_devices: str | None, expected: list[int]) -> None:
    assert [gpu.index for gpu in select_visible(GPUS, visible_devices)] == expected


@pytest.mark.parametrize(
    ("visible_devices", "ignored"),
    [
        (None, None),
        ("0,1", None),
        ("0,9", "9"),
        ("0, 9 ,8", "9"),
        ("GPU-aa", "GPU-aa"),
        ("0,-1", None),  # people end the list like this
        ("0,-1,9", None),
        ("0,", None),
        ("", None),
    ],
)
def test_the_entry_that_ends_what_is_shown_is_known(visible_devices: str | None, ignored: str | None) -> None:
    assert first_ignored(GPUS, visible_devices) == ignored
