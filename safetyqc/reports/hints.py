"""Words the commands that a run needs next so that they can be pasted: with its folder, its models and where they are.

MODEL and FILE in a command are the user's to choose: nobody is proposed as author of what others wrote, and no file
that is there already as one to write.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetyqc.formats.export.table import EXPORTERS
from safetyqc.judge.table import is_recorded
from safetyqc.llm.hosts import EMBEDDED, base_of

if TYPE_CHECKING:
    from safetyqc.records import RoleModel
    from safetyqc.store.roles import Cast


@dataclass(frozen=True)
class Hints:
    """The next commands of a run.

    Args:
        flags: `--run` and `--config`, with a space before each, as `Config.flags` gives them.
    """

    cast: Cast
    folder: Path
    flags: str = ""

    def command(self, *words: str) -> str:
        """A command of this run."""
        return shlex.join(("safetyqc", *words)) + self.flags

    def judge(self, *words: str) -> str:
        """Have the judge that decides look at what it has not seen; the embedded one where nobody decides yet."""
        decider = self.cast.roles.get("decider")
        if decider and is_recorded(decider.model):
            return self.judge_anew(*words)  # it has said all that it will
        return self.command("judge", *(_asking(decider) if decider else ("-m", EMBEDDED)), *words)

    def judge_anew(self, *words: str) -> str:
        """Have a judge of the user's choice decide."""
        return self.command("judge", "-m", "MODEL", "--decide", *words)

    def run(self, *words: str) -> str:
        """Do everything."""
        return self.command("run", *_asking(self.cast.author), *words)

    def generate(self, *words: str) -> str:
        """Have the run's author write."""
        return self.command("generate", *_asking(self.cast.author), *words)

    def rewrite(self, *words: str) -> str:
        """Have the run's rewriter mend what failed."""
        return self.command("rewrite", *_asking(self.cast.rewriter), *words)

    def augment(self, *words: str) -> str:
        """Have the run's rewriter vary what passed."""
        return self.command("augment", *words, *_asking(self.cast.rewriter))

    def export(self) -> str:
        """Export to where nothing is yet."""
        exporter = next(iter(EXPORTERS.values()))
        taken = (exporter.default_path() / exporter.file_name).exists() or (self.folder / "export").exists()
        return self.command("export", *(("FILE",) if taken else ()))


def _asking(who: RoleModel | None) -> tuple[str, ...]:
    """A model and where it is asked; its base URL is left out where the environment says the same."""
    if who is None:
        return ("-m", "MODEL")
    there = who.api_base if who.api_base != base_of(who.model, None) else None
    return ("-m", who.model, *(("--api-base", there) if there else ()))
