"""Commands about the taxonomy: show, copy, validate, expand."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from safetyqc.cli import options as o
from safetyqc.cli.output import next_step, note, result
from safetyqc.cli.session import in_session
from safetyqc.config import choose_model, load_config
from safetyqc.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from safetyqc.generate.entries import Language
    from safetyqc.generate.taxonomy import Taxonomy
    from safetyqc.pipeline.expanding import Proposal
    from safetyqc.pipeline.session import Session

Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]
Categories = Annotated[
    list[str] | None,
    typer.Option("--category", metavar="NAME", help="Only this category; repeatable.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the group."""
    taxonomy = typer.Typer(
        no_args_is_help=True, rich_markup_mode=None, help="Show, copy, check and extend what plans are dealt from."
    )
    for command in (show, copy, validate, expand):
        taxonomy.command()(command)
    app.add_typer(taxonomy, name="taxonomy")


def show(
    name: Annotated[
        str | None, typer.Argument(metavar="[CATEGORY]", help="One category, as YAML.", show_default=False)
    ] = None,
    taxonomy: o.Taxonomy = None,
) -> None:
    """List the categories with their topics and openers, or print one of them.

    Example: safetyqc taxonomy show privacy_and_personal_data
    """
    import yaml

    from safetyqc.generate.taxonomy import load_taxonomy

    found = load_taxonomy(taxonomy)
    if name is not None:
        values = found.category(name).model_dump(mode="json", exclude_unset=True)
        typer.echo(yaml.safe_dump(values, allow_unicode=True, sort_keys=False, width=120).rstrip())
        next_step("safetyqc taxonomy copy mine.yaml  # to edit all of it")
        return
    for line in _listed(found):
        result(line)
    example = found.categories[0].name
    more = f" --taxonomy {taxonomy}" if taxonomy else ""
    next_step(f"safetyqc taxonomy show {example}{more}", "safetyqc taxonomy copy mine.yaml")


def _listed(taxonomy: Taxonomy) -> list[str]:
    """A line for each category: topics, and openers by language and intent."""
    lines = []
    for category in (*taxonomy.categories, *([taxonomy.ordinary] if taxonomy.ordinary else [])):
        weights = ", ".join(f"{intent} {weight}" for intent, weight in category.intents.items())
        lines.append(f"{category.name}: {len(category.topics)} topics, severity {category.severity} ({weights})")
        for language in taxonomy.languages:
            counts = {intent: len(category.pool(language.name, intent)) for intent in category.active_intents}
            if any(counts.values()):
                told = ", ".join(f"{n} {intent}" for intent, n in counts.items())
                lines.append(f"  {language.name}: openers {told}")
    return lines


def copy(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where to.")],
    force: Force = False,
) -> None:
    """Copy the bundled taxonomy into a file, to be edited.

    Example: safetyqc taxonomy copy mine.yaml
    """
    from safetyqc.formats.writing import write_text
    from safetyqc.generate.taxonomy import BUNDLED

    write_text(path, BUNDLED.read_text(encoding="utf-8"), force=force)
    typer.echo(path)
    next_step(f"safetyqc taxonomy validate {path}", f"safetyqc generate --taxonomy {path} -m MODEL")


def validate(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A taxonomy, or a file that extends one.")],
    language: o.Languages = None,
) -> None:
    """Check a taxonomy file: mistakes with file, line and key, and what plans would lack.

    Example: safetyqc taxonomy validate mine.yaml --language en,fr
    """
    from safetyqc.generate.gaps import find_gaps
    from safetyqc.generate.taxonomy import load_taxonomy
    from safetyqc.text import counted

    found = load_taxonomy(path)
    asked = o.split(language)
    used = [
        told.name
        for told in found.languages
        if any(category.pool(told.name, i) for category in found.categories for i in category.active_intents)
    ]
    languages = asked or tuple(used)
    found.check_languages(languages)
    gaps = find_gaps(found, languages)
    for gap in gaps:
        result(gap)
    topics = sum(len(category.topics) for category in found.categories)
    note(
        f"categories: {len(found.categories)}, topics: {topics}, "
        f"languages {', '.join(languages)}; {counted(len(gaps), 'remark')}"
    )
    next_step(f"safetyqc generate --taxonomy {path} --language {','.join(languages)} -m MODEL")


@o.asking
def expand(
    asked: o.Asking,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where the proposals go, to be edited.")],
    model: o.Model = None,
    category: Categories = None,
    topics: Annotated[int, typer.Option("--topics", metavar="N", min=1, max=20, help="New topics a category.")] = 4,
    openers: Annotated[int, typer.Option("--openers", metavar="N", min=1, max=10, help="Sets of openers a topic.")] = 2,
    language: o.Languages = None,
    into: Annotated[
        str | None,
        typer.Option(
            "--into",
            metavar="CODE=NAME",
            help="Instead of new topics: openers of all topics in another language, such as fr=French.",
            show_default=False,
        ),
    ] = None,
    taxonomy: o.Taxonomy = None,
    force: Force = False,
) -> None:
    """Have a model propose topics, or openers in another language, in a file that you edit and then use.

    Example: safetyqc taxonomy expand more.yaml -m openai/gpt-4o --category general_safety
    """
    from safetyqc.generate.expansion import Wanted
    from safetyqc.generate.taxonomy import load_taxonomy
    from safetyqc.pipeline.expanding import propose, write_proposal

    if path.exists() and not force:
        raise OutputError("is there already", where=str(path), fix="give another path, or --force to replace it")
    known = load_taxonomy(taxonomy)
    target = _language(known, into) if into else None
    chosen = [known.language(name) for name in o.split(language) or ("en", "zh")]
    names = category or [entry.name for entry in known.categories]
    for name in names:
        known.category(name)
    flags: dict[str, Any] = {"generate.model": model}
    config = asked.config(flags)
    config = load_config(config, {"generate.model": choose_model(config.generate.model)})

    async def work(session: Session) -> Proposal:
        return await propose(session, known, names, Wanted(topics, openers), languages=chosen, into=target)

    proposal = in_session(config, work, create=True, quiet=asked.quiet)
    write_proposal(proposal, path, taxonomy, str(config.generate.model), force=force)
    for name, why in proposal.failed.items():
        note(f"warning: nothing usable for {name}: {why}")
    typer.echo(path)
    note(f"{proposal.topics} topics to read and edit")
    codes = target.name if target else ",".join(one.name for one in chosen)
    next_step(f"safetyqc taxonomy validate {path} --language {codes}")


def _language(taxonomy: Taxonomy, told: str) -> Language:
    """The language that `fr=French` means, or one that the taxonomy names."""
    from safetyqc.generate.entries import Language

    code, _, title = told.partition("=")
    if not title:
        return taxonomy.language(code)
    try:
        return Language(name=code, title=title)
    except ValueError as error:
        fix = "a code of two or three letters and a name, such as fr=French"
        raise ConfigError(f"{told!r} is no language", where="--into", fix=fix) from error
