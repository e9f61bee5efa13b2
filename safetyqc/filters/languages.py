"""A text and the language that it is said to be in -> the language that it is written in, if plainly another.

Letters tell scripts apart, small words the commonest languages of the Latin script. It names nothing where it cannot
tell, and a text that mixes languages, as translations do, is left alone.
"""

from __future__ import annotations

import re
from collections import Counter

_SCRIPTS: dict[str, str] = {
    "zh": "\u3400-\u4dbf\u4e00-\u9fff",
    "ja": "\u3040-\u30ff",
    "ko": "\uac00-\ud7af\u1100-\u11ff",
    "ru": "\u0400-\u04ff",
    "el": "\u0370-\u03ff",
    "he": "\u0590-\u05ff",
    "ar": "\u0600-\u06ff\u0750-\u077f",
    "hi": "\u0900-\u097f",
    "bn": "\u0980-\u09ff",
    "ta": "\u0b80-\u0bff",
    "te": "\u0c00-\u0c7f",
    "th": "\u0e00-\u0e7f",
    "ka": "\u10a0-\u10ff",
    "am": "\u1200-\u137f",
    "": "A-Za-z\u00c0-\u024f\u1e00-\u1eff",
}
"""Scripts by the language that stands for each; the Latin one has none."""
_SHARED = {"ru": "Cyrillic letters", "ar": "Arabic letters", "hi": "Devanagari letters"}
"""What a script that several languages share is called."""
_LETTERS = {name: re.compile(f"[{letters}]") for name, letters in _SCRIPTS.items()}
_WRITTEN_IN = {
    **dict.fromkeys(("zh", "yue", "wuu"), ("zh",)),
    "ja": ("ja", "zh"),
    "ko": ("ko", "zh"),
    **dict.fromkeys(("ru", "uk", "be", "bg", "mk", "kk", "ky", "mn", "tg"), ("ru",)),
    **dict.fromkeys(("ar", "fa", "ur", "ps", "ug", "sd", "ckb"), ("ar",)),
    **dict.fromkeys(("hi", "mr", "ne", "sa"), ("hi",)),
    **dict.fromkeys(("bn", "as"), ("bn",)),
    **dict.fromkeys(("he", "yi"), ("he",)),
    **dict.fromkeys(("am", "ti"), ("am",)),
    **{code: (code,) for code in ("el", "ta", "te", "th", "ka")},
    **dict.fromkeys(("sr", "az", "uz", "bs"), ("ru", "")),
    **dict.fromkeys(
        (
            *("en", "de", "fr", "es", "it", "pt", "nl", "pl", "cs", "sk", "sl", "hr", "ro", "hu", "fi", "et", "lv"),
            *(
                "lt",
                "sv",
                "da",
                "no",
                "nb",
                "nn",
                "is",
                "tr",
                "vi",
                "id",
                "ms",
                "tl",
                "sw",
                "af",
                "ca",
                "eu",
                "gl",
                "sq",
            ),
        ),
        ("",),
    ),
}
"""Language -> scripts that it is written in."""
_SMALL_WORDS = {
    "en": "the and is are of to that you this with for not have what it was can do i my",
    "de": "der die das und ist nicht ich sie du mit ein eine einen zu den dem wie kann auf für es von auch",
    "fr": "le les des et est une un je vous pas que qui dans pour ne avec ce sur il elle mais du au cette",
    "es": "el los las y es una que no en por para con se lo como más pero del al está su puede usted",
    "it": "il gli che di è una un per non con sono come ma del della questo anche nel più si lo",
    "pt": "os as e é um uma que não em por para com se como mais mas do da você ao isso são",
    "nl": "de het en is een van niet ik je met voor dat op te zijn hoe aan ook kan wat er maar",
}
_SMALL = {name: frozenset(words.split()) for name, words in _SMALL_WORDS.items()}
_WORD = re.compile(r"[^\W\d_]+")
_FEWEST_LETTERS, _PLAINLY = 20, 0.85
_FEWEST_WORDS, _TIMES, _SHARE = 8, 4, 0.2
_READ = 20_000
"""Characters from which the language is plain."""


def written_in(text: str, declared: str) -> str | None:
    """Name the language that a text is plainly written in, if it is not the declared one; None otherwise."""
    code = declared.casefold().replace("_", "-").partition("-")[0]
    expected = _WRITTEN_IN.get(code)
    if expected is None or (expected == ("",) and text.isascii() and code not in _SMALL):
        return None
    letters = {name: len(pattern.findall(text[:_READ])) for name, pattern in _LETTERS.items()}
    total = sum(letters.values())
    if total < _FEWEST_LETTERS:
        return None
    if sum(letters[name] for name in expected) < (1 - _PLAINLY) * total:
        script = "ja" if letters["ja"] > 0.1 * total else max(letters, key=lambda name: letters[name])
        return _SHARED.get(script, script) if script else _by_small_words(text) or "Latin letters"
    if code == "zh" and letters["ja"] > 0.2 * total:
        return "ja"
    if code in _SMALL and letters[""] > _PLAINLY * total:
        return _by_small_words(text, code)
    return None


def _by_small_words(text: str, code: str = "") -> str | None:
    """The language whose small words a text is full of, unless those of `code` are as good as as many."""
    words = Counter(_WORD.findall(text[:_READ].casefold()))
    found = {name: sum(words[word] for word in small) for name, small in _SMALL.items()}
    best = max(found, key=lambda name: found[name])
    plainly = found[best] >= max(_FEWEST_WORDS, _SHARE * words.total()) and found[best] >= _TIMES * found.get(code, 0)
    return best if plainly and best != code and len(_SMALL[best] & words.keys()) >= _FEWEST_WORDS // 2 else None
