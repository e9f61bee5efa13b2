"""The taxonomy as a user handles it: look, copy, check, have it extended, and plan by the result."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.generate.taxonomy import load_taxonomy
from safetyqc.testing.server import FaultServer

Cli = Callable[..., Any]


def test_show_lists_all_categories_or_prints_one_that_can_be_read_again(cli: Cli, tmp_path: Path) -> None:
    listed = cli("taxonomy", "show")
    assert listed.code == 0
    assert listed.out.count("8 topics") == 10
    assert "ordinary" in listed.out
    one = cli("taxonomy", "show", "drugs_or_weapons")
    entry = textwrap.indent(one.out, "    ").replace("    ", "  - ", 1)
    (tmp_path / "one.yaml").write_text(f"extends: safetyqc\ncategories:\n{entry}", encoding="utf-8")
    assert load_taxonomy(tmp_path / "one.yaml") == load_taxonomy()


def test_show_of_an_unknown_category_names_the_nearest(cli: Cli) -> None:
    ended = cli("taxonomy", "show", "drugs")
    assert ended.code == 2
    assert "drugs_or_weapons" in ended.err


def test_a_copy_is_what_is_bundled_and_never_replaces_a_file_unasked(cli: Cli, tmp_path: Path) -> None:
    assert cli("taxonomy", "copy", "mine.yaml").code == 0
    assert load_taxonomy(tmp_path / "mine.yaml") == load_taxonomy()
    again = cli("taxonomy", "copy", "mine.yaml")
    assert again.code == 2
    assert "--force" in again.err
    assert cli("taxonomy", "copy", "mine.yaml", "--force").code == 0
    checked = cli("taxonomy", "validate", "mine.yaml")
    assert checked.code == 0
    assert "0 remarks" in checked.err


def test_validate_tells_mistakes_with_their_place_and_languages_without_openers(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("extends: safetyqc\nstyle: []\n")
    ended = cli("taxonomy", "validate", "bad.yaml")
    assert ended.code == 2
    assert "bad.yaml:2" in ended.err
    (tmp_path / "fr.yaml").write_text("extends: safetyqc\nlanguages:\n  - {name: fr, title: French}\n")
    assert cli("taxonomy", "validate", "fr.yaml").code == 0
    ended = cli("taxonomy", "validate", "fr.yaml", "--language", "fr")
    assert ended.code == 2
    assert "openers in language 'fr'" in ended.err


def test_proposed_topics_go_into_a_file_that_extends_and_can_be_planned_by(
    cli: Cli, serve: Callable[..., FaultServer], tmp_path: Path
) -> None:
    server = serve()
    base = ["-m", "openai/x", "--api-base", server.base_url]
    names = ["--category", "general_safety", "--category", "self_harm_support"]
    ended = cli("taxonomy", "expand", "more.yaml", *names, *base)
    assert ended.code == 0, ended.err
    assert "2 topics to read and edit" in ended.err
    assert (tmp_path / "more.yaml").read_text().startswith("# Proposed by openai/x. Read every line")
    extended = load_taxonomy(tmp_path / "more.yaml")
    assert len(extended.category("general_safety").topics) == 9
    assert extended.category("general_safety").topics[-1].pool("zh", "benign")
    assert cli("taxonomy", "validate", "more.yaml").code == 0
    asked = server.witness.received.total()
    assert cli("taxonomy", "expand", "more.yaml", *base).code == 2, "what was edited is not replaced"
    assert server.witness.received.total() == asked


@pytest.mark.parametrize("told", ["French", "f=French"])
def test_a_language_that_is_none_is_told_before_anybody_is_asked(cli: Cli, told: str) -> None:
    ended = cli("taxonomy", "expand", "fr.yaml", "--into", told, "-m", "local")
    assert ended.code == 2
    assert not Path("safetyqc-run").exists()


def test_openers_in_another_language_are_proposed_for_every_topic(
    cli: Cli, serve: Callable[..., FaultServer], tmp_path: Path
) -> None:
    server = serve()
    ended = cli("taxonomy", "expand", "fr.yaml", "--into", "fr=French", "-m", "openai/x", "--api-base", server.base_url)
    assert ended.code == 0, ended.err
    load_taxonomy(tmp_path / "fr.yaml").check_languages(["fr"])
