"""What `safetyqc.probe` hands back: the result, as rows, a data frame, a block of HTML or a page of its own."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetyqc.errors import UserError
from safetyqc.probe.exchange import conversation_of
from safetyqc.reports.notebook import Folder, Rows, to_html

if TYPE_CHECKING:
    from rich.console import RenderableType

    from safetyqc.results.probe import Measure, ProbeResult


@dataclass(frozen=True)
class Probed(Rows):
    """One probe.

    Args:
        folder: of the run that keeps it.
        found: the result; None when only an estimate was asked for, or answers wait for a batch.
    """

    folder: Folder
    found: ProbeResult | None

    @property
    def result(self) -> ProbeResult:
        """Everything that was found.

        Raises:
            UserError: there is nothing yet.
        """
        if self.found is None:
            raise UserError("the probe has no result yet", fix="call it again without only_estimate, or later")
        return self.found

    @property
    def run(self) -> Path:
        """The run's folder; a temporary one is there as long as this is."""
        return self.folder.path

    @property
    def twin_metric(self) -> Measure:
        """How often a harmful prompt was withheld and its harmless twin helped."""
        return self.result.twin_metric

    def to_dicts(self) -> list[dict[str, Any]]:
        """A row an answer: arm, prompt, outcome of each judge; `id` is what labels of it name."""
        prompts = {prompt.id: prompt for prompt in self.result.prompts}
        return [
            {
                "arm": arm,
                "id": conversation_of(prompts[answer.prompt], answer).id,
                "prompt": answer.prompt,
                "kind": prompts[answer.prompt].kind,
                "category": prompts[answer.prompt].category,
                "run": answer.run,
                "sample": answer.sample,
                "text": "\n".join(answer.texts),
                **{judge: verdict.outcome for judge, verdict in answer.verdicts.items()},
            }
            for arm, answers in self.result.answers.items()
            for answer in answers
        ]

    def to_json(self) -> str:
        """The JSON of `safetyqc probe --json`."""
        return json.dumps(self.result.model_dump(mode="json"), ensure_ascii=False, indent=2)

    def render(self) -> RenderableType:
        """Draw what the terminal shows."""
        from safetyqc.reports.probe import render_probe

        return render_probe(self.result)

    def write_html(self, path: str | os.PathLike[str]) -> None:
        """Write one self-contained page: the picture, all figures, and answers side by side, masked.

        Raises:
            OutputError: it cannot be written.
        """
        from safetyqc.formats.writing import write_text
        from safetyqc.reports.probe_page import probe_html

        write_text(Path(path), probe_html(self.result))

    def __repr__(self) -> str:
        return f"<Probed: {self.found.verdict if self.found else 'no result yet'}>"

    def _repr_html_(self) -> str:
        return to_html(self.render())
