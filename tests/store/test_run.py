"""A run is one file: durable, resumable, readable while it is written, and never half of something."""

from __future__ import annotations

import asyncio
import sqlite3
import tracemalloc
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from safetyqc.errors import RunError
from safetyqc.llm.client import Reply, Request
from safetyqc.records import Judgment, Rejection, RoleModel, Score, Usage, conversation_id
from safetyqc.store import FILE_NAME, Judged, Store, Timing
from safetyqc.store import file as file_module
from safetyqc.store import writer as writer_module
from safetyqc.testing import conversation

REQUEST = Request(model="m", messages=({"role": "user", "content": "你好 \ud83d hi"},), stage="judge")
REPLY = Reply(text="yes", usage=Usage(prompt_tokens=7, completion_tokens=3), cost_usd=0.25, latency_s=1.5, model="m")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.create(tmp_path / "run") as store:
        yield store


def judgment(conversation_id: str, passed: bool = True) -> Judgment:
    score = Score(criterion="c", outcome="pass" if passed else "fail")
    return Judgment(
        conversation_id=conversation_id, judge="j", rubric="r", rubric_hash="h", scores=(score,), passed=passed
    )


async def test_a_recorded_answer_is_found_again_with_all_that_was_known(store: Store) -> None:
    await store.record_call(REQUEST, REPLY, good=True, history=["500", "429"])
    found = store.find_reply(REQUEST.key)
    assert found is not None
    assert found.reused
    assert (found.text, found.usage, found.cost_usd, found.latency_s) == ("yes", REPLY.usage, 0.25, 1.5)
    assert store.history(REQUEST.key) == ("500", "429")


async def test_bad_answers_count_as_spending_and_are_never_found(store: Store) -> None:
    await store.record_call(REQUEST, REPLY, good=False)
    assert store.find_reply(REQUEST.key) is None
    [spent] = store.spending()
    assert (spent.calls, spent.cost_usd, spent.prompt_tokens, spent.unpriced) == (1, 0.25, 7, 0)
    assert store.spent_usd() == 0.25


async def test_an_unknown_cost_is_counted_as_unknown(store: Store) -> None:
    await store.record_call(REQUEST, Reply(text="x"), good=True)
    [spent] = store.spending()
    assert (spent.cost_usd, spent.unpriced) == (0.0, 1)


async def test_a_write_is_seen_by_other_readers_when_it_returns(store: Store) -> None:
    await store.record_call(REQUEST, REPLY, good=True)
    with Store.read(store.folder) as reader:
        assert reader.find_reply(REQUEST.key) is not None


async def test_many_writes_share_commits_and_none_is_lost(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []
    commit = writer_module.Writer._commit

    def counting(writer: object, connection: sqlite3.Connection, jobs: list[object]) -> object:
        batches.append(len(jobs))
        return commit(writer, connection, jobs)  # type: ignore[arg-type,return-value]

    monkeypatch.setattr(writer_module.Writer, "_commit", counting)
    requests = [Request(model="m", messages=(), seed=i) for i in range(500)]
    await asyncio.gather(*(store.record_call(r, REPLY, good=True) for r in requests))
    assert all(store.find_reply(r.key) for r in requests)
    assert len(batches) < 250


async def test_a_cancelled_writer_of_one_record_does_not_disturb_the_others(store: Store) -> None:
    other = Request(model="m", messages=(), seed=1)
    first = asyncio.create_task(store.record_call(REQUEST, REPLY, good=True))
    second = asyncio.create_task(store.record_call(other, REPLY, good=True))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert store.find_reply(other.key) is not None


async def test_a_row_that_cannot_be_written_fails_only_itself(store: Store) -> None:
    poisoned = Request(model="half a character \ud83d", messages=())
    outcomes = await asyncio.gather(
        store.record_call(poisoned, REPLY, good=True),
        store.record_call(REQUEST, REPLY, good=True),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], RunError)
    assert outcomes[1] is None
    assert store.find_reply(REQUEST.key) is not None


def test_a_disk_that_is_full_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = writer_module.connect

    def small(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
        connection = connect(path, read_only=read_only)
        connection.execute("PRAGMA max_page_count = 60")
        return connection

    monkeypatch.setattr(writer_module, "connect", small)
    with Store.create(tmp_path) as store:
        stored = store.add_conversations([conversation("hi", "hello")])
        more = (store.add_conversations([conversation(f"q {i}", "x" * 10_000)]) for i in range(100))
        with pytest.raises(RunError, match="full") as caught:
            sum(more)
        assert "free some space" in (caught.value.fix or "")
        kept = sum(store.count_conversations().values())
    assert stored == 1
    assert kept > 1
    with Store.open(tmp_path) as store:
        assert sum(store.count_conversations().values()) == kept


@pytest.mark.parametrize("pages", [1, 3, 20])
def test_a_disk_that_is_full_while_a_run_is_made_leaves_nothing_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pages: int
) -> None:
    class Small(sqlite3.Connection):
        def executescript(self, script: str, /) -> sqlite3.Cursor:
            self.execute(f"PRAGMA max_page_count = {pages}")
            return super().executescript(script)

    connect = sqlite3.connect
    with monkeypatch.context() as patched:
        patched.setattr(file_module.sqlite3, "connect", lambda path, **more: connect(path, factory=Small, **more))
        with pytest.raises(RunError, match=r"full\n  fix: free some space"):
            Store.create(tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["lock"]
    with Store.create(tmp_path / "run") as store:
        assert store.add_conversations([conversation("hi", "hello")]) == 1
    assert {p.name for p in (tmp_path / "run").iterdir()} == {FILE_NAME, "lock"}


def test_what_a_killed_process_left_of_a_new_run_is_cleared_away(tmp_path: Path) -> None:
    for name in ("run.making", "run.making-journal", "run.making-wal", "run.making-shm"):
        (tmp_path / name).write_bytes(b"half of something")
    with Store.create(tmp_path) as store:
        assert store.add_conversations([conversation("hi", "hello")]) == 1
    assert {p.name for p in tmp_path.iterdir()} == {FILE_NAME, "lock"}


async def test_a_store_that_became_read_only_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = writer_module.connect

    def frozen(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
        connection = connect(path, read_only=read_only)
        connection.execute("PRAGMA query_only = ON")
        return connection

    monkeypatch.setattr(writer_module, "connect", frozen)
    with Store.create(tmp_path) as store, pytest.raises(RunError, match="readonly"):
        await store.record_call(REQUEST, REPLY, good=True)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(RunError, match="cannot make a run"):
        Store.create(tmp_path / "file" / "run")


def test_one_writer_at_a_time_and_readers_any_time(tmp_path: Path) -> None:
    with Store.create(tmp_path):
        with pytest.raises(RunError, match="another safetyqc"):
            Store.open(tmp_path)
        Store.read(tmp_path).close()
    Store.open(tmp_path).close()


def test_a_reader_cannot_write(tmp_path: Path) -> None:
    Store.create(tmp_path).close()
    with Store.read(tmp_path) as store, pytest.raises(RunError, match="reading only"):
        store.set_meta("a", 1)


@pytest.mark.parametrize("content", [b"", b"not a database at all" * 100])
def test_a_file_that_is_no_run_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(RunError, match="not a safetyqc run"):
        Store.read(tmp_path)


def test_a_run_of_another_format_is_told(tmp_path: Path) -> None:
    with Store.create(tmp_path) as store:
        store.set_meta("format", 99)
    with pytest.raises(RunError, match="format 99"):
        Store.open(tmp_path)


def test_no_run_is_told_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run here"):
        Store.open(tmp_path)


def test_conversations_are_added_once_in_order(store: Store) -> None:
    first, second = conversation("a", "b"), conversation("c", "d")
    assert store.add_conversations([first, second]) == 2
    assert store.add_conversations([second, first]) == 0
    assert [c.id for c in store.conversations()] == [first.id, second.id]
    assert store.conversation(second.id) == second
    assert store.conversation("c_none") is None


def test_a_judgment_of_the_same_judge_replaces_the_one_before(store: Store) -> None:
    done: Future[int] = store.put_judgments([judgment("x"), judgment("y")])
    assert done.result() == 2
    store.put_judgments([judgment("x", passed=False)]).result()
    assert {j.conversation_id: j.passed for j in store.judgments("j", "h")} == {"y": True, "x": False}
    assert store.judged("j", "h") == {"x": Judged((), None), "y": Judged((), None)}
    assert store.judged("j", "other") == {}


def test_timings_add_up_over_invocations(store: Store) -> None:
    for seconds in (1.0, 2.0):
        store.add_timing(Timing("judge", seconds, 10))
    assert store.timings() == [Timing("judge", 3.0, 20)]


def test_what_was_queued_is_durable_when_the_store_closes(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    for i in range(200):
        store.put_judgments([judgment(str(i))])
    store.close()
    store.close()
    with Store.read(tmp_path) as reader:
        assert len(reader.judged("j", "h")) == 200


def test_packed_arrays_come_back_whole_also_when_they_shrink(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetyqc.store.run._PART_BYTES", 10)
    for body in (b"x" * 95, b"y" * 20, b"", b"z"):
        store.put_packed("pairs", body)
        assert store.packed("pairs") == body
    assert store.packed("other") is None


def test_a_run_can_be_read_where_nobody_may_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Store.create(tmp_path / "r") as store:
        store.set_meta("plan", {"count": 3})
    monkeypatch.setattr("os.access", lambda *_: False)
    with Store.read(tmp_path / "r") as store:
        assert store.meta("plan") == {"count": 3}
    assert sorted(p.name for p in (tmp_path / "r").iterdir()) == ["lock", "run.sqlite"]


def test_what_the_filters_saw_is_remembered_by_their_settings(store: Store) -> None:
    put = [conversation(f"request {n}", f"answer {n}") for n in range(3)]
    store.add_conversations([*put, conversation("planted", "one", origin="canary")])
    hit = Rejection(conversation_id=put[0].id, filter="too_short", reason="seen")
    store.put_rejections([hit], [put[0].id, put[1].id], "settings 1")
    assert list(store.unfiltered("settings 1")) == [3]
    store.put_rejections([], [put[0].id], "settings 2")
    assert (list(store.unfiltered("settings 1")), list(store.unfiltered("settings 2"))) == ([1, 3], [2, 3])
    assert list(store.rejections()) == []


def test_roles_say_who_was_asked_and_where(store: Store) -> None:
    assert store.roles() == {}
    author, decider = RoleModel(model="openai/a", api_base="http://host:1/v1"), RoleModel(model="local")
    store.set_roles({"author": author})
    store.set_roles({"decider": decider})
    assert store.roles() == {"author": author, "decider": decider}


def test_a_system_message_takes_part_in_the_id_and_is_written_only_where_there_is_one(store: Store) -> None:
    plain = conversation("hi", "hello")
    told = plain.model_copy(update={"id": conversation_id(plain.messages, system="Be kind."), "system": "Be kind."})
    assert plain.id == conversation_id(plain.messages, system=None) == "c_35e019c05f42"
    assert told.id != plain.id
    assert "system" not in plain.model_dump()
    assert store.add_conversations([plain, told]) == 2
    assert list(store.conversations()) == [plain, told]


def test_judgments_and_verdicts_of_some_conversations(store: Store) -> None:
    store.put_judgments(judgment(name, passed=name != "y") for name in "xyz").result()
    assert [j.conversation_id for j in store.judgments("j", "h", only=["z", "y", "none"])] == ["y", "z"]
    verdicts = store.verdicts("j", "h")
    assert {name: v.passed for name, v in verdicts.items()} == {"x": True, "y": False, "z": True}
    assert verdicts["y"].failed == ("c",)
    assert store.verdicts("j", "other") == {}


def test_more_conversations_than_are_held_come_in_order(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetyqc.store.run._MOST_HELD_CHARACTERS", 2_000)
    written = [conversation(f"question {n}", f"answer {n}") for n in range(2_000)]
    store.add_conversations(written)
    for _ in range(2):
        assert list(store.conversations()) == written
    assert list(store.conversations({written[1900].id, written[3].id})) == [written[3], written[1900]]


def test_records_that_are_read_take_little_memory_and_are_what_was_written(store: Store) -> None:
    written = [judgment(f"c{n}") for n in range(300)]
    store.put_judgments(written).result()
    tracemalloc.start()
    read = list(store.judgments())
    each = tracemalloc.get_traced_memory()[0] / len(read)
    tracemalloc.stop()
    assert read == written
    assert each < 2_000  # bytes; 2,900 with the sets of given fields that pydantic keeps
    changed = read[0].model_copy(update={"category": "x"})
    assert (changed.model_fields_set, read[0].model_fields_set) == ({"category"}, set())
    assert changed.model_dump() == written[0].model_dump() | {"category": "x"}
