"""Every prompt is a text file in this folder; `render` fills it strictly, `fence` wraps text that must not be obeyed.

A missing value is an error, not an empty string. A fence's marker is derived from the text
it encloses (keyed by a salt the text cannot know), so a prompt is reproducible and yet cannot be closed from inside.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from safetyqc.records import content_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jinja2 import Environment, Template

    from safetyqc.records import Message


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    # Prompts are plain text for a model: HTML escaping would corrupt them
    return Environment(
        loader=FunctionLoader(_read),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,
        auto_reload=False,
    )


@cache
def _template(name: str) -> Template:
    return _environment().get_template(name)


@cache
def _read(name: str) -> str:
    return (files("safetyqc.prompts") / f"{name}.txt").read_text(encoding="utf-8")


def render(name: str, **values: Any) -> str:
    """Fill the prompt `NAME.txt`.

    Raises:
        jinja2.UndefinedError: the prompt names a value that was not given.
    """
    return _template(name).render(values).strip()


@cache
def prompt_hash(name: str) -> str:
    """Hash of a prompt's own text (not of a filled one): results of different wordings must not be mixed."""
    return content_hash(_read(name))[:16]


def fence(text: str, salt: str = "") -> tuple[str, str]:
    """Wrap untrusted text between two lines that it cannot contain.

    Returns:
        (marker, fenced text); the prompt tells the model that everything between the markers is data.
    """
    marker = "data-" + hashlib.sha256(f"{salt}\0{text}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return marker, f"<<{marker}>>\n{text}\n<</{marker}>>"


def number_turns(messages: Sequence[Message], system: str | None = None) -> str:
    """Write a conversation as numbered turns, every line of content indented, so that no line can pose as a turn.

    A system message comes first, without a number and as what it is: the setting, which is not judged or rewritten.
    """
    blocks = [f"{_SETTING}:\n{_indented(system)}"] if system else []
    blocks += [f"[{index}] {message.role}:\n{_indented(message.content)}" for index, message in enumerate(messages)]
    return "\n".join(blocks)


_SETTING = "[system] what the assistant was told before; the setting of the conversation, not a turn of it"


def _indented(text: str) -> str:
    return "\n".join("    " + line for line in text.splitlines() or [""])
