from __future__ import annotations

from pathlib import Path

from safetyqc.store import Store


def test_probes_and_their_answers_come_back_and_later_answers_replace_earlier_ones(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.put_probe("base", {"model": "m"})
        store.put_probe_answers("base", {"p1": {"text": "no"}, "p2": {"text": "好"}}).result()
        store.put_probe_answers("base", {"p1": {"text": "yes"}}).result()
        store.put_probe_answers("other", {"p1": {}}).result()
        assert store.probes() == {"base": {"model": "m"}}
        assert store.probe_answers("base") == {"p1": {"text": "yes"}, "p2": {"text": "好"}}
        store.put_probe("base", {"model": "n"})
        assert len(store.probe_answers("base")) == 2
