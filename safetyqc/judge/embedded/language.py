"""Says in which language a text is written that the embedded judge can read: English, Chinese, or neither.

A guard, not a language detector: what is no plain English and no Chinese (another script or language, romanised or
encoded text) gets None, and the judge says nothing about it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from safetyqc.text import printable

_ENGLISH = """
    the a an of to and in is are was were be been am i you he she it we they this that these those for on with as at by
    from or but if not no yes do does did don't can can't cannot could will would should may might must has have had my
    your his her its our their me him them us what which who how why when where there here so than then because about
    into out up some any all more most just also very only i'm it's you're i'll let's one
"""
_FOREIGN = """
    le la les un une des du de et est que qui dans pour pas je vous nous ne ce se au aux avec sur plus mais el los las
    una y en es por con para del al lo su como mi tu te der das und ist nicht ich sie ein eine zu den mit von auf fur
    dem il di che non per si sono della o os uma em nao voce eu isso da wo ni ta shi bu zai le hao ma wei shen zen yang
    ke yi neng hui jiu dou ye xie qing yao dui bang gei ba kai hai het een van ik niet jag och att det som ini itu
    tidak saya untuk dengan bir ve icin ben khong la va cua toi
"""
_ENGLISH_WORDS, _FOREIGN_WORDS = frozenset(_ENGLISH.split()), frozenset(_FOREIGN.split())
"""Small words that English can hardly do without, and those of other languages that English has not."""
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff]")
_OTHER_CJK = re.compile("[\u3040-\u30ff\uac00-\ud7af]")
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?")
_LINKED = ("://", "www.", "@")
_CODED = re.compile(r"[A-Za-z0-9+/=]{28}")
"""No English word is so long; encoded text has hardly any other."""
WINDOW = 24
"""Words that are looked at together: a passage in another language must not hide behind an English opening."""
LEAST_ENGLISH = 0.12
"""Share of function words in a window that English hardly ever falls below."""


def readable(texts: Iterable[str]) -> str | None:
    """`en` or `zh` for what is written so from beginning to end; None for anything else, and for no words at all."""
    text = printable(" ".join(texts))  # what is invisible between two letters makes no foreign word of them
    if any(mark in text for mark in _LINKED):
        text = " ".join([part for part in text.split() if not any(mark in part for mark in _LINKED)])
    letters = sum(1 for character in text if character.isalpha()) if not text.isascii() else 0
    han = len(_HAN.findall(text)) if letters else 0
    if letters and _foreign_letters(text, han) > 0.1 * letters:
        return None
    plain = unicodedata.normalize("NFKC", text).replace("’", "'").lower()
    words = _WORD.findall(plain)
    if han > len(words) / 2:
        return "zh"
    if not words or _CODED.search(text):
        return "zh" if han and not words else None
    return "en" if all(map(_is_english, _windows(words))) else None


def _foreign_letters(text: str, han: int) -> int:
    """Letters of scripts that are neither Latin nor Chinese."""
    others = sum(1 for c in text if c.isalpha() and ord(c) > 0x24F and not "\uff21" <= c <= "\uff5a")
    return others - han + len(_OTHER_CJK.findall(text))


def _windows(words: list[str]) -> Iterable[list[str]]:
    for start in range(0, max(len(words) - WINDOW // 2, 1), WINDOW):
        yield words[start : start + WINDOW]


def _is_english(words: list[str]) -> bool:
    english = sum(map(_ENGLISH_WORDS.__contains__, words))
    foreign = sum(map(_FOREIGN_WORDS.__contains__, words))
    if foreign > max(english, 1):
        return False
    return len(words) < WINDOW // 2 or english >= LEAST_ENGLISH * len(words) or (english > 0 and not foreign)
