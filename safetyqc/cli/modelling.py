"""Commands about models themselves: models check, models list."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import next_step, note, result, show_json
from safetyqc.config import load_config
from safetyqc.text import counted

if TYPE_CHECKING:
    from safetyqc.llm.check import ModelReport


def register(app: typer.Typer) -> None:
    """Add these commands."""
    models = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="See whether a model can be used, and what a server serves."
    )
    models.command("check")(check)
    models.command("list")(list_served)
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


def list_served(
    server: Annotated[
        str, typer.Argument(metavar="SERVER", help="Whose models: a prefix as in -m, such as ollama or vllm.")
    ] = "openai",
    api_base: o.ApiBase = None,
    config_file: o.ConfigFile = None,
    as_json: o.AsJson = False,
) -> None:
    """Name the models that a server of your own serves, as -m takes them; asks none of them anything.

    Example: safetyqc models list --api-base http://localhost:8000/v1
    """
    import asyncio

    from safetyqc.llm.listing import list_models
    from safetyqc.text import printable

    load_config(config_file, {})  # keys that stand in files
    base, names = asyncio.run(list_models(server, api_base))
    there = f" --api-base {shlex.quote(api_base)}" if api_base else ""
    if as_json:
        show_json({"api_base": base, "models": [f"{server}/{name}" for name in names]})
        return
    for name in names:
        result(f"{server}/{name}")
    note(f"{counted(len(names), 'model')} at {base}")
    first = shlex.quote(printable(f"{server}/{names[0]}")) if names else "MODEL"
    next_step(f"safetyqc models check -m {first}{there}")


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
