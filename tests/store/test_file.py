"""The file of a run: who may read it, who makes it when two want to, and what is said when it is damaged."""

from __future__ import annotations

import os
import random
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from safetyqc.config import Config
from safetyqc.errors import InputError, RunError
from safetyqc.pipeline.outputs import summarise_run
from safetyqc.records import Source
from safetyqc.store import FILE_NAME, FORMAT, Store
from safetyqc.store.standing import read_standings
from safetyqc.testing import conversation
from tests.store.test_upgrade import old_run


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_a_run_is_for_its_owner_alone(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        with Store.create(tmp_path / "above" / "run") as store:
            store.add_conversations([conversation("hi", "hello")])
            modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in store.folder.iterdir()}
        assert modes == dict.fromkeys(("run.sqlite", "run.sqlite-wal", "run.sqlite-shm", "lock"), 0o600)
        assert stat.S_IMODE((tmp_path / "above" / "run").stat().st_mode) == 0o700
    finally:
        os.umask(old)


def test_of_commands_that_make_a_run_at_once_one_gets_it_and_the_others_are_told(tmp_path: Path) -> None:
    program = (
        "import sys\nfrom safetyqc.store import Store\nfrom safetyqc.errors import RunError\n"
        "print('ready', flush=True)\n"
        "for number in sys.stdin.readline().split():\n"
        "    sys.stdin.readline()\n"
        "    try: store = Store.create(f'{sys.argv[1]}/{number}')\n"
        "    except RunError as error: print(error.what, flush=True)\n"
        "    else: print('made', flush=True)\n"
        "    sys.stdin.readline()\n"
        "    try: store.close()\n"
        "    except NameError: pass\n"
        "    store = None\n"
        "    del store\n"
    )
    rounds = 6
    makers = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]

    def tell(line: str) -> None:
        for maker in makers:
            assert maker.stdin
            maker.stdin.write(line + "\n")
            maker.stdin.flush()

    def hear() -> list[str]:
        return sorted(maker.stdout.readline().strip() for maker in makers if maker.stdout)

    assert hear() == ["ready"] * 3
    tell(" ".join(map(str, range(rounds))))
    for number in range(rounds):
        tell("go")
        assert hear() == ["another safetyqc is writing this run"] * 2 + ["made"]
        tell("close")
        with Store.read(tmp_path / str(number)) as store:
            assert store.meta("format") == FORMAT
    for maker in makers:
        maker.communicate(timeout=30)


def test_an_empty_file_that_an_earlier_version_left_becomes_a_run(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    with Store.create(tmp_path) as store:
        assert store.add_conversations([conversation("hi", "hello")]) == 1


def damage(content: bytes, number: int) -> bytes:
    """Do one of the things that disks and people do to a file, another one for each number."""
    chance = random.Random(number)
    damaged, page = bytearray(content), 4096 * chance.randrange(1, len(content) // 4096)
    match number % 4:
        case 0:
            damaged[page : page + 4096] = bytes(4096)
        case 1:
            damaged[page : page + 4096] = chance.randbytes(4096)
        case 2:
            for _ in range(40):
                damaged[page + chance.randrange(4096)] = chance.randrange(256)
        case 3:
            del damaged[chance.randrange(4096, len(damaged)) :]
    return bytes(damaged)


def test_a_damaged_run_is_said_to_be_damaged_wherever_it_is_read(tmp_path: Path) -> None:
    folder = old_run(tmp_path / "run")
    with Store.open(folder) as store:
        keys = [str(key) for (key,) in store._rows("SELECT key FROM calls")]
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    whole = (folder / FILE_NAME).read_bytes()
    told = []
    for number in range(60):
        (folder / FILE_NAME).write_bytes(damage(whole, number))
        try:
            with Store.read(folder) as store:
                read_standings(store)
                summarise_run(store, Config(run=folder))
                assert [store.find_reply(key) for key in keys]
                assert store.batches()
                assert [*store.label_history(), *store.judgments(), store.batch_outcomes(), *store.unfiltered("")]
        except RunError as error:
            told.append(error)
    assert len(told) > 20
    assert all("damaged" in error.what or "not a safetyqc run" in error.what for error in told)
    assert all(error.fix for error in told)


@pytest.mark.parametrize("sql", [
    "UPDATE conversations SET body = substr(body, 1, 40)",
    "UPDATE conversations SET id = 'c_other' WHERE seq = 3",
    "UPDATE conversations SET body = CAST(x'ff41' AS TEXT)",
    "UPDATE judgments SET body = '[]'",
    "UPDATE meta SET value = '' WHERE key = 'plan'",
    "UPDATE meta SET value = '' WHERE key = 'format'",
])  # fmt: skip
def test_what_no_version_wrote_is_damage_and_none_of_it_is_shown(tmp_path: Path, sql: str) -> None:
    folder = old_run(tmp_path / "run")
    Store.open(folder).close()
    with closing(sqlite3.connect(folder / FILE_NAME)) as connection:
        connection.execute(sql)
        connection.commit()
    with pytest.raises(RunError, match="the run is damaged") as caught, Store.read(folder) as store:
        summarise_run(store, Config(run=folder))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("depth", [99, 101, 230, 900, 100_000])
def test_what_is_written_can_be_read_again(tmp_path: Path, depth: int) -> None:
    nested: list[object] = []
    for _ in range(depth - 1):
        nested = [nested]
    told = conversation("hi", "hello", meta={"deep": nested}, source=Source(path="in.jsonl", line=7, index=6))
    with Store.create(tmp_path) as store:
        if depth < 100:
            store.add_conversations([told])
            assert list(store.conversations()) == [told]
            return
        with pytest.raises(InputError, match=r"in\.jsonl:7.*nested more than 100 deep"):
            store.add_conversations([conversation("a", "b"), told])
        assert list(store.conversations()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
def test_a_closed_run_is_read_where_there_is_no_room_for_a_file_beside_it(tmp_path: Path) -> None:
    import resource

    with Store.create(tmp_path / "run") as store:
        store.add_conversations([conversation("hi", "hello")])
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with Store.read(tmp_path / "run") as store:
            assert len(list(store.conversations())) == 1
        with pytest.raises(RunError, match="cannot be written"):
            Store.open(tmp_path / "run").close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
