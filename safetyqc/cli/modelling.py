"""Commands about models themselves: models check."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import next_step, result, show_json
from safetyqc.config import load_config

if TYPE_CHECKING:
    from safetyqc.llm.check import ModelReport


def register(app: typer.Typer) -> None:
    """Add these commands."""
    models = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="See whether a model can be used.")
    models.command("check")(check)
    app.add_typer(models, name="models")


def check(
    model: Annotated[str, typer.Option("--model", "-m", metavar="MODEL", help="As litellm names it, or local[:PATH].")],
    api_base: o.ApiBase = None,
    lane: o.Lane = None,
    config_file: o.ConfigFile = None,
    as_json: o.AsJson = False,
) -> None:
    """Make one cheap call and say whether key, model, schema support, limits and price are known.

    Example: safetyqc models check -m openai/gpt-4o-mini
    """
    import asyncio

    config = load_config(config_file, o.model_flags(api_base=api_base, lane=lane))

    async def run() -> ModelReport:
        from safetyqc.llm.check import check_model
        from safetyqc.pipeline.session import open_client

        client = open_client(config, store=None)
        try:
            return await check_model(client, model)
        finally:
            await client.close()

    report = asyncio.run(run())
    if as_json:
        show_json(report.model_dump(mode="json"))
    else:
        for line in _told(report):
            result(line)
    if not report.usable:
        raise typer.Exit(3)
    there = f" --api-base {shlex.quote(api_base)}" if api_base else ""
    next_step(f"safetyqc generate -n 18 -m {shlex.quote(model)}{there}" + (f" --lane {lane}" if lane else ""))


def _told(report: ModelReport) -> list[str]:
    price = (
        f"${report.input_usd:g} in, ${report.output_usd:g} out per million tokens"
        if report.input_usd is not None
        else "unknown"
    )
    limits = [f"{report.requests_per_minute:g} requests/min"] if report.requests_per_minute else []
    limits += [f"{report.tokens_per_minute:g} tokens/min"] if report.tokens_per_minute else []
    facts = {
        "model": report.model,
        "lane": report.lane + (f" ({report.api_base})" if report.api_base else ""),
        "key": report.key,
        "answers": f"yes, in {report.latency_s:.1f} s" if report.answered and report.latency_s is not None else "no",
        "schema": (report.format or "not followed") if report.answered else "not tried",
        "limits": ", ".join(limits) or "not told",
        "price": price,
    }
    lines = [f"{name:<8} {value}" for name, value in facts.items()]
    return lines + ([f"error    {report.error}"] if report.error else []) + [f"fix      {fix}" for fix in report.fixes]
