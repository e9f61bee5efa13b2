"""Arrays in one file that is opened by mapping it: only what is used of it is ever read.

A file is written whole or not at all and never changed. What is remembered of it elsewhere (`Written`) tells later
whether it is still the same one, by its checksum: compiled loops trust what they read there, and a flipped bit could
send them anywhere. Loads numpy: import it late.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from safetyqc.dedup.rows import Array
from safetyqc.formats.writing import replacing

_ALIGNED = 64
_CHUNK = 1 << 24


@dataclass(frozen=True)
class Written:
    """One file of arrays as it was when it was written."""

    name: str
    size: int
    checksum: int

    def is_still_at(self, folder: Path) -> bool:
        """Whether the file is there and holds what was written."""
        try:
            path = folder / self.name
            return path.stat().st_size == self.size and _checksum(path) == self.checksum
        except (OSError, ValueError):  # ValueError: there is nothing in it
            return False


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> Written:
    """Write arrays to a new file.

    Raises:
        OutputError: it cannot be written, such as on a full disk.
    """
    head, checksum = _head(arrays), 0
    with replacing(path) as file:
        for part in _parts(head, arrays):
            checksum = zlib.crc32(part, checksum)
            file.write(part)
    return Written(path.name, path.stat().st_size, checksum)


def map_arrays(path: Path) -> dict[str, Array]:
    """Map the arrays of a file that `write_arrays` wrote; changing them changes no file."""
    whole = np.memmap(path, np.uint8, mode="c").view(np.ndarray)
    length = int(whole[:8].view(np.int64)[0])
    start, out = _aligned(8 + length), dict[str, Array]()
    for name, kind, shape in json.loads(whole[8 : 8 + length].tobytes()):
        dtype = np.lib.format.descr_to_dtype(_descr(kind))
        size = dtype.itemsize * int(np.prod(shape))
        out[name] = whole[start : start + size].view(dtype).reshape(shape)
        start += _aligned(size)
    return out


def _head(arrays: Mapping[str, Array]) -> bytes:
    kinds = [(name, np.lib.format.dtype_to_descr(array.dtype), array.shape) for name, array in arrays.items()]
    text = json.dumps(kinds).encode()
    return len(text).to_bytes(8, "little") + text


def _descr(kind: Any) -> Any:
    """What JSON has made of the description of a type: lists where there were tuples."""
    return [tuple(field) for field in kind] if isinstance(kind, list) else kind


def _parts(head: bytes, arrays: Mapping[str, Array]) -> Iterator[Any]:
    yield head.ljust(_aligned(len(head)), b"\0")
    for array in arrays.values():
        flat: Any = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        data = memoryview(flat)
        yield from (data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK))
        yield bytes(_aligned(len(data)) - len(data))


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _checksum(path: Path) -> int:
    mapped: Any = np.memmap(path, np.uint8, mode="r")  # half the time of reading it in pieces
    return zlib.crc32(mapped)
