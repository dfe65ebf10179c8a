"""Whatever a stranger wrote into a model's files: there is a plan, or a sentence of ours. Never a traceback."""

import json
import struct
from pathlib import Path

import pytest
from huggingface_hub import constants
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fakes.hub import Hub
from selfhost import demo
from selfhost.catalog.config import parse_config, read_config
from selfhost.catalog.lookup import lookup
from selfhost.catalog.model import Checkpoint
from selfhost.errors import SelfhostError
from selfhost.hardware.inventory import Gpu, Host, Inventory
from selfhost.manifest.schema import Manifest
from selfhost.planner.build import Found, build_plan
from selfhost.planner.text import render_plan
from selfhost.units import GIB

DEMO = {file.name: file.read_bytes() for file in demo.path("demo-a").iterdir() if file.is_file()}
CONFIG = json.loads(DEMO["config.json"])
FIELDS = sorted(
    {*CONFIG, "head_dim", "rope_parameters", "rope_scaling", "partial_rotary_factor", "quantization_config", "dtype"}
    | {"torch_dtype", "layer_types", "sliding_window", "use_sliding_window", "kv_lora_rank", "tie_word_embeddings"}
    | {"original_max_position_embeddings"}
)
INNER = ["rope_type", "type", "factor", "partial_rotary_factor", "quant_method"]

DEEP = json.loads("[" * 100 + "]" * 100)
NASTY = [None, True, False, 0, 1, -1, 2**31, 10**4000, 0.0, 0.5, 1e308, float("nan"), float("inf"), -1.5, "", "x"]
NASTY += ["\ud800", "\x1b[31m", "x" * 10_000, [], ["x"], [None], {}, {"x": 1}, DEEP, [[["linear_attention"]]]]
values = st.sampled_from(NASTY) | st.dictionaries(st.sampled_from(INNER), st.sampled_from(NASTY), min_size=1)

HOST = Host(architecture="x86_64", cpu_count=2, memory_total_bytes=64 * GIB, memory_available_bytes=60 * GIB)
L4S = tuple(
    Gpu(
        index=index,
        uuid=f"GPU-{index}",
        name="NVIDIA L4",
        memory_total_bytes=24_152_899_584,
        memory_free_bytes=23 * GIB,
        compute_capability=(8, 9),
        pci_bus_id=f"0000:{index:02x}:00.0",
    )
    for index in range(2)
)
BOXES = (Inventory(host=HOST), Inventory(host=HOST, gpus=L4S))
MANIFEST = Manifest.model_validate({"version": 1, "name": "box", "models": ({"name": "chat"},)})

fuzz = settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])


def planned(checkpoint: Checkpoint) -> None:
    for box in BOXES:
        try:
            plan = build_plan(MANIFEST, box, {"chat": Found(checkpoint=checkpoint, cause="asked for")})
        except SelfhostError as refusal:
            assert_sentence(refusal)
        else:
            assert render_plan(plan)


def assert_sentence(error: SelfhostError) -> None:
    assert error.message.isprintable() or "\n" in error.message  # PlanError has a line for each model
    assert len(error.message) < 1000
    assert error.hint


def plan_of_config(config: dict) -> None:
    tensors = lookup("demo-a", "main").tensors
    try:
        spec = parse_config(read_config(json.dumps(config).encode(), name="config.json"), label="acme/tiny")
    except SelfhostError as refusal:
        assert_sentence(refusal)
        return
    planned(Checkpoint(ref=lookup("demo-a", "main").ref, spec=spec, tensors=tensors))


@pytest.mark.parametrize("field", FIELDS)
def test_any_value_in_any_field(field: str) -> None:
    for value in NASTY:
        plan_of_config({**CONFIG, field: value})
    for inner in INNER:
        for value in NASTY:
            plan_of_config({**CONFIG, field: {inner: value}})


@fuzz
@given(st.dictionaries(st.sampled_from(FIELDS), values, max_size=4))
def test_several_strange_fields(changes: dict) -> None:
    plan_of_config({**CONFIG, **changes})


WHOLE = {
    "empty": b"",
    "not JSON": b"<html>",
    "a list": b"[]",
    "null": b"null",
    "a byte order mark": b"\xef\xbb\xbf" + DEMO["config.json"],
    "UTF-16": DEMO["config.json"].decode().encode("utf-16"),
    "invalid UTF-8": DEMO["config.json"].replace(b"silu", b"\xff\xfe"),
    "too large": b'{"x": "' + b"x" * (10 * 1024**2) + b'"}',
    "nested without end": b"[" * 100_000,
    "a number without end": b'{"x": ' + b"1" * 100_000 + b"}",
}


@pytest.mark.parametrize("case", WHOLE)
def test_a_config_that_is_none(tmp_path: Path, case: str) -> None:
    for name, content in {**DEMO, "config.json": WHOLE[case]}.items():
        (tmp_path / name).write_bytes(content)
    with pytest.raises(SelfhostError) as caught:
        lookup(str(tmp_path), "main")
    assert_sentence(caught.value)


def with_header(header: object, data: bytes = bytes(64)) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


entries = st.sampled_from(NASTY) | st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["U8", "F4", "BF16", *NASTY]),
        "shape": st.sampled_from([[64], [], [8, 8], [0, 10**400], [-1], ["1"], [True], [1.5], [1] * 40, *NASTY]),
        "data_offsets": st.sampled_from([[0, 64], [0, 32], [64], [64, 0], ["0", "64"], [0, 10**400], *NASTY]),
    },
)
names = st.sampled_from(["model.embed_tokens.weight", "lm_head.weight", "x.k_proj.weight", "__metadata__", "\ud800"])
headers = st.sampled_from([b"", b"[]", b"<html>", b"[" * 100_000, b"\xff", b"{}"]) | st.dictionaries(names, entries)
SCALAR = {"model.embed_tokens.weight": {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}}


@fuzz
@given(headers)
@example(SCALAR)
def test_any_safetensors_header_in_a_folder(tmp_path: Path, header: object) -> None:
    for name, content in {**DEMO, "model.safetensors": with_header(header)}.items():
        (tmp_path / name).write_bytes(content)
    try:
        checkpoint = lookup(str(tmp_path), "main")
    except SelfhostError as refusal:
        assert_sentence(refusal)
    else:
        planned(checkpoint)


@pytest.fixture(scope="module")
def hub():
    with Hub() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "ENDPOINT", hub.url)
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace("https://huggingface.co", hub.url)
        patch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


def plan_of_hub(hub: Hub, **files: bytes) -> None:
    commit = hub.add("acme/tiny", {**DEMO, **{name.replace("_", "."): data for name, data in files.items()}}).commit
    try:
        checkpoint = lookup("acme/tiny", commit)
    except SelfhostError as refusal:
        assert_sentence(refusal)
    else:
        planned(checkpoint)
        assert lookup("acme/tiny", commit) == checkpoint  # from our own notes


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("SELFHOST_HOME", str(tmp_path / "home"))


@pytest.mark.parametrize("case", WHOLE)
def test_a_config_on_the_hub_that_is_none(hub: Hub, case: str) -> None:
    commit = hub.add("acme/tiny", {**DEMO, "config.json": WHOLE[case]}).commit
    with pytest.raises(SelfhostError) as caught:
        lookup("acme/tiny", commit)
    assert_sentence(caught.value)


@settings(fuzz, max_examples=20)
@given(headers)
@example(SCALAR)
@example({"x": {"dtype": "Q4", "shape": [1], "data_offsets": [0, 1]}})
def test_any_safetensors_header_on_the_hub(hub: Hub, header: object) -> None:
    plan_of_hub(hub, model_safetensors=with_header(header))


@settings(fuzz, max_examples=20)
@given(st.dictionaries(st.sampled_from(FIELDS), values, min_size=1, max_size=2))
@example({"rope_scaling": "x"})
@example({"x": DEEP, "y": "\ud800"})
def test_strange_fields_on_the_hub(hub: Hub, changes: dict) -> None:
    plan_of_hub(hub, config_json=json.dumps({**CONFIG, **changes}).encode())


@pytest.mark.parametrize("depth", range(500, 1000, 20))
def test_a_field_as_deep_as_can_just_be_read(hub: Hub, depth: int) -> None:
    deep = b'{"x": ' + b"[" * depth + b"]" * depth + b","
    plan_of_hub(hub, config_json=deep + DEMO["config.json"].lstrip()[1:])


@pytest.mark.parametrize("path", ["/api/models", "config.json", "/storage/"])
def test_a_login_page_instead_of_an_answer(hub: Hub, path: str) -> None:
    hub.add("acme/tiny", {**DEMO, "README.md": path.encode()})
    fault = hub.fault(path=path, portal=True)
    with pytest.raises(SelfhostError) as caught:
        lookup("acme/tiny", "main")
    hub.faults.remove(fault)
    assert_sentence(caught.value)
