"""Refits the embedded judge on label files, and words how well it then does on what it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.judge.embedded.model import Scale

TOO_FEW = "  too few labels of any criterion to measure it on: its thresholds are still those that were shipped"


def train_on_files(
    label_files: Sequence[Path], out: Path, *, from_scratch: bool = False, force: bool = False
) -> list[str]:
    """Train on conversations that carry labels, write the weights, and tell the figures measured on held-out parts.

    Raises:
        InputError: a file cannot be read or holds no label.
        UserError: too few labels of any criterion.
        OutputError: `out` is there already and `force` is False.
    """
    from safetyqc.formats.labels import read_labels
    from safetyqc.formats.readers import read_conversations
    from safetyqc.formats.writing import write_text
    from safetyqc.judge.embedded.model import load_weights
    from safetyqc.judge.embedded.training import read_cases, train

    conversations = [c for path in label_files for c in read_conversations(path).conversations]
    labels = [label for path in label_files for label in read_labels(path, conversations)]
    base = None if from_scratch else load_weights()
    cases = read_cases(conversations, labels)
    weights = train(cases, base=base)
    write_text(out, weights.model_dump_json(indent=1) + "\n", force=force)
    cells = sum(len(case.labels) for case in cases)
    lines = [f"wrote {out}, trained on {counted(len(cases), 'conversation')} and {counted(cells, 'label')}"]
    before = base.scales if base else {}
    found = [_told(key, scale) for key, scale in weights.scales.items() if before.get(key) != scale]
    return [*lines, *(found or [TOO_FEW])]


def _told(key: str, scale: Scale) -> str:
    """How one criterion did on the parts of the files that were left out, split by request."""
    name, known, language = key.split("/")
    figures, knowing = scale.figures, "not known" if known == "unknown" else f"known as {known}"
    told = f"  {name} ({language}, intent {knowing}): "
    if figures.accuracy is None:
        return f"{told}{counted(figures.n, 'held-out label')} show no threshold to trust it from; unscored"
    return (
        f"{told}speaks on {figures.coverage:.0%} of {counted(figures.n, 'held-out label')} "
        f"and is right on {figures.accuracy:.1%} of those"
    )
