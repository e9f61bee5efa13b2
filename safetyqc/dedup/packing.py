"""Named arrays and a few words about them, packed into bytes that a run stores, and back.

For what can be worked out again: bytes that are damaged or of another format are as good as none. Loads numpy: import
it late.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from safetyqc.dedup.rows import Array
from safetyqc.dedup.vocabulary import UNREADABLE


def pack(head: Mapping[str, Any], arrays: Mapping[str, Array]) -> bytes:
    """Pack arrays under their names, with a head of JSON values."""
    buffer = io.BytesIO()
    columns: dict[str, Any] = {"head": np.frombuffer(json.dumps(head).encode(), np.uint8), **arrays}
    np.savez(buffer, **columns)
    return buffer.getvalue()


def unpack(data: bytes | None, format_: int) -> tuple[dict[str, Any], dict[str, Array]] | None:
    """Unpack what `pack` made with this `format` in its head; None where it is anything else."""
    try:
        with np.load(io.BytesIO(data or b""), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
            head = json.loads(arrays.pop("head").tobytes())
    except UNREADABLE:
        return None
    return (head, arrays) if head.get("format") == format_ else None
