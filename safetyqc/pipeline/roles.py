"""Who writes, mends and decides in a run, and where each is asked: remembered with it, later commands' default.

What a command names goes before what the run remembers. The embedded model is never the default for a run that another
model or a file made. Runs of earlier versions remember no roles; who wrote and who decides is read from what they hold.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from safetyqc.config import load_config
from safetyqc.errors import UserError
from safetyqc.judge.kinds import JudgeSettings
from safetyqc.judge.table import asked_by
from safetyqc.llm.hosts import EMBEDDED, base_of
from safetyqc.llm.llama import TRY_OUT_NOTE
from safetyqc.pipeline.choices import asked_at, author_mode, author_model, places_of, rewriter_model
from safetyqc.records import RoleModel
from safetyqc.store import FILE_NAME, Store
from safetyqc.store.roles import Cast, read_cast

if TYPE_CHECKING:
    from safetyqc.config import Config

Role = Literal["author", "assistant", "rewriter", "decider"]
_SETTINGS: dict[str, str] = {"author": "generate.model", "assistant": "generate.assistant", "rewriter": "rewrite.model"}


def recall(config: Config, main: Role, *, writes: bool = False, rewrites: bool = False, follows: bool = True) -> Config:
    """Settings with the run's own author, assistant, rewriter and judge where this command names none.

    Args:
        main: the role that the command is about: `--api-base` is meant for it, and not for the others.
        follows: the run's author counts; not where other people's data is brought in, which nobody asked it to mend.
        writes: the command has new conversations written; rewrites: it has those of the run mended or varied.

    Raises:
        UserError: nobody was named, and the embedded model would be let into a run that it did not make.
        RunError: the run cannot be read.
    """
    if not (config.run / FILE_NAME).exists():
        return config
    with Store.read(config.run) as store:
        cast = read_cast(store)
    named = {"author": config.generate.model, "assistant": config.generate.assistant, "rewriter": config.rewrite.model}
    named["decider"] = config.judge.models[0] if len(config.judge.models) == 1 else ",".join(config.judge.models)
    typed = config.models.api_base is not None and not config.base_is_from_file
    flags: dict[str, object] = {}
    places: dict[str, str | None] = {}
    roles = cast.roles if follows else {role: who for role, who in cast.roles.items() if role != "author"}
    for role, who in roles.items():
        if named.get(role) not in (None, "", who.model):
            continue
        if not named.get(role):
            flags[_SETTINGS.get(role, "judge.models")] = (who.model,) if role == "decider" else who.model
        if not typed or (role != main and not named.get(role)):
            places[role] = place_of(who, config)
    if main == "decider" and not config.judge.models and "decider" not in cast.roles:
        flags["judge.models"] = (config.generate.model or EMBEDDED,)  # who wrote is not asked to judge unless told to
    mends = not named["rewriter"] and "rewriter" not in roles and not (typed and main == "rewriter")
    if mends and "author" in places:
        places["rewriter"] = places["author"]
    recalled = load_config(config, flags)
    recalled._places = places
    if writes and not named["author"] and recalled.generate.model in (None, EMBEDDED):
        _refuse_toy(cast)
    if rewrites and not (named["rewriter"] or named["author"]) and rewriter_model(recalled) in (None, EMBEDDED):
        _refuse_toy(cast)
    return recalled


def author_roles(config: Config) -> dict[str, RoleModel]:
    """Who writes by these settings, to be remembered."""
    roles = {"author": _role(author_model(config), config, "author")}
    if config.generate.assistant and author_mode(config) == "dialogue":
        roles["assistant"] = _role(config.generate.assistant, config, "assistant")
    return roles


def rewriter_roles(config: Config) -> dict[str, RoleModel]:
    """Who mends, to be remembered where it is somebody of its own: else it is the author, whoever that is then."""
    return {"rewriter": _role(config.rewrite.model, config, "rewriter")} if config.rewrite.model else {}


def decider_role(spec: str, config: Config, base: str | None) -> dict[str, RoleModel]:
    """Who decides, to be remembered: as it is typed, since a judge's name does not tell how to make it."""
    asked = [model.model for model in asked_by(spec, JudgeSettings())]
    places = [place for model in asked if (place := asked_at(config, model, base))]
    return {"decider": RoleModel(model=spec, api_base=places[0] if places else None)}


def toy_notes(*models: str | None) -> list[str]:
    """What has to be said when one of these models writes."""
    return [TRY_OUT_NOTE] if EMBEDDED in models else []


def _role(model: str, config: Config, role: str) -> RoleModel:
    return RoleModel(model=model, api_base=asked_at(config, model, config.base_of_role(role)))


def place_of(who: RoleModel, config: Config) -> str | None:
    """The remembered URL, as it is typed now where that is the same; None where the environment says so too.

    So the same question stays the same request, which the ledger answers.
    """
    # A judge is remembered as it is typed, such as guard:NAME@MODEL: where it is asked, its models say
    models = [asked.model for asked in asked_by(who.model, JudgeSettings())] or [who.model]
    if any(places_of(config).base(model) == who.api_base for model in models):
        return config.models.api_base
    known = who.api_base is None or any(base_of(model, None) == who.api_base for model in models)
    return None if known else who.api_base


def _refuse_toy(cast: Cast) -> None:
    if cast.others:
        raise UserError(
            f"no model was named, and the run holds {cast.others}: the embedded 135M model is for trying only",
            where="-m/--model",
            fix="name the model that writes with -m, or give -m local to have the embedded one write all the same",
        )
