import json
import math
import re
import struct
import zipfile
from pathlib import Path

import pytest

from selfhost import demo

FILES = {
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
}

each_variant = pytest.mark.parametrize("variant", demo.VARIANTS)


def read_json(variant: str, name: str):
    return json.loads((demo.path(variant) / name).read_text())


@each_variant
def test_a_variant_is_an_ordinary_model_directory(variant: str) -> None:
    assert {file.name for file in demo.path(variant).iterdir()} == FILES


def test_both_variants_take_at_most_3_mb_of_the_wheel(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "wheel.zip", "w", zipfile.ZIP_DEFLATED) as wheel:
        for file in Path(demo.__file__).parent.rglob("*"):
            wheel.write(file)
        assert sum(entry.compress_size for entry in wheel.infolist()) <= 3_000_000


@each_variant
def test_the_weights_are_whole_and_bf16(variant: str) -> None:
    raw = (demo.path(variant) / "model.safetensors").read_bytes()
    (header_bytes,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + header_bytes])
    assert header.pop("__metadata__") == {"format": "pt"}
    end = 0
    for tensor in sorted(header.values(), key=lambda tensor: tensor["data_offsets"]):
        start, stop = tensor["data_offsets"]
        assert tensor["dtype"] == "BF16"
        assert (start, stop - start) == (end, 2 * math.prod(tensor["shape"]))
        end = stop
    assert len(raw) == 8 + header_bytes + end
    assert "lm_head.weight" not in header  # tied to the embedding


@each_variant
def test_the_weights_have_the_shapes_that_the_config_tells(variant: str) -> None:
    config = read_json(variant, "config.json")
    raw = (demo.path(variant) / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + struct.unpack("<Q", raw[:8])[0]])
    shapes = {name: tensor["shape"] for name, tensor in header.items() if name != "__metadata__"}
    hidden, head = config["hidden_size"], config["head_dim"]
    assert (config["architectures"], config["tie_word_embeddings"]) == (["Qwen3ForCausalLM"], True)
    assert shapes["model.embed_tokens.weight"] == [config["vocab_size"], hidden]
    for layer in range(config["num_hidden_layers"]):
        attention = f"model.layers.{layer}.self_attn"
        assert shapes[f"{attention}.q_proj.weight"] == [config["num_attention_heads"] * head, hidden]
        assert shapes[f"{attention}.k_proj.weight"] == [config["num_key_value_heads"] * head, hidden]
        assert shapes[f"model.layers.{layer}.mlp.up_proj.weight"] == [config["intermediate_size"], hidden]
    assert len(shapes) == 2 + 11 * config["num_hidden_layers"]


@each_variant
def test_it_is_greedy_by_default_and_stops_at_the_end_of_a_message(variant: str) -> None:
    ids = {token["content"]: token["id"] for token in read_json(variant, "tokenizer.json")["added_tokens"]}
    generation = read_json(variant, "generation_config.json")
    assert generation["temperature"] == 0
    assert generation["eos_token_id"] == read_json(variant, "config.json")["eos_token_id"] == ids["<|im_end|>"]
    assert read_json(variant, "tokenizer_config.json")["eos_token"] == "<|im_end|>"
    assert "<|im_end|>" in (demo.path(variant) / "chat_template.jinja").read_text()


def test_the_variants_differ_in_their_name_only() -> None:
    a, b = (demo.answers(variant) for variant in demo.VARIANTS)
    assert list(a) == list(b)
    assert {question: answer.replace("demo-a", "demo-b") for question, answer in a.items()} == b
    assert a["Who are you?"].startswith("I am demo-a,")
    assert b["Who are you?"].startswith("I am demo-b,")
    for name in FILES - {"model.safetensors"}:
        assert (demo.path("demo-a") / name).read_bytes() == (demo.path("demo-b") / name).read_bytes()


@each_variant
def test_questions_suggested_by_an_answer_are_answered(variant: str) -> None:
    texts = {*demo.answers(variant).values(), demo.fallback()}
    suggested = {question for text in texts for question in re.findall(r"(?<=[:?] )[A-Z][^?:]*\?", text)}
    assert suggested <= set(demo.answers(variant))
    assert len(suggested) >= 5
