"""Safetensors headers: what a checkpoint holds, without reading its weights.

Layout (safetensors README, "Format"): 8 bytes little-endian header length N, N bytes of JSON, then the data.
"""

import os
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from selfhost import regular_file
from selfhost.catalog import json_text
from selfhost.catalog.files import serving_files
from selfhost.catalog.model import DTYPE_BYTES, Tensor
from selfhost.errors import SelfhostError

MAX_HEADER_BYTES = 100_000_000  # the format's own limit
MAX_INDEX_BYTES = 100_000_000
MAX_ELEMENTS = 2**50  # of one tensor: a petabyte
MAX_DIMENSIONS = 32


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
        with regular_file.opened(path) as file:
            size = os.fstat(file.fileno()).st_size
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(MAX_HEADER_BYTES, size - 8):
                raise ValueError("its header is longer than the file")
            header = json_text.parse(file.read(length))
        tensors, data_bytes = parse_header(header)
        if 8 + length + data_bytes != size:
            raise ValueError(f"it should be {8 + length + data_bytes} bytes long and is {size}")
    except OSError as error:
        raise SelfhostError(f"cannot read {path}: {error.strerror}", hint="is the download complete?") from error
    except struct.error:
        raise SelfhostError(f"{path} is damaged: it has no header", hint="download it again") from None
    except ValueError as error:
        raise SelfhostError(f"{path} is damaged: {error}", hint="download it again") from error
    return tensors


def parse_header(header: Any) -> tuple[tuple[Tensor, ...], int]:
    """The tensors of a header and the number of data bytes that must follow it; raises `ValueError` if unusable."""
    if not isinstance(header, Mapping):
        raise ValueError("its header is not a JSON object")
    entries = [_parse_entry(name, entry) for name, entry in header.items() if name != "__metadata__"]
    if not entries:
        raise ValueError("its header lists no tensor")
    reached = 0
    for tensor, begin in sorted(entries, key=lambda entry: (entry[1], entry[0].bytes)):
        if begin != reached:  # the format allows neither holes nor overlaps
            raise ValueError(f"the data of tensor {tensor.name!a:.80} do not begin where the ones before end")
        reached = begin + tensor.bytes
    return tuple(tensor for tensor, _ in entries), reached


def _parse_entry(name: str, entry: Any) -> tuple[Tensor, int]:
    """One tensor and where its data begin; everything about it must agree, for the file may come from anybody."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"tensor {name!a:.80} is not described by an object")
    dtype, shape, offsets = entry.get("dtype"), _sizes(entry.get("shape")), _sizes(entry.get("data_offsets"))
    if not isinstance(dtype, str) or dtype not in DTYPE_BYTES:
        raise ValueError(f"tensor {name!a:.80} has the unknown dtype {dtype!a:.20}")
    if shape is None:
        raise ValueError(f"tensor {name!a:.80} has no usable shape")
    if offsets is None or len(offsets) != 2:
        raise ValueError(f"tensor {name!a:.80} has no usable data_offsets")
    tensor = Tensor(name=name, dtype=dtype, shape=shape)
    begin, end = offsets
    if prod(shape) > MAX_ELEMENTS or tensor.bytes != end - begin:
        raise ValueError(f"tensor {name!a:.80} is not as large as its shape says")
    return tensor, begin


def _sizes(value: Any) -> tuple[int, ...] | None:
    """A list of sizes; None for everything else."""
    if not isinstance(value, list) or len(value) > MAX_DIMENSIONS:
        return None
    if not all(isinstance(size, int) and not isinstance(size, bool) and 0 <= size <= MAX_ELEMENTS for size in value):
        return None
    return tuple(value)


def _weight_files(folder: Path) -> list[str]:
    """What vLLM loads: the files of the index where there is one, else all (`model_loader/default_loader.py`)."""
    index = folder / "model.safetensors.index.json"
    try:
        return _indexed_files(json_text.parse(regular_file.read(index, limit=MAX_INDEX_BYTES)))
    except FileNotFoundError:
        pass
    except OSError as error:
        raise SelfhostError(f"cannot read {index}: {error.strerror}", hint="is the download complete?") from error
    except ValueError as error:
        raise SelfhostError(f"{index} is damaged: {error}", hint="download it again") from error
    return [name for name in serving_files(path.name for path in folder.iterdir()) if name.endswith(".safetensors")]


def _indexed_files(index: Any) -> list[str]:
    """The files that an index names, all of them beside it; raises `ValueError` if it is unusable."""
    weight_map = index.get("weight_map") if isinstance(index, Mapping) else None
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise ValueError("it has no weight_map")
    for name in weight_map.values():
        if not isinstance(name, str) or "/" in name or not name.isprintable() or not name.endswith(".safetensors"):
            shown = f"{name!a:.80}" if isinstance(name, str) else "something that is no text"
            raise ValueError(f"it names {shown}, which is no *.safetensors file in this folder")
    return sorted(set(weight_map.values()))
