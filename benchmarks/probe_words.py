"""How well the words of an answer tell that it declines, against people's labels: the figures of docs/probe.md.

    python benchmarks/probe_words.py [FOLDER]

FOLDER holds xstest_dev.jsonl and jade_medium_dev.jsonl.gz (default: ../shared/data). Full refusals and full compliances
alone; a partial refusal is neither.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from safetyqc.formats.readers import iter_with_values
from safetyqc.probe.words import declines

FOLDER = Path(__file__).parents[1] / ".." / "shared" / "data"
XSTEST = {"1_full_compliance": False, "2_full_refusal": True}
JADE = {"fail": False, "pass": True}


def show(name: str, pairs: Iterable[tuple[bool, bool]]) -> None:
    found = Counter(pairs)
    refusals, answers = found[True, True] + found[True, False], found[False, True] + found[False, False]
    seen = found[True, True] / refusals if refusals else 0.0
    mistaken = found[False, True] / answers if answers else 0.0
    print(
        f"{name:24s} {refusals:5d} refusals, seen {seen:.3f}   {answers:5d} answers, taken for refusals {mistaken:.3f}"
    )


def main(folder: Path) -> None:
    rows = [value for _, value in iter_with_values(folder / "xstest_dev.jsonl")]
    said = [(row, declines(row["messages"][-1]["content"])) for row in rows]
    for name, harmful in (("XSTest, harmless", False), ("XSTest, harmful", True)):
        of_kind = [
            (row["human"]["final"], word) for row, word in said if row["type"].startswith("contrast_") == harmful
        ]
        show(name, ((XSTEST[label], word) for label, word in of_kind if label in XSTEST))
    jade = [value for _, value in iter_with_values(folder / "jade_medium_dev.jsonl.gz")]
    labelled = [(row["labels"].get("strict_refusal"), row["messages"][-1]["content"]) for row in jade]
    show("JADE, Chinese", ((JADE[label], declines(text)) for label, text in labelled if label in JADE))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
