"""One function per rule: a conversation and the settings in, a reason for people or None out.

Each reads the conversation and nothing else. Reasons quote what was seen, shortened and made printable, because they
are shown in terminals and the text is hostile.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from safetyqc.filters.patterns import PatternFilter, PatternSet, load_patterns
from safetyqc.formats.turns import THOUGHTS, keys_beside, structure_problem
from safetyqc.records import Conversation, Role
from safetyqc.text import CJK, HIDDEN, guess_language, normalise, shorten

_WORD = re.compile(r"[^\W_]+")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
# A replacement character, NUL and other controls, or UTF-8 that was read as Latin-1 or Windows-1252
_GARBLED = re.compile("\ufffd|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]|â€[™œ\x9d“”¦]|Ã[©¨¡¢¶¼\xad]|ï»¿|锟斤拷|烫烫烫")
# One character of each, which is found at once where the whole takes a look at every place
_SUSPECT = re.compile("[\ufffd\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9fâÃï锟烫]")
# Where invisible characters are how a script or emoji are written: joiners between letters of Arabic and Indic scripts
# and between emoji, marks beside letters that run from right to left, flags of regions, selectors behind Chinese
# characters and in Mongolian, a byte-order mark at the start
_SCRIPTS = re.compile(
    "^\ufeff|(?<=[\u0590-\u109f])[\u200c-\u200f\u061c]|[\u200e\u200f\u061c](?=[\u0590-\u08ff])"
    "|(?<=[\u2190-\u303d\ufe0f\U0001f000-\U0001faff])\u200d"
    "|\U0001f3f4[\U000e0030-\U000e007a]{1,6}\U000e007f"
    "|(?<=[\u3400-\u9fff\U00020000-\U0003ffff])[\U000e0100-\U000e01ef]|(?<=[\u1800-\u18af])[\u180b-\u180f\u200d]"
)
_FEW = 8
"""So many soft hyphens, joiners and marks in one message are typography."""
_REVERSED = set("\u202d\u202e")
_SHORT = 6
"""Words up to which the user may say the same again."""
_THOUGHTS = re.compile(
    r"</?(?:think|thinking|thought|thoughts|reasoning|reflection|scratchpad|inner_monologue)>"
    r"|<\|(?:begin|start|end)_of_thought\|>|<seed:think>|<\|channel\|>\s*analysis|\[/?THINK\]|◁/?think▷",
    re.IGNORECASE,
)
_Text = tuple[str, Role, str]
"""Where a text stands, whose it is, and the text."""


@dataclass(frozen=True)
class FilterSettings:
    """What the rules demand.

    Args:
        min_turns: exchanges (a user's message and its answer) that a conversation must have.
        min_answer_words: words that every answer must have; a CJK character counts as a word.
        ascii_english: reject English conversations with characters outside ASCII.
        skip: names of rules that are not applied.
    """

    min_turns: int = 1
    min_answer_words: int = 3
    ascii_english: bool = False
    skip: tuple[str, ...] = ()
    patterns: PatternSet = field(default_factory=load_patterns, repr=False, compare=False)


Filter = Callable[[Conversation, FilterSettings], str | None]


def bad_structure(conversation: Conversation, _: FilterSettings) -> str | None:
    """Messages that do not alternate, as non-empty texts, from user to assistant."""
    problem = structure_problem(conversation.as_messages())
    return problem.what if problem else None


def too_few_turns(conversation: Conversation, settings: FilterSettings) -> str | None:
    """Fewer exchanges than asked for."""
    turns = len(conversation.assistant_turns)
    return f"{turns} exchange(s), {settings.min_turns} asked for" if turns < settings.min_turns else None


def short_answer(conversation: Conversation, settings: FilterSettings) -> str | None:
    """An answer of hardly any words."""
    for number, message in _answers(conversation):
        least = settings.min_answer_words
        # A beginning has no more words than the whole
        if count_words(message[: 20 * least]) < least and (words := count_words(message)) < least:
            return f"message {number} has {words} word(s): {_quote(message)}"
    return None


def template_refusal(conversation: Conversation, settings: FilterSettings) -> str | None:
    """Every answer is nothing but a stock sentence, so there is nothing to learn but the sentence."""
    answers = conversation.assistant_turns
    if answers and all(settings.patterns.is_template(answer) for answer in answers):
        return f"nothing but a stock refusal: {_quote(answers[0])}"
    return None


def not_ascii(conversation: Conversation, settings: FilterSettings) -> str | None:
    """English text with characters outside ASCII; only when asked for."""
    if not settings.ascii_english or language_of(conversation) != "en":
        return None
    found = sorted({c for m in conversation.messages for c in _NOT_ASCII.findall(m.content)})
    return f"{len(found)} character(s) outside ASCII: {_quote(' '.join(found))}" if found else None


def garbled_text(conversation: Conversation, _: FilterSettings) -> str | None:
    """Text that was damaged on its way: wrong encoding, control characters."""
    for place, _role, text in _texts(conversation):
        if _SUSPECT.search(text) and (match := _GARBLED.search(text)):
            characters = " ".join(f"U+{ord(c):04X}" for c in match.group())
            around = text[max(match.start() - 15, 0) : match.end() + 15]
            return f"{place} is damaged ({characters}): {_quote(around)}"
    return None


def hidden_text(conversation: Conversation, _: FilterSettings) -> str | None:
    """Text that a model reads and nobody sees: tags, reversed text, more invisible characters than writing needs."""
    for place, _role, text in _texts(conversation):
        if text.isascii() or HIDDEN.search(text) is None:
            continue
        found = [c for c in HIDDEN.findall(_SCRIPTS.sub("", text)) if c > "\x9f"]
        spoken = "".join(chr(ord(c) - 0xE0000) for c in found if "\U000e0020" <= c <= "\U000e007e")
        if len(found) <= _FEW and not spoken and not _REVERSED.intersection(found):
            continue
        kinds = ", ".join(f"U+{ord(c):04X} x {n}" for c, n in Counter(found).most_common(3))
        said = f", which say {_quote(spoken)}" if spoken else ""
        return f"{place} hides {len(found)} characters ({kinds}){said}"
    return None


def leaked_text(conversation: Conversation, settings: FilterSettings) -> str | None:
    """Instructions, markup or JSON of whoever wrote the conversation."""
    return _pattern_hit(_messages(conversation), settings, "leaked_text")


def role_names(conversation: Conversation, settings: FilterSettings) -> str | None:
    """Role names inside the text, where one message holds several."""
    return _pattern_hit(_messages(conversation), settings, "role_names")


def repeated_turns(conversation: Conversation, _: FilterSettings) -> str | None:
    """A message that says again what an earlier one said, letter by letter but for case and punctuation.

    A few words of the user's ("Go on.") may come again.
    """
    seen: dict[str, int] = {}
    texts = [normalise(message.content) for message in conversation.messages]
    firsts = [word.group() if (word := _WORD.search(text)) else "" for text in texts]
    alike = Counter(firsts)
    for number, message in enumerate(conversation.messages, 1):
        if alike[firsts[number - 1]] == 1:  # nothing else begins like it, so nothing else says it
            continue
        key = " ".join(_WORD.findall(texts[number - 1]))
        is_short = message.role == "user" and _length(message.content) <= _SHORT
        if key and key in seen and not is_short:
            return f"message {number} repeats message {seen[key]}: {_quote(message.content)}"
        seen.setdefault(key, number)
    return None


def dangerous_detail(conversation: Conversation, settings: FilterSettings) -> str | None:
    """Amounts with precursors, attack commands, addresses, numbers of cards and identities; wherever they stand."""
    return _pattern_hit(_texts(conversation), settings, "dangerous_detail")


def thinking_trace(conversation: Conversation, _: FilterSettings) -> str | None:
    """A model's thoughts left in an answer, where a model would learn to say them."""
    for number, text in _answers(conversation):
        if match := _THOUGHTS.search(text):
            return f"message {number} holds thoughts: {_quote(text[match.start() :])}"
    return None


def count_words(text: str) -> int:
    """Count words; a CJK character counts as one."""
    return len(CJK.findall(text)) + len(_WORD.findall(CJK.sub(" ", text)))


def language_of(conversation: Conversation) -> str:
    """The declared language, else a guess from the text."""
    return conversation.language or guess_language(" ".join(m.content for m in conversation.messages))


def _pattern_hit(texts: Iterable[_Text], settings: FilterSettings, name: PatternFilter) -> str | None:
    for place, role, text in texts:
        if hit := settings.patterns.find(name, role, text):
            return f"{hit.pattern} in {place}: {_quote(hit.text)}" + (f" ({hit.why})" if hit.why else "")
    return None


def _messages(conversation: Conversation) -> Iterator[_Text]:
    return ((f"message {number}", m.role, m.content) for number, m in enumerate(conversation.messages, 1))


def _texts(conversation: Conversation) -> Iterator[_Text]:
    """All that a model would be trained on: the system message and thoughts kept beside an answer count as answers."""
    if conversation.system:
        yield "the system message", "assistant", conversation.system
    yield from _messages(conversation)
    for number, keys in keys_beside(conversation).items():
        for name in THOUGHTS:
            if isinstance(text := keys.get(name), str):
                yield f"{name} of message {number + 1}", "assistant", text


def _length(text: str) -> float:
    """Words of a text, a character of Chinese, Japanese or Korean counting as about half a word."""
    return count_words(text) - 0.4 * len(CJK.findall(text))


def _answers(conversation: Conversation) -> list[tuple[int, str]]:
    return [(i, m.content) for i, m in enumerate(conversation.messages, 1) if m.role == "assistant"]


def _quote(text: str) -> str:
    return f'"{shorten(text, 60)}"'
