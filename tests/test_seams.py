"""Every table is open: a dummy that is registered after import is used, priced, checked and named through the CLI."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from safetyqc.filters import FILTERS, FilterSettings
from safetyqc.formats.export.encoding import Exporter, lines_of
from safetyqc.formats.export.table import EXPORTERS
from safetyqc.formats.readers import READERS, RecordForm
from safetyqc.formats.turns import Reading, read_turns
from safetyqc.judge.kinds import AskedModel, JudgeKind, Making
from safetyqc.judge.rubric import RubricJudge
from safetyqc.judge.table import JUDGES
from safetyqc.llm.client import Reply, Request
from safetyqc.llm.direct import DirectClient
from safetyqc.llm.lanes import LANES, Lane
from safetyqc.pipeline.demo import READER_MAP, SAMPLE
from safetyqc.records import Conversation, Source
from safetyqc.results.findings import BadLine
from safetyqc.testing.server import FaultServer

Cli = Callable[..., Any]
Serve = Callable[..., FaultServer]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three conversations about a sister."""
    path = tmp_path / "data.jsonl"
    answer = (
        "I won't help to get into account {} that is not yours. Ask her, or ask support to close it; I can help you to "
        "write that message."
    )
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Tell me how to get into account {n} of my sister."},
                {"role": "assistant", "content": answer.format(n)},
            ],
            "category": "cybercrime_or_hacking",
            "kind": "harmful",
        }
        for n in range(3)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
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
    assert "dummy:NAME, or a model" in " ".join(cli("judge", "--help").out.split())


@pytest.mark.usefixtures("dummy_judge")
def test_a_new_kind_is_warned_of_where_it_judges_its_own_family(cli: Cli, data: Path) -> None:
    ended = cli("run", data, "--judge", "dummy:gpt-4o", "--rewriter", "openai/gpt-4o-mini", "--dry-run")
    assert "are one family (OpenAI)" in ended.err


# ---- exporters ------------------------------------------------------------------------------------------------------


@pytest.fixture
def dummy_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = lines_of(lambda c: {"asked": c.messages[0].content})
    monkeypatch.setitem(EXPORTERS, "dummy", Exporter("dummy.jsonl", encode))


@pytest.mark.usefixtures("dummy_exporter")
def test_a_new_format_is_exported_named_in_help_and_in_errors(cli: Cli, tmp_path: Path) -> None:
    assert cli("judge", SAMPLE, "-m", f"recorded:{READER_MAP}", "--decide", "-q").code == 0
    ended = cli("export", "--format", "dummy")
    assert ended.code == 0, ended.err
    assert json.loads((tmp_path / "dummy.jsonl").read_text().splitlines()[0]).keys() == {"asked"}
    assert "dummy" in cli("export", "--help").out
    ended = cli("export", "--format", "dumy")
    assert ended.code == 2
    assert "--format: unknown value 'dumy'\n  fix: did you mean 'dummy'? valid: csv, dpo, dummy, kto," in ended.err


@pytest.mark.usefixtures("dummy_exporter")
def test_a_new_format_may_stand_in_the_settings_file(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "safetyqc.yaml").write_text("export:\n  format: dummy\n")
    assert cli("judge", SAMPLE, "-m", f"recorded:{READER_MAP}", "--decide", "-q").code == 0
    assert cli("export").code == 0
    assert (tmp_path / "dummy.jsonl").exists()
    (tmp_path / "safetyqc.yaml").write_text("export:\n  format: dumy\n")
    ended = cli("export")
    assert "safetyqc.yaml:2 (export.format): unknown value 'dumy'\n  fix: did you mean 'dummy'?" in ended.err


# ---- lanes ----------------------------------------------------------------------------------------------------------


class CountingClient(DirectClient):
    """The direct lane under another name."""

    asked: ClassVar[list[str]] = []

    async def complete(self, request: Request) -> Reply:
        self.asked.append(request.model)
        return await super().complete(request)


@pytest.fixture
def dummy_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    CountingClient.asked.clear()
    lane = Lane(lambda api_key, timeout_s: CountingClient(api_key=api_key, timeout_s=timeout_s))
    monkeypatch.setitem(LANES, "dummy", lane)


@pytest.mark.usefixtures("dummy_lane")
def test_a_new_lane_carries_requests_and_is_named_in_help_and_in_errors(cli: Cli, serve: Serve, data: Path) -> None:
    server = serve()
    ended = cli("judge", data, "-m", "openai/x", "--api-base", server.base_url, "--lane", "dummy", "-q")
    assert ended.code == 0, ended.err
    assert CountingClient.asked == ["openai/x"] * 3
    assert server.witness.received.total() == 3
    assert "auto|direct|litellm|dummy" in cli("judge", "--help").out
    ended = cli("judge", data, "-m", "openai/x", "--lane", "dumy")
    assert ended.code == 2
    assert "did you mean 'dummy'? valid: auto, direct, dummy, litellm" in ended.err


@pytest.mark.usefixtures("dummy_lane")
def test_a_lane_without_batches_asks_call_by_call(cli: Cli, serve: Serve, data: Path) -> None:
    server = serve()
    flags = ("--api-base", server.base_url, "--lane", "dummy", "--batch")
    ended = cli("judge", data, "-m", "openai/x", *flags)
    assert ended.code == 0, ended.err
    assert "no batch API is known for openai/x" in ended.err
    assert server.witness.received.total() == 3


# ---- filters --------------------------------------------------------------------------------------------------------


@pytest.fixture
def dummy_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    def sisters(conversation: Conversation, _: FilterSettings) -> str | None:
        return "a sister" if "sister" in conversation.messages[0].content else None

    monkeypatch.setitem(FILTERS, "dummy", sisters)


@pytest.mark.usefixtures("dummy_filter")
@pytest.mark.parametrize(("skip", "hits"), [((), 3), (("--skip", "dummy"), 0)])
def test_a_new_filter_hits_in_check_and_in_a_run_unless_skipped(
    skip: tuple[str, ...], hits: int, cli: Cli, data: Path
) -> None:
    checked = json.loads(cli("check", data, "--json", *skip).out)
    found = {finding["name"]: finding["count"] for finding in checked["rules"]}
    assert found.get("dummy", 0) == hits
    assert cli("import", data).code == 0
    ended = cli("filter", *skip)
    assert ended.code == 0, ended.err
    report = json.loads(cli("report", "--json").out)
    assert json.dumps(report).count("a sister") >= min(hits, 1)
    assert ("dummy" in json.dumps(report)) == bool(hits)


@pytest.mark.usefixtures("dummy_filter")
@pytest.mark.parametrize("command", ["check", "filter"])
def test_a_slip_in_a_filter_names_the_new_one_too(command: str, cli: Cli, data: Path) -> None:
    arguments = (data,) if command == "check" else ()
    ended = cli(command, *arguments, "--skip", "dumy")
    assert ended.code == 2
    assert (
        "--skip: unknown value 'dumy'\n  fix: did you mean 'dummy'? valid: bad_structure, dangerous_detail, dummy"
        in ended.err
    )


# ---- forms of a record ----------------------------------------------------------------------------------------------


@pytest.fixture
def dummy_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(value: Any, source: Source, how: Reading) -> Conversation | BadLine:
        turns = [{"role": "user", "content": value["ask"]}, {"role": "assistant", "content": value["say"]}]
        return read_turns(turns, {k: v for k, v in value.items() if k not in ("ask", "say")}, source, how)

    monkeypatch.setitem(
        READERS, "dummy", RecordForm(lambda v: isinstance(v, dict) and v.keys() >= {"ask", "say"}, read)
    )


@pytest.mark.usefixtures("dummy_reader")
def test_a_new_form_of_a_record_is_read_checked_and_named_in_errors(cli: Cli, tmp_path: Path) -> None:
    rows = [{"ask": "How?", "say": "So.", "category": "general_safety"}, {"ask": "Why?", "say": ""}, {"text": "x"}]
    (tmp_path / "new.jsonl").write_text("\n".join(map(json.dumps, rows)))
    checked = json.loads(cli("check", "new.jsonl", "--skip-bad-lines", "--json").out)
    assert (checked["records"], checked["conversations"]) == (3, 1)
    assert [kind["name"] for kind in checked["structure"]] == ["empty_message"]
    ended = cli("import", "new.jsonl", "--skip-bad-lines")
    assert ended.code == 0, ended.err
    assert json.loads(cli("report", "--json").out)["total"] == 1
    (tmp_path / "text.jsonl").write_text(json.dumps(rows[2]))
    ended = cli("import", "text.jsonl")
    assert ended.code == 2
    assert "prompt and answer, dummy;" in ended.err
