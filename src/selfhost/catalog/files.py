"""Which files of a model repository serving needs; pure."""

from collections.abc import Iterable
from fnmatch import fnmatch

# What vLLM reads: weights as safetensors only (a pickle runs code when it is opened), configs, tokenizer, template.
NEEDED = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.tiktoken", "merges.txt", "vocab.txt")

# The same weights once more in another layout: Meta's and Mistral's originals, PyTorch and Flax exports.
DUPLICATES = ("consolidated*.safetensors", "*.bin.index.json", "*.msgpack.index.json", "params.json")


def serving_files(paths: Iterable[str]) -> tuple[str, ...]:
    """The files to fetch, sorted: top-level ones only, since sub-folders hold other formats (`original/`, `onnx/`)."""
    return tuple(sorted(path for path in paths if "/" not in path and _is_needed(path)))


def _is_needed(path: str) -> bool:
    return any(fnmatch(path, pattern) for pattern in NEEDED) and not any(
        fnmatch(path, pattern) for pattern in DUPLICATES
    )
