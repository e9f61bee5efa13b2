"""How results show themselves in Python: plain rows, a data frame, a block of HTML; and how long a temporary run lives.

Neither pandas nor rich is imported before something asks for it.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetyqc.errors import UserError

if TYPE_CHECKING:
    from pandas import DataFrame
    from rich.console import RenderableType

_SHOWN = 5


class Folder:
    """A run's folder; a temporary one is removed with the last object that holds this, or when Python ends."""

    def __init__(self, path: Path | None = None) -> None:
        self.is_temporary = path is None
        self.path = path or Path(tempfile.mkdtemp(prefix="safetyqc-"))
        if self.is_temporary:
            weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def to_html(renderable: RenderableType, left_out: Sequence[str] = ()) -> str:
    """What the terminal would show, as HTML with every character of a conversation escaped.

    Args:
        left_out: what was skipped, a line each; said first, so that nobody overlooks it.
    """
    from rich.console import Console, Group

    from safetyqc.reports.drawing import WARN, say

    lines = [say(f"skipped {line}", WARN) for line in left_out[:_SHOWN]]
    lines += [say(f"and {len(left_out) - _SHOWN:,} more, in .skipped", WARN)] if len(left_out) > _SHOWN else []
    console = Console(record=True, file=StringIO(), width=100, highlight=False)
    console.print(Group(*lines, renderable))
    style = "font-family:monospace;line-height:1.3;white-space:pre;overflow-x:auto"
    return console.export_html(inline_styles=True, code_format=f'<pre style="{style}">{{code}}</pre>')


class Rows:
    """Something that is a list of plain dictionaries, and a data frame."""

    def to_dicts(self) -> list[dict[str, Any]]:
        """The same as plain dictionaries, ready for JSON."""
        raise NotImplementedError

    def to_pandas(self) -> DataFrame:
        """The same as a pandas DataFrame.

        Raises:
            UserError: pandas is not installed.
        """
        try:
            from pandas import DataFrame
        except ImportError as error:
            fix = "pip install pandas, or take .to_dicts()"
            raise UserError("to_pandas() needs pandas, which is not installed", fix=fix) from error
        return DataFrame(self._table())

    def _table(self) -> list[dict[str, Any]]:
        """Rows with one value a column."""
        return self.to_dicts()
