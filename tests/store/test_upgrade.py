"""A run that an earlier version made opens: the same records, ids, standings and ledger, whoever looks and however."""

from __future__ import annotations

import gzip
import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from safetyqc.errors import RunError
from safetyqc.records import conversation_id
from safetyqc.store import FILE_NAME, FORMAT, Store, Verdict
from safetyqc.store import upgrade as upgrade_module
from safetyqc.store.standing import read_standings

KEPT = Path(__file__).parent / "kept"
"""A run of format 2: generated and imported, judged by an LLM and `local`, filtered, deduplicated, rewritten, labelled,
with failures and a batch; and where everything stood in it."""
JUDGE, RENAMED = "openai/some-judge", "openai/some-judge at 127.0.0.1:8431"


def old_run(folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    folder.mkdir()
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.executescript(gzip.decompress((KEPT / "format-2.sql.gz").read_bytes()).decode())
        for table in without:
            connection.execute(f"DROP TABLE {table}")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.commit()
    return folder


def rows(folder: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        return connection.execute(sql).fetchall()


Opening = Callable[[Path], Store]
either_way = pytest.mark.parametrize("opened", [Store.read, Store.open], ids=["read", "open"])


@either_way
@pytest.mark.parametrize("without", [(), ("matches", "arrays")], ids=["whole", "before matches and arrays"])
def test_everything_stands_where_it_stood(tmp_path: Path, opened: Opening, without: tuple[str, ...]) -> None:
    folder = old_run(tmp_path / "run", without=without)
    expected = json.loads((KEPT / "format-2.standings.json").read_text())
    with opened(folder) as store:
        for judge, name in ((JUDGE, RENAMED), ("local", "local")):
            found = {i: [s.status, s.reason.replace(RENAMED, JUDGE)] for i, s in read_standings(store, name).items()}
            assert found == expected[judge]
        assert list(store.matches()) == []
        assert store.packed("pairs") is None


@either_way
def test_a_system_message_that_was_kept_as_metadata_stays_there(tmp_path: Path, opened: Opening) -> None:
    folder = old_run(tmp_path / "run")
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        told = "UPDATE conversations SET body = json_set(body, '$.meta.system', 'You are a nurse.')"
        connection.execute(told + " WHERE json_extract(body, '$.origin') = 'imported'")
        connection.commit()
    before = {row[0] for row in rows(folder, "SELECT id FROM conversations")}
    with opened(folder) as store:
        found = [c for c in store.conversations() if c.origin == "imported"]
        assert found
        assert {(c.system, c.meta["system"]) for c in found} == {(None, "You are a nurse.")}
        assert {c.id for c in store.conversations()} == before


@either_way
def test_records_and_their_ids_are_what_they_were(tmp_path: Path, opened: Opening) -> None:
    folder = old_run(tmp_path / "run")
    bodies = [body for (body,) in rows(folder, "SELECT body FROM conversations ORDER BY seq")]
    with opened(folder) as store:
        conversations = list(store.conversations())
        assert [c.model_dump_json() for c in conversations] == bodies
        salts = {"imported": ("", "copy 1", "copy 2"), "rewritten": ()}
        for c in conversations:
            made = [conversation_id(c.messages, s) for s in ((c.scenario.id,) if c.scenario else salts[c.origin])]
            assert c.id in made or c.origin == "rewritten"
        placed = list(store.placed())
        assert [(p.id, p.origin, p.parent_id, p.category, p.intent) for p in placed] == [
            (c.id, c.origin, c.parent_id, c.category, c.intent) for c in conversations
        ]
        failures, rewrites = list(store.failures()), list(store.rewrites())
        assert len(failures) > 0
        assert {r.judge for r in rewrites} == {RENAMED}
        [batch] = store.batches()
        assert batch.status == "collected"


@either_way
def test_the_columns_of_a_judgment_are_those_that_a_new_one_gets(tmp_path: Path, opened: Opening) -> None:
    with opened(old_run(tmp_path / "run")) as store:
        for judge in (RENAMED, "local"):
            judgments = list(store.judgments(judge))
            found = store.verdicts(judge, judgments[0].rubric_hash)
            assert len(found) == len(judgments) > 20
            for judgment in judgments:
                told, expected = found[judgment.conversation_id], Verdict.of(judgment)
                assert told._replace(mean=0) == expected._replace(mean=0)
                assert told.mean == pytest.approx(expected.mean)
        assert store.judges()[0][0] == RENAMED == store.meta("deciding_judge")


@either_way
def test_labels_keep_their_words_and_have_no_time(tmp_path: Path, opened: Opening) -> None:
    with opened(old_run(tmp_path / "run")) as store:
        labels = list(store.labels())
        assert sorted((x.criterion, x.outcome, x.annotator) for x in labels) == [
            ("empathy", "na", "ann"), ("no_dangerous_steps", "fail", "human"), ("no_dangerous_steps", "pass", "ann"),
        ]  # fmt: skip
        assert {x.at for x in labels} == {None}
        assert list(store.label_history()) == labels


def test_a_reader_writes_nothing(tmp_path: Path) -> None:
    folder = old_run(tmp_path / "run")
    before = (folder / FILE_NAME).read_bytes()
    with Store.read(folder) as store:
        read_standings(store)
    assert (folder / FILE_NAME).read_bytes() == before
    assert rows(folder, "SELECT value FROM meta WHERE key = 'format'") == [("2",)]


def test_a_reader_of_an_old_run_goes_on_when_somebody_brings_it_up_to_date(tmp_path: Path) -> None:
    folder = old_run(tmp_path / "run")
    with Store.read(folder) as reader:
        before = read_standings(reader)
        with Store.open(folder) as store:
            assert read_standings(store) == before
        assert read_standings(reader) == before


def test_what_is_opened_for_writing_is_of_the_present_format_and_like_a_new_run(tmp_path: Path) -> None:
    folder = old_run(tmp_path / "run", without=("matches",))
    Store.open(folder).close()
    Store.create(tmp_path / "new").close()
    tables = "SELECT type, name, sql FROM sqlite_master WHERE sql <> '' ORDER BY name"
    assert rows(folder, "SELECT value FROM meta WHERE key = 'format'") == [(str(FORMAT),)]
    assert [" ".join(map(str, row)) for row in rows(folder, tables)] == [
        " ".join(map(str, row)) for row in rows(tmp_path / "new", tables)
    ]
    assert rows(folder, "PRAGMA integrity_check") == [("ok",)]


def test_the_ledger_still_answers_and_a_judge_finds_its_old_verdicts(tmp_path: Path) -> None:
    folder = old_run(tmp_path / "run")
    keys = [key for (key,) in rows(folder, "SELECT key FROM calls WHERE good")]
    with Store.open(folder) as store:
        found = [store.find_reply(key) for key in keys]
        assert keys
        assert all(reply is not None and reply.text for reply in found)
        [(_, rubric_hash, count), *_] = store.judges()
        assert len(store.judged(RENAMED, rubric_hash)) == count


def test_a_judge_that_was_asked_at_two_places_keeps_its_name(tmp_path: Path) -> None:
    folder = old_run(tmp_path / "run")
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        elsewhere = "UPDATE calls SET request = json_set(request, '$.api_base', 'http://other:1/v1') WHERE seq = "
        connection.execute(elsewhere + "(SELECT max(seq) FROM calls WHERE stage = 'judge')")
        connection.commit()
    with Store.open(folder) as store:
        assert {name for name, _, _ in store.judges()} == {JUDGE, "local"}
        assert store.meta("deciding_judge") == JUDGE


def test_what_fails_on_the_way_leaves_the_run_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = old_run(tmp_path / "run")
    with monkeypatch.context() as patched:
        broken = upgrade_module._READ_AS_NOW | {"labels": "SELECT 1 FROM {table}"}
        patched.setattr(upgrade_module, "_READ_AS_NOW", broken)
        with pytest.raises(RunError):
            Store.open(folder)
    assert rows(folder, "SELECT value FROM meta WHERE key = 'format'") == [("2",)]
    with Store.open(folder) as store:
        assert len(list(store.conversations())) == 28


def test_a_kill_at_any_moment_leaves_a_run_that_opens(tmp_path: Path) -> None:
    """The child stops itself before a statement of the upgrade, a later one each time."""
    program = (
        "import os, signal, sqlite3, sys\n"
        "from safetyqc.store import Store, file\n"
        "class Killed(sqlite3.Connection):\n"
        "    left = int(sys.argv[2])\n"
        "    def execute(self, *words):\n"
        "        Killed.left -= 1\n"
        "        if not Killed.left: os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return super().execute(*words)\n"
        "connect = sqlite3.connect\n"
        "file.sqlite3.connect = lambda *a, **k: connect(*a, **k, factory=Killed)\n"
        "Store.open(sys.argv[1]).close()\n"
    )
    expected = json.loads((KEPT / "format-2.standings.json").read_text())["local"]
    for number, statement in enumerate((8, 20, 30, 41)):
        folder = old_run(tmp_path / str(number))
        done = subprocess.run([sys.executable, "-c", program, str(folder), str(statement)], check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
        with Store.read(folder) as store:
            assert {i: [s.status, s.reason] for i, s in read_standings(store, "local").items()} == expected
        with Store.open(folder) as store:
            assert len(list(store.conversations())) == 28
