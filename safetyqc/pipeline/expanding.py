"""Has a model propose additions to a taxonomy, all categories at once, and writes what came back as a file to edit.

A category for which nothing usable came back is told and left out. What is written extends the taxonomy that was read.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from safetyqc.errors import ModelError, UserError
from safetyqc.formats.writing import write_text
from safetyqc.generate.entries import Language
from safetyqc.generate.expansion import Expander, Wanted
from safetyqc.generate.taxonomy import OWN, Taxonomy
from safetyqc.llm.hosts import own_base
from safetyqc.pipeline.choices import author_model

if TYPE_CHECKING:
    from safetyqc.pipeline.session import Session

_HEADER = """\
# Proposed by {model}. Read every line before you use it: openers name a wish and never hold operational detail, and the
# nth benign opener is the harmless twin of the nth harmful one. Then: safetyqc taxonomy validate {path}
"""


@dataclass(frozen=True)
class Proposal:
    """What was proposed: values in the form of a file, and why a category is missing from them."""

    values: dict[str, Any]
    failed: dict[str, str]

    @property
    def topics(self) -> int:
        """How many topics are new or got openers."""
        return sum(len(category["topics"]) for category in self._categories())

    def _categories(self) -> list[dict[str, Any]]:
        ordinary = self.values.get("ordinary")
        return [*self.values.get("categories", []), *([ordinary] if ordinary else [])]


async def propose(
    session: Session,
    taxonomy: Taxonomy,
    categories: Sequence[str],
    wanted: Wanted,
    *,
    languages: Sequence[Language] = (),
    into: Language | None = None,
) -> Proposal:
    """Ask for new topics in these languages, or with `into` for openers of the topics that are there; one call each.

    Raises:
        UserError: nothing usable came back for any category.
    """
    config, model = session.config, author_model(session.config)
    base = own_base(model, config.models.api_base)
    expander = Expander(taxonomy, session.mapper.context.client, model, base)
    asked = [taxonomy.category(name) for name in categories]
    calls = [expander.language(c, into) if into else expander.topics(c, languages, wanted) for c in asked]
    found = await asyncio.gather(*calls, return_exceptions=True)
    failed: dict[str, str] = {}
    values: dict[str, Any] = {"categories": []}
    for category, told in zip(asked, found, strict=True):
        if isinstance(told, ModelError):
            failed[category.name] = f"{told.kind}: {told.reason}"
        elif isinstance(told, BaseException):
            raise told
        elif told and category is taxonomy.ordinary:
            values["ordinary"] = told
        elif told:
            values["categories"].append(told)
    if not any(values.values()):
        why = "; ".join(f"{name}: {reason}" for name, reason in failed.items()) or "there is nothing to add"
        raise UserError(f"nothing usable was proposed: {why}", fix="try another -m MODEL")
    if into and into.name not in {language.name for language in taxonomy.languages}:
        values = {"languages": [into.model_dump(mode="json")]} | values
    return Proposal(values, failed)


def write_proposal(proposal: Proposal, path: Path, extends: Path | None, model: str, *, force: bool) -> None:
    """Write what was proposed as a file that extends a taxonomy; None: the bundled one.

    Raises:
        OutputError: the file is there already, or cannot be written.
    """
    base = OWN if extends is None else Path(os.path.relpath(extends.resolve(), path.resolve().parent)).as_posix()
    values = {"extends": base} | proposal.values
    text = yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=120)
    write_text(path, _HEADER.format(model=model, path=path) + text, force=force)
