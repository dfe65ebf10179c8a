"""Safetensors headers: what a checkpoint holds, without reading its weights.

Layout (safetensors README, "Format"): 8 bytes little-endian header length N, N bytes of JSON, then the data.
"""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selfhost.catalog.files import serving_files
from selfhost.catalog.model import DTYPE_BYTES, Tensor
from selfhost.errors import SelfhostError

MAX_HEADER_BYTES = 100_000_000  # the format's own limit


def read_folder(folder: Path) -> tuple[Tensor, ...]:
    """The tensors of all safetensors files that serve the model in `folder`.

    Raises `SelfhostError` when a file is missing, truncated or no safetensors.
    """
    names = _weight_files(folder)
    if not names:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in {".bin", ".pt", ".pth"})
        if pickles:
            raise SelfhostError(
                f"{folder} holds its weights as pickle ({pickles[0]}), which can run code when it is opened",
                hint="convert it to safetensors; selfhost serves nothing else",
            )
        raise SelfhostError(f"{folder} holds no *.safetensors file", hint="is the download complete?")
    return tuple(tensor for name in names for tensor in read_file(folder / name))


def read_file(path: Path) -> tuple[Tensor, ...]:
    """The tensors of one file; raises `SelfhostError` when it is truncated or no safetensors."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER_BYTES, size - 8):
                raise ValueError("its header is longer than the file")
            header = json.loads(file.read(length))
        tensors, data_bytes = parse_header(header)
        if 8 + length + data_bytes != size:
            raise ValueError(f"it should be {8 + length + data_bytes} bytes long and is {size}")
    except OSError as error:
        raise SelfhostError(f"cannot read {path}: {error.strerror}", hint="is the download complete?") from error
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise SelfhostError(f"{path} is damaged: {error}", hint="download it again") from error
    return tensors


def parse_header(header: Mapping[str, Any]) -> tuple[tuple[Tensor, ...], int]:
    """The tensors of a header and the number of data bytes that must follow it; raises `ValueError` if unusable."""
    if not isinstance(header, Mapping):
        raise ValueError("its header is not a JSON object")
    tensors, end = [], 0
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        if entry["dtype"] not in DTYPE_BYTES:
            raise ValueError(f"tensor {name} has the unknown dtype {entry['dtype']}")
        tensors.append(Tensor(name=name, dtype=entry["dtype"], shape=tuple(entry["shape"])))
        end = max(end, entry["data_offsets"][1])
    return tuple(tensors), end


def _weight_files(folder: Path) -> list[str]:
    """What vLLM loads: the files of the index where there is one, else all (`model_loader/default_loader.py`)."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            return sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SelfhostError(f"{index} is damaged: {error}", hint="download it again") from error
    return [name for name in serving_files(path.name for path in folder.iterdir()) if name.endswith(".safetensors")]
