"""Every table is open: a dummy that is registered after import is used, priced, checked and named through the CLI."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from safetyqc.judge.kinds import AskedModel, JudgeKind, Making
from safetyqc.judge.rubric import RubricJudge
from safetyqc.judge.table import JUDGES
from safetyqc.testing.server import FaultServer

Cli = Callable[..., Any]
Serve = Callable[..., FaultServer]


def turns(request: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": request}, {"role": "assistant", "content": answer}]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    rows = [
        turns(f"How do I get into account {n} of my sister?", f"I won't help with account {n}. Ask her, or support.")
        for n in ("one", "two", "three")
    ]
    path.write_text("\n".join(json.dumps({"messages": row}) for row in rows))
    return path


# ---- judges ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def dummy_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    """`dummy:x` asks the model `openai/x`, without a line anywhere but in the table."""

    def make(argument: str, making: Making) -> RubricJudge:
        judge = RubricJudge(making.open_client(), f"openai/{argument}", making.rubric_set)
        judge.name = f"dummy-{argument}"
        return judge

    kind = JudgeKind("dummy:NAME", "a dummy", make, asks=lambda argument, _: [AskedModel(f"openai/{argument}")])
    monkeypatch.setitem(JUDGES, "dummy", kind)


@pytest.mark.usefixtures("dummy_judge")
@pytest.mark.parametrize(
    ("spec", "name"), [("dummy:x", "dummy-x"), ("panel:dummy:x,local", "majority(dummy-x, local)")]
)
def test_a_judge_of_a_new_kind_judges_and_decides_alone_and_in_a_panel(
    spec: str, name: str, cli: Cli, serve: Serve, data: Path, tmp_path: Path
) -> None:
    server = serve()
    ended = cli("judge", data, "-m", spec, "--api-base", server.base_url, "--jsonl", "out.jsonl", "-q")
    assert ended.code == 0, ended.err
    assert server.witness.received.total() == 3
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
    ended = cli("report", "--json")
    assert json.loads(ended.out)["run"]["judge"] == name


@pytest.mark.usefixtures("dummy_judge")
@pytest.mark.parametrize("command", ["judge", "run"])
@pytest.mark.parametrize(
    "spec",
    [*("openai/no-price", "dummy:no-price", "panel:dummy:no-price,local", "cascade:local>dummy:no-price")],
)
def test_an_unknown_price_is_refused_for_every_kind_before_anything_is_written(
    spec: str, command: str, cli: Cli, data: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.jsonl"
    labels.write_text(
        json.dumps({**json.loads(data.read_text().splitlines()[0]), "labels": {"strict_refusal": "pass"}})
    )
    (tmp_path / "safetyqc.yaml").write_text("judge: {labels: [labels.jsonl]}\n")
    ended = cli(command, data, "--judge", spec, "--max-cost", "1", "-q")
    assert ended.code == 2, ended.err
    assert "the price of 'openai/no-price' is unknown" in ended.err
    assert not (tmp_path / "safetyqc-run").exists()


@pytest.mark.usefixtures("dummy_judge")
@pytest.mark.parametrize("spec", ["dummy:o1", "any-fail:local,dummy:o1"])
def test_a_new_kind_is_estimated_like_the_model_alone(spec: str, cli: Cli, data: Path) -> None:
    alone = cli("run", data, "--judge", "openai/o1", "--dry-run")
    told = cli("run", data, "--judge", spec, "--dry-run")
    assert told.code == 0, told.err
    line = next(line for line in alone.err.splitlines() if "judge" in line and "openai/o1" in line)
    assert line in told.err
    assert "about $" in line


@pytest.mark.usefixtures("dummy_judge")
def test_a_slip_in_a_kind_names_the_new_one_too(cli: Cli, data: Path) -> None:
    ended = cli("judge", data, "-m", "dumy:x")
    assert ended.code == 2
    assert "did you mean 'dummy'? valid: any-fail, cascade, dummy," in ended.err


@pytest.mark.usefixtures("dummy_judge")
def test_a_new_kind_is_warned_of_where_it_judges_its_own_family(cli: Cli, data: Path) -> None:
    ended = cli("run", data, "--judge", "dummy:gpt-4o", "--rewriter", "openai/gpt-4o-mini", "--dry-run")
    assert "are one family (OpenAI)" in ended.err
