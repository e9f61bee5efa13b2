"""Where a call of the Python door works: its run, its settings, its data; and how it is run, sync or async.

It knows no stage. A call that ends early says, in a note of its error, where everything that was paid for stands.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Awaitable, Callable, Collection, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from safetyqc.config import Config, load_config
from safetyqc.errors import BudgetReached, ConfigError, Interrupted, ModelError, UserError, choose_from
from safetyqc.pipeline.intake import Data, bring_in, read_data
from safetyqc.pipeline.labelling import with_labels
from safetyqc.pipeline.loop import Listener, Opening, in_session, listener, run_here
from safetyqc.pipeline.roles import Role, recall
from safetyqc.reports.notebook import Folder
from safetyqc.reports.views import Call, Run

if TYPE_CHECKING:
    from safetyqc.formats.readers import ReadResult
    from safetyqc.llm.client import Client
    from safetyqc.pipeline.session import Session
    from safetyqc.pipeline.stages import Tally

P = ParamSpec("P")
T = TypeVar("T")

Settings = Config | str | os.PathLike[str] | None
"""Resolved settings, or a YAML file; None for `safetyqc.yaml` in the working folder, if it is there."""
RunLike = str | os.PathLike[str] | Run
"""A run's folder, or what an earlier call handed back."""

_UNFINISHED: list[Folder] = []
"""Temporary runs of calls that were stopped midway: what they hold was paid for, so they stay until Python ends."""


def sync(twin: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """The same function for code that is not async, also inside a running loop."""

    @functools.wraps(twin)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_here(lambda: twin(*args, **kwargs), listener(quiet=bool(kwargs.get("quiet"))).note)

    call.__name__ = call.__qualname__ = twin.__name__.removeprefix("a")
    del call.__dict__["__wrapped__"]  # it is no coroutine function, whatever asks
    call.__signature__ = inspect.signature(twin)  # type: ignore[attr-defined]
    return call


@dataclass(frozen=True)
class Site:
    """Where a call works: a run's folder with its settings, the data that is to be brought in, and who listens."""

    folder: Folder
    config: Config
    data: Data | None
    view: Run | None
    """What an earlier call handed back, where the call is about that."""
    listener: Listener
    opening: Opening

    def recalling(self, main: Role, *, writes: bool = False, rewrites: bool = False) -> Site:
        """The same place, with who wrote and who decides in its run as defaults (see `roles.recall`)."""
        config = recall(self.config, main, writes=writes, rewrites=rewrites)
        return replace(self, config=config, opening=replace(self.opening, config=config))

    def read(self, *, skip_bad: bool, only_files: Collection[str] | None = None) -> ReadResult | None:
        """The data, or of a folder only these files; None for the run's own conversations."""
        if self.data is None:
            return None
        how = self.config.reading.how
        read = read_data(self.data, self.listener, skip_bad=skip_bad, how=how, only_files=only_files)
        return with_labels(read, self.config)

    def bring_in(self, session: Session, read: ReadResult | None) -> list[str] | None:
        """The ids of what the call is about, in input order: what was read, or what a view shows; None for all."""
        if read is not None:
            return bring_in(session, read, self.listener)
        return list(self.view.ids) if self.view and self.view.ids is not None else None

    def call(self, tallies: Sequence[Tally], cost_usd: float, read: ReadResult | None = None) -> Call:
        """Tell what each stage did, and remember what the call did in all."""
        for tally in tallies:
            self.listener.tell(tally)
        done, missing, waiting = (sum(getattr(t, name) for t in tallies) for name in ("done", "missing", "waiting"))
        return Call(done, missing, waiting, cost_usd, read or (self.view.call.read if self.view else None))


def site_of(
    data: Data | Run | None,
    run: RunLike | None,
    config: Config,
    *,
    client: Client | None = None,
    quiet: bool = False,
    writes: bool = False,
) -> Site:
    """Find the run: the one named, the one that the data is a view of, or a temporary one."""
    if isinstance(data, Run):
        if run is not None:
            raise UserError("data is a run already", where="run", fix="give one of the two")
        data, run = None, data
    if run is None and data is None and not writes:
        raise UserError("there is nothing to work on", fix="give data, or the run that holds it: run='FOLDER'")
    if client is not None and not callable(getattr(client, "complete", None)):
        raise UserError(f"{client!r} answers no requests", where="client", fix="see safetyqc.testing.ScriptedClient")
    folder = run.folder if isinstance(run, Run) else Folder(None if run is None else path_of(run, "run"))
    config = config.model_copy(update={"run": folder.path})
    create = data is not None or writes
    opening = Opening(config, create=create, quiet=quiet, client=client)
    return Site(folder, config, data, run if isinstance(run, Run) else None, listener(quiet=quiet), opening)


def open_view(path: str | os.PathLike[str]) -> Run:
    """A view of the whole run in a folder, which need not be there yet."""
    return Run(Folder(path_of(path, "run")))


def path_of(value: object, name: str) -> Path:
    """The value of the argument `name` as a path.

    Raises:
        UserError: it is none.
    """
    if not isinstance(value, (str, os.PathLike)) or "\0" in str(value) or not str(value):
        raise UserError(f"{str(value)!r} is no path", where=name, fix="give a folder or a file")
    return Path(value)


def configure(base: Settings, sections: Sequence[str], named: Mapping[str, Any], others: Mapping[str, Any]) -> Config:
    """Settings with what a call names: by dotted name, and any other setting of these sections by its own name."""
    sections = (*sections, "reading")
    fields = {section: Config.model_fields[section].annotation.model_fields for section in sections}  # type: ignore[union-attr]
    flags = dict(named)
    for name, value in others.items():
        section = next((section for section in sections if name in fields[section]), None)
        if section is None:
            known = {field for section in sections for field in fields[section]}
            raise ConfigError(f"unknown setting {name!r}", fix=choose_from(name, known))
        flags[f"{section}.{name}"] = value
    return load_config(base if base is None or isinstance(base, Config) else path_of(base, "config"), flags)


def names_of(names: str | Sequence[str] | None) -> Sequence[str] | None:
    """One name or several, as several."""
    return (names,) if isinstance(names, str) else names


async def in_run(site: Site, work: Callable[[Session], Awaitable[T]]) -> tuple[T, float]:
    """Do the work in the opened run; what it gave, and what it cost. A call that is stopped says how to go on."""

    async def counted(session: Session) -> tuple[T, float]:
        before = session.store.spent_usd()
        return await work(session), session.store.spent_usd() - before

    try:
        return await in_session(site.opening, counted)
    except (Interrupted, BudgetReached, ModelError) as error:
        if site.folder.is_temporary:
            _UNFINISHED.append(site.folder)
        until = ", until Python ends" if site.folder.is_temporary else ""
        error.add_note(f"everything answered is saved{until}; go on with run={str(site.folder.path)!r}")
        raise


Batching = bool | str | os.PathLike[str]
"""Whether requests go as a batch: to the provider, or as files into a folder."""


async def staged(session: Session, stage: str, work: Callable[[], Awaitable[T]], site: Site, *, batch: Batching) -> T:
    """Do a stage's work, with `batch` in batches."""
    if not batch:
        return await work()
    if site.folder.is_temporary:
        raise UserError(
            "a batch takes hours, and a temporary run is gone by then", where="batch", fix="give run=FOLDER"
        )
    from safetyqc.pipeline.batching import in_batches

    session.batch_folder = None if isinstance(batch, bool) else path_of(batch, "batch")
    again = f"the same call again, with run={str(site.folder.path)!r}"
    return await in_batches(session, stage, work, site.listener.note, site.listener.command or again)


def refuse_fresh_batch(config: Config, *, batch: Batching) -> None:
    """With fresh answers the call that uses a batch's would ask for them anew, for ever."""
    if batch and config.models.fresh:
        raise UserError("--batch and --fresh exclude each other", fix="give --run NEW to ask everything again")
