"""What a model is: its architecture as the planner needs it, and the checkpoint that holds its weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from math import prod

# Bytes per element of the dtypes that safetensors can hold (safetensors README, "Format").
DTYPE_BYTES = {
    "F64": 8.0,
    "F32": 4.0,
    "F16": 2.0,
    "BF16": 2.0,
    "I64": 8.0,
    "I32": 4.0,
    "I16": 2.0,
    "I8": 1.0,
    "U64": 8.0,
    "U32": 4.0,
    "U16": 2.0,
    "U8": 1.0,
    "BOOL": 1.0,
    "F8_E4M3": 1.0,
    "F8_E5M2": 1.0,
    "F8_E8M0": 1.0,
    "F4": 0.5,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """A decoder whose every layer is plain (full, causal) attention; names as in Hugging Face's config.json."""

    architecture: str  # "Qwen3ForCausalLM"
    num_hidden_layers: int
    hidden_size: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    max_model_len: int  # tokens: the longest request the model was made for
    dtype: str  # of activations and KV cache: "bfloat16" or "float16"
    rotary_dim: int  # elements per position in the rotary cache
    max_position_embeddings: int
    tie_word_embeddings: bool
    quantization: str | None  # `quantization_config.quant_method`


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor of a checkpoint, as its safetensors header describes it."""

    name: str
    dtype: str  # "BF16"
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        """Size as stored."""
        return round(prod(self.shape) * DTYPE_BYTES[self.dtype])


class CheckpointKind(StrEnum):
    """Where a checkpoint comes from."""

    BUILT_IN = "built-in"
    LOCAL = "local"
    HUB = "hub"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointRef:
    """Which weights: enough to find them again, byte for byte."""

    kind: CheckpointKind
    location: str  # variant of the built-in model, absolute folder, or Hub repository id
    revision: str | None = None  # 40-hex commit of a Hub repository
    total_bytes: int  # of the files that serving needs

    @property
    def label(self) -> str:
        """How people call it: `Qwen/Qwen3-8B@b968826`."""
        return f"{self.location}@{self.revision[:7]}" if self.revision else self.location


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A checkpoint with all that planning needs to know of it."""

    ref: CheckpointRef
    spec: ModelSpec
    tensors: tuple[Tensor, ...]
    engine_args: Mapping[str, bool | int | str] = field(default_factory=dict)  # what the catalogue recommends
