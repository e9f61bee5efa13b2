"""Options that several commands share, named and explained once; those of all that ask models come as one bundle."""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer
from typer.models import OptionInfo

from safetyqc.cli.output import be_quiet
from safetyqc.config import MOST_IN_FLIGHT, Config, filter_names, load_config
from safetyqc.errors import UserError, choose_from
from safetyqc.formats.export.table import EXPORTERS
from safetyqc.judge.table import judge_forms
from safetyqc.llm.lanes import lane_names


class TableOption(OptionInfo):
    """An option about the entries of a table: help and completion show what it holds when they are asked.

    Whether a name is valid is decided where settings are read, so that flags and files are told the same.

    Args:
        help: `{names}` in it stands for the names.
        metavar: None for the names.
    """

    def __init__(self, *flags: str, names: Callable[[], Iterable[str]], help: str, metavar: str | None = None) -> None:
        self._names, self._metavar, self._help = names, metavar, help
        # An annotation has no default: the first flag stands in its place, as in typer.Option
        super().__init__(default=flags[0], param_decls=flags[1:], show_default=False, autocompletion=self._complete)

    @property
    def metavar(self) -> str:
        """What stands behind the flag in help; read whenever the command line is built."""
        return self._metavar or "|".join(self._names())

    @metavar.setter
    def metavar(self, _: str | None) -> None: ...

    @property
    def help(self) -> str:
        """What help says of the flag."""
        return self._help.replace("{names}", ", ".join(self._names()))

    @help.setter
    def help(self, _: str | None) -> None: ...

    def _complete(self, incomplete: str) -> list[str]:
        return [name for name in self._names() if name.startswith(incomplete)]


WHO_JUDGES = (
    "Who judges: {names}, or a model (local needs no key); repeat it for several. The first judge of a run decides."
)


def _engine_names() -> Iterable[str]:
    from safetyqc.pipeline.engines import ENGINES

    return ENGINES


Run = Annotated[
    Path | None,
    typer.Option("--run", metavar="DIR", help="Folder of the run (default: safetyqc-run).", show_default=False),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        "--config", metavar="FILE", help="Settings (default: safetyqc.yaml, if it is here).", show_default=False
    ),
]
Model = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="MODEL",
        help="As litellm names it (openai/gpt-4o-mini, openrouter/...), or local, or local:PATH.gguf. Default: the "
        "run's own; in a new run one has to be named, or without any key it is local, which is a toy.",
        show_default=False,
    ),
]
Judges = Annotated[
    list[str] | None,
    TableOption("--judge", names=judge_forms, metavar="JUDGE", help=WHO_JUDGES),
]
JudgeModels = Annotated[
    list[str] | None,
    TableOption("--model", "-m", "--judge", names=judge_forms, metavar="JUDGE", help=WHO_JUDGES),
]
ApiBase = Annotated[
    str | None,
    typer.Option(
        "--api-base",
        metavar="URL",
        help="An OpenAI-compatible server (vLLM, llama.cpp, Ollama, a gateway).",
        show_default=False,
    ),
]
Concurrency = Annotated[
    int | None,
    typer.Option(
        "--concurrency",
        metavar="N",
        min=1,
        max=MOST_IN_FLIGHT,
        help="Requests in flight (default: 16).",
        show_default=False,
    ),
]
MaxCost = Annotated[
    float | None,
    typer.Option("--max-cost", metavar="USD", min=0, help="Stop cleanly before this is spent.", show_default=False),
]
Lane = Annotated[str | None, TableOption("--lane", names=lane_names, help="How to reach OpenAI-compatible servers.")]
Engine = Annotated[
    str | None, TableOption("--engine", names=_engine_names, help="What runs the work (default: this process).")
]
Workers = Annotated[
    str | None,
    typer.Option(
        "--workers",
        metavar="N|auto",
        help="Use --engine processes with so many of them, or --engine ray with so many actors.",
        show_default=False,
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray-address",
        metavar="HOST:PORT",
        help="Use --engine ray on this cluster (default: one on this machine).",
        show_default=False,
    ),
]
StandIn = Annotated[
    str | None,
    typer.Option(
        "--fallback",
        metavar="MODEL",
        help="Answers where a model cannot be reached or used at all.",
        show_default=False,
    ),
]
Fresh = Annotated[
    bool | None, typer.Option("--fresh", help="Ask again even what this run has already paid for.", show_default=False)
]
Batch = Annotated[
    bool,
    typer.Option(
        "--batch", help="Submit the requests as a batch, at half the price; the same command again uses the answers."
    ),
]
BatchDir = Annotated[
    Path | None,
    typer.Option(
        "--batch-dir",
        metavar="DIR",
        help="Write the requests as OpenAI batch files, for vllm run-batch or a cluster; the same command again reads "
        "the results.",
        show_default=False,
    ),
]
Rubric = Annotated[
    str | None,
    typer.Option(
        "--rubric", metavar="NAME|PATH", help="Rubric set or criterion (default: safety).", show_default=False
    ),
]
SkipBadLines = Annotated[
    bool, typer.Option("--skip-bad-lines", help="Leave out lines that cannot be read; they are counted and shown.")
]


def _hush(quiet: bool) -> bool:
    be_quiet(quiet)
    return quiet


By = Annotated[
    list[str] | None,
    typer.Option(
        "--by",
        metavar="FIELD",
        help="Also by category, intent, language, model, source, or any key of the rows; repeatable.",
        show_default=False,
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only the result and errors, nothing else.", callback=_hush)]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
Seed = Annotated[
    int | None, typer.Option("--seed", metavar="N", help="The same seed gives the same plan.", show_default=False)
]
Partial = Annotated[
    str, typer.Option("--partial", metavar="pass|fail|leave_out", help="What XSTest's partial refusals count as.")
]
Languages = Annotated[
    str | None, typer.Option("--language", metavar="en,zh", help="Languages to mix, evenly.", show_default=False)
]
Turns = Annotated[
    int | None,
    typer.Option(
        "--turns", metavar="N", min=1, help="Exchanges per conversation (default: drawn).", show_default=False
    ),
]
Taxonomy = Annotated[
    Path | None, typer.Option("--taxonomy", metavar="FILE", help="Your own categories.", show_default=False)
]
Format = Annotated[
    str | None,
    TableOption(
        "--format",
        names=lambda: EXPORTERS,
        metavar="FORM",
        help="{names} (default: what FILE's name tells, the run's last, or nanochat).",
    ),
]
Skip = Annotated[
    list[str] | None,
    TableOption(
        "--skip", names=filter_names, metavar="RULE", help="Leave out a rule, by its name in reports; repeatable."
    ),
]
ValShare = Annotated[
    float | None,
    typer.Option(
        "--val-share", metavar="SHARE", min=0, max=0.9, help="Share held out, by duplicate group.", show_default=False
    ),
]
MinSimilarity = Annotated[
    float | None,
    typer.Option(
        "--min-similarity",
        metavar="SHARE",
        min=0,
        max=1,
        help="Cosine from which two say the same.",
        show_default=False,
    ),
]
Against = Annotated[
    list[str] | None,
    typer.Option(
        "--against",
        metavar="FILE",
        help="Remove what is near a benchmark or a training mix: prompts or conversations as csv, jsonl or lines; "
        "repeatable. A run remembers them.",
        show_default=False,
    ),
]
Page = Annotated[
    Path | None, typer.Option("--html", metavar="FILE", help="Write one self-contained page.", show_default=False)
]
Truth = Annotated[
    str | None, typer.Option("--truth", metavar="ANNOTATOR", help="Whose labels are the truth.", show_default=False)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show the estimate: calls, tokens, cost.")]
Memory = Annotated[
    str | None,
    typer.Option("--memory", metavar="SIZE", help="Most that the search may take, as 4GB.", show_default=False),
]


@dataclass(frozen=True)
class Asking:
    """What every command that asks models takes: where its run and settings are, and how models are reached."""

    run: Path | None
    config_file: Path | None
    models: Mapping[str, Any]
    quiet: bool

    def config(self, flags: Mapping[str, Any]) -> Config:
        """Resolve the settings; `flags` are the command's own, by dotted name, None where one was not given."""
        return load_config(self.config_file, {"run": self.run, **self.models, **flags})


_ASKING: dict[str, tuple[Any, Any]] = {
    "run": (Run, None),
    "config_file": (ConfigFile, None),
    "api_base": (ApiBase, None),
    "concurrency": (Concurrency, None),
    "max_cost": (MaxCost, None),
    "stand_in": (StandIn, None),
    "lane": (Lane, None),
    "engine": (Engine, None),
    "workers": (Workers, None),
    "ray_address": (RayAddress, None),
    "quiet": (Quiet, False),
}


def asking(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of `Asking`, behind its own, in place of its parameter `asked`."""
    hints = get_type_hints(command, include_extras=True)
    own = {name: (hints[name], p.default) for name, p in inspect.signature(command).parameters.items()}
    del own["asked"]
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=hint)
        for name, (hint, default) in (own | _ASKING).items()
    ]

    @functools.wraps(command)
    def bundled(**given: Any) -> None:
        bundle = {name: given.pop(name) for name in _ASKING}
        kept = {name: bundle.pop(name) for name in ("run", "config_file", "quiet")}
        command(**given, asked=Asking(**kept, models=model_flags(**bundle)))

    bundled.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    bundled.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return bundled


def model_flags(
    *,
    api_base: str | None = None,
    concurrency: int | None = None,
    max_cost: float | None = None,
    lane: str | None = None,
    engine: str | None = None,
    workers: str | None = None,
    ray_address: str | None = None,
    fresh: bool | None = None,
    stand_in: str | None = None,
) -> dict[str, Any]:
    """The flags of the `models` section by their dotted names; None where a flag was not given."""
    return {
        "models.api_base": api_base,
        "models.concurrency": concurrency,
        "models.max_cost_usd": max_cost,
        "models.lane": lane,
        "models.engine": engine,
        "models.workers": int(workers) if workers and workers.lstrip("-").isdecimal() else workers,
        "models.ray_address": ray_address,
        "models.fresh": fresh,
        "models.fallback": stand_in,
    }


def split(value: str | None) -> tuple[str, ...] | None:
    """Read `a,b`; None stays None."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if value is not None else None


def parse_shares(values: list[str], flag: str, choices: list[str] | None = None) -> dict[str, float]:
    """Read `NAME=NUMBER` flags.

    Raises:
        UserError: not of that form, an unknown name, or a number that is none.
    """
    parsed = {}
    for value in values:
        name, _, number = value.partition("=")
        if not name or not re.fullmatch(r"\d+(\.\d+)?", number):
            raise UserError(f"{value!r} is not NAME=NUMBER", where=flag, fix=f"for example {flag} drugs_or_weapons=2")
        parsed[name] = float(number)
        if choices is not None and name not in choices:
            raise UserError(f"unknown name {name!r}", where=flag, fix=choose_from(name, choices))
    return parsed


def parse_counts(values: list[str], flag: str) -> dict[str, int]:
    """Read `NAME=N` flags with a whole N of at least 1.

    Raises:
        UserError: not of that form.
    """
    for value, number in zip(values, parse_shares(values, flag).values(), strict=False):
        if number < 1 or not number.is_integer():
            raise UserError(f"{value!r}: not a whole number of at least 1", where=flag, fix=f"give {flag} NAME=2")
    return {name: int(number) for name, number in parse_shares(values, flag).items()}
