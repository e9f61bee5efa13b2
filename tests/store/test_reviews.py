"""Acts of annotators are stored with their labels, while others may write the run."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from safetyqc.errors import RunError
from safetyqc.records import Conversation, Label, Message
from safetyqc.store import FILE_NAME, Act, Store
from tests.support.runs import planned

LABEL = Label(conversation_id="c", criterion="empathy", outcome="pass", annotator="ann", at=1.0)
ACT = Act("ann", "c", "label", {"criterion": "empathy"})


@pytest.fixture
def run(tmp_path: Path) -> Path:
    with Store.create(tmp_path / "run") as store:
        store.add_conversations([planned(0, "self_harm_support"), planned(1, "cybercrime_or_hacking")])
    return tmp_path / "run"


def test_an_act_and_its_label_are_there_for_whoever_reads_next(run: Path) -> None:
    with Store.beside(run) as store, Store.beside(run) as other:
        store.add_act(ACT, LABEL).result()
        [(number, act)] = other.acts_since(0)
        assert act[:4] == ACT[:4]
        assert list(other.acts_since(number)) == []
        assert [label for _, label in other.labels_since(0)] == [LABEL]


def test_a_run_is_labelled_while_another_process_writes_it(run: Path) -> None:
    with Store.open(run) as writer, Store.beside(run) as store:
        store.add_act(ACT, LABEL).result()
        writer.set_meta("written", True)
        assert list(writer.labels()) == [LABEL]
        with pytest.raises(RunError, match="another safetyqc"):
            Store.open(run)


def test_a_run_made_before_there_were_reviews_gets_their_table(run: Path) -> None:
    connection = sqlite3.connect(run / FILE_NAME)
    connection.execute("DROP TABLE review_acts")
    connection.close()
    with Store.beside(run) as store:
        store.add_act(ACT).result()
        assert len(list(store.acts_since(0))) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("FLATMATE", ["c_0001"]),
        ("evening number 0", ["c_0000"]),
        ("50%", ["odd"]),
        ("5%0", []),
        ('"off"', ["odd"]),
        ("a\\b", ["odd"]),
        ("a_b", []),
        ("密码", ["odd"]),
    ],
)
def test_a_search_takes_every_character_as_itself(run: Path, text: str, found: list[str]) -> None:
    odd = (Message(role="user", content='50% "off"\na\\b 密码'), Message(role="assistant", content="no"))
    with Store.open(run) as store:
        store.add_conversations([Conversation(id="odd", messages=odd)])
        assert list(store.search_conversations(text)) == found
