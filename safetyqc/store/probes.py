"""What a run remembers of probes: which were made of a model, and the answers; JSON values of the prober's own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from safetyqc.llm.client import fast_json
from safetyqc.store.opened import OpenedRun


class ProbedRun(OpenedRun):
    """The tables `probes` and `probe_answers`."""

    def put_probe(self, name: str, body: Any) -> None:
        """Remember a probe, in place of one of that name; its answers stay."""
        row = (name, time.time(), fast_json(body).decode())
        self._write("INSERT OR REPLACE INTO probes (id, at, body) VALUES (?, ?, ?)", [row]).result()

    def probes(self) -> dict[str, Any]:
        """The probes by their names, the oldest first."""
        found = self._rows("SELECT id, body FROM probes ORDER BY at, id")
        return {name: self._json(body, "probes") for name, body in found}

    def put_probe_answers(self, probe: str, answers: Mapping[str, Any]) -> Future[int]:
        """Add answers by their keys, in place of those of the same keys."""
        rows = [(probe, key, fast_json(body).decode()) for key, body in answers.items()]
        return self._write("INSERT OR REPLACE INTO probe_answers (probe, key, body) VALUES (?, ?, ?)", rows)

    def probe_answers(self, probe: str) -> dict[str, Any]:
        """All answers of a probe by their keys, in the order of the keys."""
        found = self._rows("SELECT key, body FROM probe_answers WHERE probe = ? ORDER BY key", (probe,))
        return {key: self._json(body, "probe_answers") for key, body in found}
