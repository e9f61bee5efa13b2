"""What an export wrote goes to the Hub as it is, private unless asked otherwise, and no token is ever shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safetyqc.formats.export.files import ExportPlan, export_conversations
from safetyqc.testing import conversation
from tests.support.hub import Hub, asked_private, served

Cli = Callable[..., Any]
TOKEN = "hf_abcdefghijklmnopqrstuvwxyz012345"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    examples = [conversation(f"q {n} 你好", "a", id=f"c{n}") for n in range(6)]
    plan = ExportPlan(format="openai", folder=tmp_path / "set", val_share=0.3)
    export_conversations(examples, plan, card=lambda _: "---\nlicense: other\n---\n# A card\n")
    (tmp_path / "set" / "notes.txt").write_text("mine")
    return tmp_path / "set"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub")
    with served(Hub()) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.setenv("HF_HUB_OFFLINE", "0")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield hub


def test_the_files_of_the_export_are_uploaded_and_nothing_else(cli: Cli, folder: Path, hub: Hub) -> None:
    ended = cli("push", folder, "me/set")
    assert ended.code == 0, ended.err
    assert ended.out == f"{hub.url}/datasets/me/set/commit/1\n"
    here = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert hub.files == {name: raw for name, raw in here.items() if name != "notes.txt"}
    assert asked_private(hub.created[0])
    assert hub.tokens == {f"Bearer {TOKEN}"}


def test_a_dataset_that_is_public_already_is_refused_unless_that_is_meant(cli: Cli, folder: Path, hub: Hub) -> None:
    assert cli("push", folder, "me/set", "--public").code == 0
    assert not asked_private(hub.created[0])
    ended = cli("push", folder, "me/set")
    assert ended.code == 2
    assert "me/set: is there already, and public\n  fix: give --public" in ended.err


@pytest.mark.parametrize("status", [401, 403, 500])
def test_a_refusal_is_told_without_the_token(cli: Cli, folder: Path, hub: Hub, status: int) -> None:
    hub.refuses = status
    ended = cli("push", folder, "me/set")
    assert ended.code == 2
    assert "me/set: the Hub:" in ended.err
    assert "hf_abc" not in ended.err
    assert ("may not write there" in ended.err) == (status in (401, 403))


def test_a_hub_that_cannot_be_reached_is_told(
    cli: Cli, folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    ended = cli("push", folder, "me/set")
    assert (ended.code, "see that the Hub can be reached" in ended.err) == (2, True), ended.err


def test_without_a_login_it_says_how_to_get_one(
    cli: Cli, folder: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    hub.refuses = 401
    assert "no token was found: `hf auth login`, or set HF_TOKEN" in cli("push", folder, "me/set").err


def test_without_huggingface_hub_it_says_how_to_get_it(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    ended = cli("push", folder, "me/set")
    assert (ended.code, "fix: pip install huggingface_hub" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "data" / "train.jsonl").write_text("{}"), "train.jsonl: was changed after it was exported"),
        (lambda d: (d / "axolotl.yaml").unlink(), "axolotl.yaml: was exported and is gone"),
        (lambda d: (d / "dataset.manifest.json").unlink(), "is no dataset folder"),
        (lambda d: (d / "dataset.manifest.json").write_text("{"), "is no manifest of an export"),
        (
            lambda d: (d / "dataset.manifest.json").write_text(
                (d / "dataset.manifest.json").read_text().replace("axolotl.yaml", "../../secret.yaml")
            ),
            "names '../../secret.yaml', which lies elsewhere",
        ),
    ],
    ids=["changed", "gone", "no manifest", "no JSON", "a path that leads out"],
)
def test_what_is_not_as_it_was_exported_is_not_uploaded(
    cli: Cli, folder: Path, spoil: Callable[[Path], Any], message: str
) -> None:
    spoil(folder)
    ended = cli("push", folder, "me/set")
    assert (ended.code, message in ended.err) == (2, True), ended.err


def test_a_name_that_is_no_dataset_is_told(cli: Cli, folder: Path) -> None:
    assert "'set' is not OWNER/NAME" in cli("push", folder, "set").err
