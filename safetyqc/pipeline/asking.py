"""The calls of the Python door that ask models: judge, generate, rewrite, each on the caller's loop.

They put together a run, its settings and a stage; what a stage does is `order`'s business.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from safetyqc.errors import UserError
from safetyqc.pipeline.intake import Data
from safetyqc.pipeline.roles import toy_notes
from safetyqc.pipeline.site import (
    Batching,
    RunLike,
    Settings,
    configure,
    in_run,
    names_of,
    refuse_fresh_batch,
    site_of,
    staged,
)
from safetyqc.reports.views import Rewritten, Run, Verdicts, Written

if TYPE_CHECKING:
    from safetyqc.llm.client import Client
    from safetyqc.pipeline.session import Session
    from safetyqc.pipeline.stages import Tally


async def ajudge(
    data: Data | Run | None = None,
    model: str | Sequence[str] | None = None,
    rubric: str | os.PathLike[str] | None = None,
    run: RunLike | None = None,
    *,
    decide: bool = False,
    skip_bad: bool = False,
    shards: str | os.PathLike[str] | None = None,
    shard_format: Literal["jsonl", "parquet"] = "jsonl",
    batch: Batching = False,
    client: Client | None = None,
    quiet: bool = False,
    config: Settings = None,
    **settings: Any,
) -> Verdicts:
    """Score conversations against a rubric.

    Args:
        data: a path; a list with one conversation an item (its messages, or an object that holds them); a DataFrame or
            a Dataset with such rows; a result of another call; None for what the run holds. Equal rows stay apart.
        model: who judges: a model as litellm names it, or `local`; several are all asked, and the result shows the
            first one's verdicts. None: who decides in the run, else `local`, which needs no key.
        rubric: a bundled set or criterion (default: `safety`), or a file of your own.
        run: a folder that keeps everything; None for a temporary one, which goes with the result.
        decide: the first judge decides what the run keeps from now on; else its first judge goes on to.
        skip_bad: leave out rows that are no conversation, and list them in `.skipped`.
        shards: of data that is a folder: where the verdicts of each file go; what is finished there is not read again.
        batch: submit the requests as a batch, at half the price; the same call again uses the answers. A folder: write
            them there as files for `vllm run-batch` or any other runner.
        client: asked in place of every model; for tests. It is not closed.
        quiet: no progress on stderr.
        config: settings, or a file of them.
        settings: any other setting of the sections `judge` and `models`, such as `votes=3` or `max_cost_usd=5`.

    Raises:
        InputError: a row is no conversation; names its index.
        UserError: a setting, file or run that cannot be used.
        FatalModelError, BudgetReached, Interrupted: the call ended early; all that was answered is saved.
    """
    from safetyqc.pipeline.choices import check_settings, family_warnings
    from safetyqc.pipeline.folders import judge_folder
    from safetyqc.pipeline.order import judge_all, named_judge
    from safetyqc.pipeline.shards import Shards

    named = {"judge.models": names_of(model), "judge.rubric": None if rubric is None else str(rubric)}
    site = site_of(data, run, configure(config, ("judge", "models"), named, settings), client=client, quiet=quiet)
    site = site.recalling("decider")
    refuse_fresh_batch(site.config, batch=batch)
    check_settings(site.config, judges=True)
    for warning in family_warnings(site.config):
        site.listener.note(f"warning: {warning}")
    if shards is not None:
        files = Shards(str(data), str(shards), shard_format)
        return await judge_folder(site, files, decide=decide, skip_bad=skip_bad, batch=batch)
    read = site.read(skip_bad=skip_bad)

    async def work(session: Session) -> tuple[list[str] | None, list[Tally], str | None]:
        ids = site.bring_in(session, read)
        tallies = await staged(session, "judge", lambda: judge_all(session, ids, decide=decide), site, batch=batch)
        return ids, tallies, await named_judge(session)

    (ids, tallies, judge), cost_usd = await in_run(site, work)
    return Verdicts(site.folder, site.call(tallies, cost_usd, read), ids, judge)


async def agenerate(
    count: int | None = None,
    model: str | None = None,
    run: RunLike | None = None,
    *,
    languages: str | Sequence[str] | None = None,
    top_up: Mapping[str, int] | None = None,
    prompts: str | Sequence[str] | None = None,
    batch: Batching = False,
    client: Client | None = None,
    quiet: bool = False,
    config: Settings = None,
    **settings: Any,
) -> Written:
    """Write safety conversations by a seeded, exactly balanced plan; the same call with the same run goes on.

    Args:
        count: how many (default: 600).
        model: who writes.
        languages: to mix evenly, such as `["en", "zh"]`.
        top_up: how many more of a category, on top of the plan.
        prompts: files of prompts that are answered instead of a plan's scenarios.
        settings: any other setting of the sections `generate` and `models`, such as `turns=2` or `seed=7`.

    The others, and the errors, are those of `judge`.
    """
    from safetyqc.pipeline.answering import answer_prompts, read_prompts
    from safetyqc.pipeline.choices import author_mode, author_model, check_settings
    from safetyqc.pipeline.order import generate as generate_stage

    named = {"generate.count": count, "generate.model": model, "generate.languages": names_of(languages)}
    configured = configure(config, ("generate", "models"), named, settings)
    site = site_of(None, run, configured, client=client, quiet=quiet, writes=True).recalling("author", writes=True)
    refuse_fresh_batch(site.config, batch=batch)
    if batch and not prompts and author_mode(site.config) != "oneshot":
        raise UserError("a dialogue cannot go in batches: each turn waits for the one before", fix="--mode oneshot")
    check_settings(site.config, writes=True, wanted=top_up)
    for line in toy_notes(author_model(site.config), site.config.generate.assistant):
        site.listener.note(line)

    asked = read_prompts(names_of(prompts) or ()) if prompts else []

    async def work(session: Session) -> tuple[list[str], Tally]:
        write = (lambda: answer_prompts(session, asked)) if asked else (lambda: generate_stage(session, top_up))
        tally = await staged(session, "generate", write, site, batch=batch)
        return [c.id for c in session.store.conversations() if c.origin == "generated"], tally

    (ids, tally), cost_usd = await in_run(site, work)
    return Written(site.folder, site.call([tally], cost_usd), ids)


async def arewrite(
    data: Data | Run | None = None,
    model: str | None = None,
    run: RunLike | None = None,
    *,
    judge: str | Sequence[str] | None = None,
    rubric: str | os.PathLike[str] | None = None,
    rounds: int | None = None,
    skip_bad: bool = False,
    batch: Batching = False,
    client: Client | None = None,
    quiet: bool = False,
    config: Settings = None,
    **settings: Any,
) -> Rewritten:
    """Mend conversations that failed; a rewrite is kept only if nothing that passed now fails.

    Args:
        data: as for `judge`; what is not of a run is judged first.
        model: who rewrites.
        judge: who judges the rewrites.
        rounds: attempts for each conversation (default: 1).
        settings: any other setting of the sections `rewrite`, `judge` and `models`.

    The others, and the errors, are those of `judge`.
    """
    from safetyqc.pipeline.choices import author_model, rewriter_model
    from safetyqc.pipeline.order import judge_all, mend

    named = {
        "rewrite.model": model,
        "rewrite.rounds": rounds,
        "judge.models": names_of(judge),
        "judge.rubric": None if rubric is None else str(rubric),
    }
    configured = configure(config, ("rewrite", "judge", "models"), named, settings)
    site = site_of(data, run, configured, client=client, quiet=quiet).recalling("rewriter", rewrites=True)
    for line in toy_notes(rewriter_model(site.config) or author_model(site.config)):
        site.listener.note(line)
    read = site.read(skip_bad=skip_bad)

    async def work(session: Session) -> tuple[list[str] | None, Tally]:
        ids = site.bring_in(session, read)
        for tally in await judge_all(session, ids) if read else ():
            site.listener.tell(tally)
        return ids, await staged(session, "rewrite", lambda: mend(session), site, batch=batch)

    (ids, tally), cost_usd = await in_run(site, work)
    return Rewritten(site.folder, site.call([tally], cost_usd, read), ids)
