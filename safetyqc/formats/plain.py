"""A value of a program or a table -> what JSON can hold, so that it is read like a line of a file.

What JSON has no word for comes as it prints; of bytes only their number, since no text is lost with them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from safetyqc.formats.json_values import Unreadable


def plain_value(value: Any) -> Any | Unreadable:
    """Bring a value, and all that it holds, to what JSON can hold; or say why that cannot be."""
    try:
        plain = _plain(value)
        json.dumps(plain, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        return Unreadable(0, "is nested too deep, or holds itself", "give messages with texts")
    except UnicodeEncodeError as error:
        half = f"\\u{ord(error.object[error.start]):04x}"
        what = f"holds half of a character ({half} without its other half)"
        return Unreadable(0, what, "cut texts by characters, not by bytes")
    return plain


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None  # an empty cell of a data frame
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    if hasattr(value, "tolist"):  # an array or a number of numpy
        return _plain(value.tolist())
    if type(value).__name__ in ("NAType", "NaTType"):  # pandas' empty cells
        return None
    return value.isoformat() if hasattr(value, "isoformat") else str(value)
