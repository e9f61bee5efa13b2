"""The settings of a run, resolved once: flags over `safetyqc.yaml` over defaults.

Every stage gets its own small section and never reads a file, a flag or the environment itself. What may be named (a
format, a filter, a lane) stands in the tables of those rooms and nowhere here. No model is ever chosen silently when a
provider's key is set; only without any key is `local` the default.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, ValidationError

from safetyqc.dedup.choices import (
    AGAINST_MIN_SIMILARITY,
    DEFAULT_MIN_SIMILARITY,
    Analyzer,
    Linkage,
    On,
    Weights,
)
from safetyqc.errors import ConfigError, UserError, choose_from
from safetyqc.formats.export.table import EXPORTERS
from safetyqc.formats.turns import COLUMNS, Reading, Side
from safetyqc.formats.yaml_file import Misfit, read_yaml
from safetyqc.llm.hosts import EMBEDDED, wished_keys
from safetyqc.llm.keys import load_keys
from safetyqc.llm.lanes import AUTO, lane_names
from safetyqc.llm.places import Own, Usd, check_own
from safetyqc.records import Record
from safetyqc.results.probe import MeasureName
from safetyqc.results.rates import BarSetting
from safetyqc.text import DEFAULT_RUN, run_flag

FILE_NAME = "safetyqc.yaml"
DEFAULT_COUNT, MOST_IN_FLIGHT = 600, 4096  # more at once exhaust memory and sockets before any server is helped
Share = Annotated[float, Field(ge=0, le=1)]


def filter_names() -> Iterable[str]:
    """The rules that may be skipped; imported late, for the sake of the first output."""
    from safetyqc.filters import FILTERS

    return FILTERS


def _one_of(names: Callable[[], Iterable[str]]) -> AfterValidator:
    """Accept the names of a table, as it is when the setting is read."""

    def check(value: str) -> str:
        known = list(names())
        if value not in known:
            raise Misfit(f"unknown value {value!r}", fix=choose_from(value, known))
        return value

    return AfterValidator(check)


class ModelSettings(Record):
    """How models are reached, for every stage."""

    api_base: str | None = None
    lane: Annotated[str, _one_of(lane_names)] = AUTO
    concurrency: int = Field(default=16, ge=1, le=MOST_IN_FLIGHT)
    engine: str | None = None
    """What runs the work, by its name in the table of engines; None: processes where there are workers, or local."""
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = 0
    """Processes or actors of the engine; auto takes several where litellm would fill one core."""
    ray_address: str | None = None
    """Where the engine ray finds its cluster, as HOST:6379 or auto; None: one on this machine, or $RAY_ADDRESS."""
    timeout_s: float = Field(default=120, gt=0)
    max_attempts: int = Field(default=6, ge=1)
    max_cost_usd: float | None = Field(default=None, ge=0)
    requests_per_minute: float | None = Field(default=None, gt=0)
    tokens_per_minute: float | None = Field(default=None, gt=0)
    fallback: str | None = None
    prices: dict[str, tuple[Usd, Usd]] = Field(default_factory=dict)
    """USD per million (prompt, completion) tokens, for models that no price list knows."""
    by_name: Annotated[dict[str, Own], AfterValidator(check_own)] = Field(default_factory=dict)
    """What single models have of their own: base URL, headers, parameters, prices."""
    fresh: bool = False


class GenerateSettings(Record):
    """What is to be written, and by whom."""

    count: int | None = Field(default=None, ge=1)
    """None: as many as the run was planned with, or 600."""
    seed: int = 0
    model: str | None = None
    assistant: str | None = None
    """Who answers in dialogue mode; the author's model when not given."""
    mode: Literal["oneshot", "dialogue"] | None = None
    """None: dialogue for the embedded model, oneshot for every other."""
    languages: tuple[str, ...] | None = None
    """None: those that the run was planned with, or English."""
    turns: int | None = Field(default=None, ge=1)
    """None: as the run was planned, or by the taxonomy's weights."""
    taxonomy: Path | None = None
    shares: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Of `harmful`, `benign`, `ordinary`; None for the taxonomy's own weights, and nothing ordinary."""
    twins: bool | None = None  # None: yes, and in a run that is there as it was begun
    kept: int | None = Field(default=None, ge=1)
    """`run` goes on until so many of each category are kept, or `max_candidates` drawn; None for five times as many."""
    max_candidates: int | None = Field(default=None, ge=1)
    name_worn: bool = True  # openings and phrases that were used too often so far, as not to be used
    redraws: int = Field(default=3, ge=0)
    """How often a scenario that failed is drawn again with other openers before it is given up."""
    temperature: float = Field(default=0.8, ge=0)
    max_tokens: int = Field(default=2048, ge=1)


def _check_columns(columns: dict[str, str]) -> dict[str, str]:
    for name in columns:
        if name not in COLUMNS:
            raise Misfit(f"{name!r} is nothing that a record has", fix=choose_from(name, COLUMNS))
    return columns


class ReadingSection(Record):
    """How files of conversations are read where they leave a choice; see docs/formats.md."""

    side: Side = "chosen"
    columns: Annotated[dict[str, str], AfterValidator(_check_columns)] = Field(default_factory=dict)
    """What the files call `prompt`, `response` and the like."""
    merge_turns: bool = False
    trim: bool = False

    @property
    def how(self) -> Reading:
        """The same for whoever reads."""
        return Reading(self.side, self.columns, self.merge_turns, self.trim)


class FilterSection(Record):
    """Which cheap rules apply; see docs/filters.md."""

    skip: tuple[Annotated[str, _one_of(filter_names)], ...] = ()
    patterns: Path | None = None
    ascii_english: bool = False
    min_turns: int = Field(default=1, ge=1)


class JudgeSection(Record):
    """Who judges, and by which rubric. The first judge decides what is kept."""

    models: tuple[str, ...] = ()
    rubric: str = "safety"
    per_criterion: bool = False
    votes: int = Field(default=1, ge=1)
    fallback: str | None = None
    canaries: bool = False
    max_tokens: int | None = Field(default=None, ge=1)
    """Room for an answer; None for 200 tokens a criterion."""
    labels: tuple[Path, ...] = ()
    """Label files that a cascade chooses its thresholds on."""
    min_agreement: Share = 0.9
    confidence: Share = 0.95
    retry_unscored: bool = False
    """Ask anew, past the ledger, about what a judge left unscored, and about nothing else that it has seen."""
    people: bool = False
    """Leave to people what a cascade's last judge is not sure of."""


def _check_size(value: object) -> object:
    if value is not None:
        parse_size(str(value))
    return None if value is None else str(value)


def parse_size(text: str) -> int:
    """Read a size such as 4GB or 500MB into megabytes (of a million bytes).

    Raises:
        ValueError: it is none, or below 1 MB.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt])(?:i?b)?\s*", text, re.IGNORECASE)
    size_mb = int(float(match[1]) * 1000.0 ** "kmgt".index(match[2].lower()) / 1000) if match else 0
    if size_mb < 1:
        raise ValueError("not a size such as 4GB or 500MB")
    return size_mb


class DedupSettings(Record):
    """What counts as saying the same, and what the run must not repeat."""

    min_similarity: Share = DEFAULT_MIN_SIMILARITY
    on: On = "all"
    analyzer: Analyzer = "word"
    weights: Weights = "tfidf"
    linkage: Linkage = "single"
    within_category: bool = False
    memory: Annotated[str | None, BeforeValidator(_check_size)] = None
    """Most that the search may take, as 4GB; None for what it needs."""
    refit: bool = False
    """Count the words anew, where an earlier dedup of the run froze how rare they are."""
    against: tuple[Path, ...] | None = None
    """Sets that no conversation may be near: benchmarks, a training mix. None: the run's last; empty: forget them."""
    against_min_similarity: Share = AGAINST_MIN_SIMILARITY
    against_mark: bool = False
    """Only mark what is near a reference, and keep it."""

    @property
    def memory_mb(self) -> int | None:
        """`memory` as a number."""
        return parse_size(self.memory) if self.memory else None


class RewriteSettings(Record):
    """Who mends weak conversations, how often, and who judges the result."""

    model: str | None = None
    judge: str | None = None
    rounds: int = Field(default=1, ge=0)
    limit: int | None = Field(default=None, ge=0)
    """Most attempts in a run; None for as many as are weak."""
    control_share: Share = 0.25
    """Of the attempts, the share whose original and rewrite an LLM judge judges afresh, to tell mending from luck."""


class ExportSettings(Record):
    """Where the kept conversations go."""

    format: Annotated[str, _one_of(lambda: EXPORTERS)] | None = None  # what the file's name tells, or the last one
    path: Path | None = None
    folder: Path | None = None
    """A dataset folder in place of single files: README.md, data/, and what trainers need to be told."""
    licence: str = "other"
    """As the Hub names it; `other` says nothing about it."""
    val_share: Share = 0.0
    oversample: dict[str, float] = Field(default_factory=dict)
    mix: Path | None = None
    """Ordinary conversations for the training file, of which safety is to have `safety_share`; None for a tenth."""
    safety_share: Share | None = None
    force: bool = False


class FrozenSection(Record):
    """A labelled set that never changes; the deciding judge judges it along with the run."""

    file: Path | None = None
    bars: dict[str, Share] = Field(default_factory=dict)
    """Smallest agreement with its labels that `report --check` accepts, by criterion: below it the judge changed."""


class ProbeSection(Record):
    """What a model is asked in a probe, how, and what is accepted of it."""

    prompts: tuple[str, ...] = ()
    """Files of prompts, with `harmful=` or `benign=` before one that does not say it; none for the shipped set."""
    sample: int | None = Field(default=None, ge=1)
    """Ask at most so many prompts, the same ones every time."""
    samples: int = Field(default=1, ge=1)
    """Answers to each prompt."""
    temperature: float | None = Field(default=None, ge=0)
    """None: 0 for one answer, 0.7 for several."""
    max_tokens: int = Field(default=300, ge=1)
    train: tuple[Path, ...] | None = None
    """Training files that no prompt may be near; None for what the run holds."""
    labels: tuple[Path, ...] = ()
    """People's labels of answers, which correct the rates."""
    bars: dict[MeasureName, Share] = Field(default_factory=dict)
    """What `--check` accepts: at least this rate, or at most where less is better."""


class Config(Record):
    """Everything that a run needs to know."""

    run: Path = Path(DEFAULT_RUN)
    models: ModelSettings = ModelSettings()
    generate: GenerateSettings = GenerateSettings()
    reading: ReadingSection = ReadingSection()
    filters: FilterSection = FilterSection()
    judge: JudgeSection = JudgeSection()
    dedup: DedupSettings = DedupSettings()
    rewrite: RewriteSettings = RewriteSettings()
    export: ExportSettings = ExportSettings()
    frozen: FrozenSection = FrozenSection()
    probe: ProbeSection = ProbeSection()
    bars: dict[str, BarSetting] = Field(default_factory=dict)
    """Least pass rates for `report --check`, by criterion or `overall`: a number, or its `corrected` or `low` one."""

    _named: Path | None = PrivateAttr(default=None)
    _base_is_from_file: bool = PrivateAttr(default=False)
    _places: Mapping[str, str | None] = PrivateAttr(default_factory=dict)

    @property
    def places(self) -> Mapping[str, str | None]:
        """Base URLs that a run remembers, of the roles that this command does not name; None: the provider's own."""
        return self._places

    def base_of_role(self, role: str) -> str | None:
        """The base URL meant for who plays a role: the run's, else the one that stands in a flag or a file."""
        return self._places.get(role, self.models.api_base)

    @property
    def base_is_from_file(self) -> bool:
        """Whether `models.api_base` stands in a file, which may have come with somebody's data, and in no flag."""
        return self._base_is_from_file

    @property
    def flags(self) -> str:
        """`--run` and `--config`, with a space before each, as a follow-up command needs them."""
        return run_flag(self.run) + (f" --config {shlex.quote(str(self._named))}" if self._named else "")


def load_config(path: Path | Config | None = None, flags: Mapping[str, Any] | None = None) -> Config:
    """Resolve the configuration.

    Args:
        path: the YAML file, or settings that were resolved before; None for `safetyqc.yaml` in the working folder if
            it is there.
        flags: values by dotted name (`judge.models`); None means that the flag was not given.

    Raises:
        ConfigError: an unknown key or impossible value, in the file (with its line) or in a flag.
    """
    load_keys()
    named = path._named if isinstance(path, Config) else path
    if path is None and Path(FILE_NAME).is_file():
        path = Path(FILE_NAME)
    config = path if isinstance(path, Config) else read_yaml(path, Config) if path else Config()
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    values = config.model_dump(exclude_unset=True)
    for name, value in given.items():
        section, _, key = name.rpartition(".")
        (values.setdefault(section, {}) if section else values)[key] = value
    try:
        resolved = Config.model_validate(values)
    except ValidationError as error:
        raise _flag_error(error) from error
    resolved._named = named
    of_file = path._base_is_from_file if isinstance(path, Config) else config.models.api_base is not None
    resolved._base_is_from_file = of_file and "models.api_base" not in given
    resolved._places = config._places
    return resolved


_TYPES = frozenset(("int", "constrained-int", "literal['auto']"))


def _flag_error(error: ValidationError) -> ConfigError:
    """Say it of the flag: what stands in the file was found wrong before, when it was read."""
    first = error.errors(include_url=False)[0]
    # Where a setting has several types, a last part names the type that was tried; in a list, a number its place
    name = next(part for part in reversed(first["loc"]) if isinstance(part, str) and part not in _TYPES)
    flag = "--" + name.replace("_", "-")
    value, context = first["input"], first.get("ctx", {})
    if isinstance(misfit := context.get("error"), Misfit):
        return ConfigError(misfit.what, where=flag, fix=misfit.fix)
    if choices := re.findall(r"'([^']*)'", context.get("expected", "")):
        return ConfigError(f"unknown value {value!r}", where=flag, fix=choose_from(str(value), choices))
    message = first["msg"].removeprefix("Value error, ")
    return ConfigError(f"{message[0].lower()}{message[1:]}, got {value!r}", where=flag)


def choose_model(named: str | None) -> str:
    """Name the model to write with: the one given, else `local` where no provider's key is set.

    Raises:
        UserError: no model was named although a key is set; whose money to spend is not ours to guess.
    """
    if named:
        return named
    keys = [key for key in wished_keys() if os.environ.get(key)]
    if keys:
        raise UserError(
            f"no model was named, and {keys[0]} is set",
            where="-m/--model",
            fix="name one, such as -m openrouter/meta-llama/llama-3.3-70b-instruct, or -m local for the embedded one",
        )
    return EMBEDDED
