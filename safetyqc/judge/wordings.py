"""Ways to word one and the same rubric question: the shipped one, paraphrases of all of it, and other orders.

A judge's word that changes with them is its own noise. Every paraphrase is a pair of files in `prompts/wordings/`, a
full rendering of the question with all that the rubric says; a new pair there is one more. The bundled rubrics'
questions themselves are paraphrased too (`questions.yaml`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from safetyqc.prompts import prompt_hash
from safetyqc.records import content_hash

if TYPE_CHECKING:
    from safetyqc.rubrics import Criterion

_FOLDER = "wordings"
_SYSTEM = "_system.txt"


@dataclass(frozen=True)
class Wording:
    """One way to word a question.

    Args:
        prompt: what the two prompt files are called, without `_system` and `_user`.
        reverse: what stands in the reverse order: `levels` of each question, or the `questions`.
    """

    name: str = "shipped"
    prompt: str = "judge"
    reverse: str = ""

    @property
    def hash(self) -> str:
        """Of the texts and the order; the rubric has its own."""
        own = [prompt_hash(f"{self.prompt}_system"), prompt_hash(f"{self.prompt}_user")]
        questions = [_read_questions()] if self.prompt != SHIPPED.prompt else []
        return content_hash([*own, *questions, *([self.reverse] if self.reverse else [])])[:16]

    def reword(self, criterion: Criterion) -> Criterion:
        """A criterion as its prompt is to show it; its levels stay the same ones."""
        if self.reverse == "levels":
            return criterion.model_copy(update={"levels": criterion.levels[::-1]})
        said = _questions().get(criterion.question, {}).get(self.name)
        return criterion.model_copy(update={"question": said}) if said else criterion


SHIPPED = Wording()
ORDERS = (Wording("levels reversed", reverse="levels"), Wording("questions reversed", reverse="questions"))


@cache
def paraphrases() -> tuple[Wording, ...]:
    """Every paraphrase that is shipped."""
    found = (entry.name for entry in (files("safetyqc.prompts") / _FOLDER).iterdir())
    names = sorted(name.removesuffix(_SYSTEM) for name in found if name.endswith(_SYSTEM))
    return tuple(Wording(name, f"{_FOLDER}/{name}") for name in names)


@cache
def _read_questions() -> str:
    return (files("safetyqc.prompts") / _FOLDER / "questions.yaml").read_text(encoding="utf-8")


@cache
def _questions() -> dict[str, dict[str, str]]:
    """Question as a rubric has it -> wording's name -> the question in other words."""
    import yaml

    return {entry["question"]: entry for entry in yaml.safe_load(_read_questions())}
