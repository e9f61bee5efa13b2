"""Reads who writes, mends and decides in a run, also in one of an earlier version, which remembers no roles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from safetyqc.llm.hosts import EMBEDDED
from safetyqc.records import RoleModel

if TYPE_CHECKING:
    from safetyqc.store.run import Store


@dataclass(frozen=True)
class Cast:
    """What a run knows of its roles: author, assistant, rewriter, decider.

    Args:
        others: what in the run the embedded model did not write, in words; None when there is nothing.
    """

    roles: Mapping[str, RoleModel]
    others: str | None = None

    @property
    def rewriter(self) -> RoleModel | None:
        """Who mends: somebody of its own, else the author; never the embedded model what it did not write."""
        who = self.roles.get("rewriter") or self.roles.get("author")
        return None if who and who.model == EMBEDDED and self.others else who

    @property
    def author(self) -> RoleModel | None:
        """Who writes; never the embedded model beside what it did not write."""
        who = self.roles.get("author")
        return None if who and who.model == EMBEDDED and self.others else who


def read_cast(store: Store) -> Cast:
    """The roles of a run, and what in it is not the embedded model's."""
    origins = {place.origin: place.id for place in store.placed() if place.origin != "canary"}
    roles = store.roles()
    if "author" not in roles and "generated" in origins:
        [written] = store.conversations({origins["generated"]})
        if written.author:
            roles["author"] = RoleModel(model=written.author)
    spec = store.meta("deciding_spec") or store.meta("deciding_judge")
    if "decider" not in roles and spec:
        roles["decider"] = RoleModel(model=spec)
    writers = [roles[role].model for role in ("author", "assistant", "rewriter") if role in roles]
    foreign = next((model for model in writers if model != EMBEDDED), None)
    if foreign:
        return Cast(roles, f"conversations by {foreign}")
    return Cast(roles, "conversations from a file" if "imported" in origins else None)
