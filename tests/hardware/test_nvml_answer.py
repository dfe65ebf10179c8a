"""What the query printed, understood: also where it is cut off in the middle."""

import json

import pytest

from selfhost.hardware.inventory import Gpu, UnusableGpu
from selfhost.hardware.nvml_answer import NvmlAnswer, parse

GPU = {
    "handle": None,
    "uuid": "GPU-{}",
    "name": "NVIDIA L4",
    "pci_bus_id": "00000000:{}B:00.0",
    "memory": {"total_bytes": 24, "free_bytes": 20},
}


def driver(gpus: int) -> list[dict]:
    answers = {"init": True, "driver_version": "580.1", "cuda_version": 12080, "gpu_count": gpus}
    return [{"question": question, "answer": answer} for question, answer in answers.items()]


def gpu(index: int, **answers: object) -> list[dict]:
    own = json.loads(json.dumps(GPU).replace("{}", str(index)))
    return [{"gpu": index, "question": question, "answer": answer} for question, answer in {**own, **answers}.items()]


def pending(question: str, **subject: int) -> dict:
    return {**subject, "question": question}


def heard(*lines: dict) -> NvmlAnswer:
    return parse("".join(json.dumps(line) + "\n" for line in lines), silence_seconds=2.5)


@pytest.mark.parametrize(
    ("stdout", "cause"),
    [
        ("", "the NVIDIA driver's library failed: no answer"),
        ("[" * 100_000, "the NVIDIA driver's library failed: no answer"),
        ("chat\n[]\n", "the NVIDIA driver's library failed: no answer"),
        ('{"question": "init"}\n', "the NVIDIA driver did not answer within 2.5 s"),
        (
            '{"question": "init", "error": {"code": 77, "text": "Odd"}}\n',
            "the NVIDIA driver does not answer: Odd (NVML error 77)",
        ),
        (
            '{"question": "init", "answer": true}\n{"question": "gpu_count", "error": {"code": 999, "text": "?"}}\n',
            "the NVIDIA driver answers with an unknown error",
        ),
    ],
)
def test_what_is_no_answer_is_a_failure_with_its_cause(stdout: str, cause: str) -> None:
    answer = parse(stdout, silence_seconds=2.5)
    assert answer == NvmlAnswer(failure=answer.failure, error_code=answer.error_code)
    assert answer.failure
    assert (answer.failure.cause, bool(answer.failure.hint)) == (cause, True)


def test_chatter_of_libraries_and_a_line_that_is_cut_off_are_skipped() -> None:
    text = "hello from LD_PRELOAD\n" + "\n".join(map(json.dumps, [*driver(1), *gpu(0)])) + '\n{"gpu": 0, "ques'
    answer = parse(text, silence_seconds=2.5)
    assert (answer.driver_version, answer.cuda_version, len(answer.gpus)) == ("580.1", (12, 8), 1)


# what is pending at the end: the GPUs that are left out, each with its cause
HANGS = {
    "nothing": ([], {}),
    "its handle": ([pending("handle", gpu=1)], {1: "the driver hangs when asked to open it"}),
    "an optional fact": ([pending("ecc_mode", gpu=0)], {0: "the driver hangs when asked for its ECC mode"}),
    "a pair": ([pending("link", gpu=2, other=1)], {2: "the driver hangs when asked how it is linked to another GPU"}),
    "every pair of one GPU": (
        [pending("link", gpu=2, other=1), pending("link", gpu=3, other=1), pending("link", gpu=0, other=1)],
        {1: "the driver hangs when asked how it is linked to another GPU"},
    ),
}


@pytest.mark.parametrize(("last_words", "causes"), HANGS.values(), ids=HANGS)
def test_a_gpu_that_hangs_is_left_out_with_the_question_and_costs_no_other(last_words, causes) -> None:
    answer = heard(*driver(4), *(line for index in range(4) for line in gpu(index)), *last_words)
    left_out = {found.index: found.cause for found in answer.gpus if isinstance(found, UnusableGpu)}
    assert left_out == {index: f"GPU {index} does not answer: {cause}" for index, cause in causes.items()}
    assert [found.uuid for found in answer.gpus] == [f"GPU-{index}" for index in range(4)]


def test_a_gpu_that_was_never_heard_of_does_not_answer() -> None:
    found, silent = heard(*driver(2), *gpu(0)).gpus
    assert isinstance(found, Gpu)
    assert isinstance(silent, UnusableGpu)
    assert (silent.index, silent.uuid, "asked to open it" in silent.cause) == (1, None, True)


def test_a_mig_device_that_may_not_be_used_is_left_out() -> None:
    refused = {"uuid": {"code": 4, "text": "Insufficient Permissions"}}
    fine = {"index": 3, "uuid": "MIG-3", "errors": {}}
    devices = heard(*driver(1), *gpu(0, mig_mode=1, mig_devices=[{"index": 2, "errors": refused}, fine])).gpus
    assert [device.uuid for device in devices] == [None, "MIG-3"]
    assert isinstance(devices[0], UnusableGpu)
    assert devices[0].cause == "MIG device 2 of GPU 0 may not be used by this user or container"


def test_a_card_that_does_not_tell_its_mig_devices_is_not_said_to_have_none() -> None:
    refused = {"gpu": 0, "question": "mig_devices", "error": {"code": 999, "text": "Unknown Error"}}
    (card,) = heard(*driver(1), *gpu(0, mig_mode=1), refused).gpus
    assert isinstance(card, UnusableGpu)
    assert card.cause == "GPU 0 answers with an unknown error"


@pytest.mark.parametrize(
    ("ends", "connected", "count"),
    [
        ((["00000008:1B:00.0"] * 2 + ["00000009:1B:00.0"], []), True, 2),  # GPUs of several PCI domains
        (([None] * 18, [None] * 18), True, 18),
        (([None] * 18, [None] * 17), True, 17),
        (([None] * 18, [None] * 18), False, 0),  # no fabric manager runs
        ((["00000000:81:00.0"] * 6, ["00000000:82:00.0"] * 6), None, 6),  # an old driver: only addresses
        (([], []), False, 0),
        ((None, None), None, None),
    ],
)
def test_nvlinks_of_a_pair_are_those_between_them_or_to_switches(ends, connected, count: int | None) -> None:
    buses = ("00000009:1B:00.0", "00000008:1B:00.0")
    lines = [
        line
        for index in range(2)
        for line in gpu(index, pci_bus_id=buses[index], **({} if ends[index] is None else {"nvlinks": ends[index]}))
    ]
    link = {"topology": 50, "read": True, "write": False, "nvlink": connected, "errors": {}}
    answer = heard(*driver(2), *lines, {"gpu": 1, "other": 0, "question": "link", "answer": link})
    (joined,) = answer.links
    assert (joined.first, joined.second, joined.pci_path, joined.peer_access) == ("GPU-0", "GPU-1", "SYS", False)
    assert joined.nvlink_count == count


def test_a_gpu_without_a_uuid_is_left_out_since_no_engine_could_be_shown_it() -> None:
    found, there = heard(*driver(2), *gpu(0, uuid=""), *gpu(1)).gpus
    assert isinstance(found, UnusableGpu)
    assert isinstance(there, Gpu)


def test_what_is_no_pci_address_equals_no_other() -> None:
    (found,) = heard(*driver(1), *gpu(0, pci_bus_id="zz:yy")).gpus
    assert isinstance(found, Gpu)
    assert found.pci_bus_id == "zz:yy"
