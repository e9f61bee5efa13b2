"""Refits the embedded judge on label files, and words how well it then does on what it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


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
    from safetyqc.judge.embedded.training import train

    conversations = [c for path in label_files for c in read_conversations(path).conversations]
    labels = [label for path in label_files for label in read_labels(path, conversations)]
    weights = train(conversations, labels, base=None if from_scratch else load_weights())
    write_text(out, weights.model_dump_json(indent=1) + "\n", force=force)
    lines = [f"wrote {out}, trained on {len(conversations):,} conversations and {len(labels):,} labels"]
    for name, criterion in weights.criteria.items():
        figures = criterion.figures
        kappa = "kappa not known" if figures.kappa is None else f"kappa {figures.kappa:.2f}"
        if figures.kappa_low is not None and figures.kappa_high is not None:
            kappa += f" ({figures.kappa_low:.2f} to {figures.kappa_high:.2f})"
        word = "" if criterion.reliable else "; not better than chance for sure, so it stays unscored"
        lines.append(f"  {name}: {kappa} on {figures.n:,} held-out labels{word}")
    return lines
