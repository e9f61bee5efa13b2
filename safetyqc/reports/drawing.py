"""What the terminal faces share: colours for any background, bars, harmless text, tables that fit 80 columns.

Needs rich, so it is imported by those faces alone. Colours are mid-tones that can be read on white and on black, and
never the only sign: a mark or a number says the same. Every string of a run must pass through
`say`, which removes control characters and keeps rich from reading it as markup.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from safetyqc.reports.openings import mask_opening
from safetyqc.reports.wording import split_quotes, tell_refusals
from safetyqc.results.openings import RefusalOpenings
from safetyqc.text import mask, shorten

GOOD, WARN, BAD, ACCENT, FAINT = "#22995f", "#b7791f", "#d64545", "#2f7fd6", "#7d7d7d"
MARKS = {"good": ("✓", GOOD), "warning": ("!", WARN), "bad": ("✗", BAD), "hint": ("›", ACCENT), "none": ("·", FAINT)}


def say(text: object, style: str = "", width: int = 400) -> Text:
    """Any string as one harmless line."""
    return Text(shorten(str(text), width), style=style)


def masked(text: str, *, unmask: bool, width: int = 160) -> Text:
    """Harmful text: its first words only, unless it was asked for."""
    line = shorten(text, width)
    return Text(line if unmask else mask(line), style="italic")


def begins(text: str, *, unmask: bool, width: int = 44) -> Text:
    """How answers begin: what they are about is masked unless it was asked for, courtesy and grammar are not."""
    line = shorten(text, width)
    return Text(line if unmask else mask_opening(line), style="italic")


def reasoned(text: str, *, unmask: bool, width: int = 150) -> Text:
    """A judge's reason; what it quotes may be as harmful as its source, so quotes are masked like it."""
    line = shorten(text, width)
    return Text("".join(mask(part) if quoted and not unmask else part for part, quoted in split_quotes(line)))


def mark(kind: str) -> Text:
    """A sign that means the same with and without colour."""
    sign, style = MARKS[kind]
    return Text(sign, style=f"bold {style}")


@dataclass(frozen=True)
class Bar:
    """A horizontal bar that fills what width it gets: heavy parts as (share of the whole, style), the rest thin."""

    parts: Sequence[tuple[float, str]]
    widest: int = 60

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it; plain ASCII where the terminal knows nothing else."""
        width = min(options.max_width, self.widest)
        heavy, second, rest = ("#", "=", ".") if options.ascii_only else ("━", "╍", "─")
        used = 0
        for index, (share, style) in enumerate(self.parts):
            cells = min(round(share * width), width - used)
            if share > 0 and cells == 0 and used < width:
                cells = 1  # something is there: never draw it as nothing
            yield Segment((second if index else heavy) * cells, Style.parse(style))
            used += cells
        yield Segment(rest * (width - used), Style.parse(FAINT))
        yield Segment.line()

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        """At least six cells, at most its widest."""
        return Measurement(6, min(options.max_width, self.widest))


@dataclass(frozen=True)
class Command:
    """A command to paste: broken with backslashes where the width asks for it, never inside a word."""

    text: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it, later lines indented."""
        lines = [""]
        for word in shorten(self.text, 4000).split(" "):
            if lines[-1] and cell_len(lines[-1]) + cell_len(word) + 3 > options.max_width:
                lines[-1] += " \\"
                lines.append("  " + word)
            else:
                lines[-1] += (" " if lines[-1] else "") + word
        for line in lines:
            yield Text(line, style=f"bold {ACCENT}", overflow="fold")


def table(*headings: str, numbers: Iterable[int] = (), wide: int | None = None) -> Table:
    """An unframed table; `numbers` are the columns that align right, `wide` is the one that takes the free width."""
    made = Table(box=None, padding=(0, 2, 0, 0), header_style=f"not bold {FAINT}", expand=wide is not None)
    right = set(numbers)
    for index, heading in enumerate(headings):
        made.add_column(
            Text(heading),
            justify="right" if index in right else "left",
            ratio=1 if index == wide else None,
            no_wrap=index in right or (index == 0 and bool(right) and wide != 0),
        )
    return made


def block(title: str, *parts: RenderableType | None, note: str = "") -> RenderableType:
    """A titled section with its parts below each other; an empty line before it."""
    heading = Text(title, style=f"bold {ACCENT}")
    legend = Text(shorten(note, 300), style=FAINT) if note else None
    return Group(Text(), heading, *(Padding(part, (0, 0, 0, 2)) for part in (legend, *parts) if part is not None))


def refusals_told(found: RefusalOpenings) -> Text | None:
    """How varied the refusals begin; None where there are none."""
    said = tell_refusals(found)
    if not said:
        return None
    return Text.assemble(mark("bad"), " ", (said, BAD)) if found.collapsed else Text(said, style=FAINT)


def fits(texts: Iterable[str]) -> int:
    """Terminal cells of the widest of these; a Chinese character takes two."""
    return max((cell_len(text) for text in texts), default=0)
