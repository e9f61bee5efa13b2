"""Which model family a model's name tells, and a warning where a judge would judge its own kind.

Models prefer what they (or their siblings) wrote, so a judge should come from elsewhere. A
distilled model belongs to two families, its teacher's and its base's, and shares a family with both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from safetyqc.llm.hosts import EMBEDDED

_FAMILIES = {
    "OpenAI": r"gpt|chatgpt|\bo[134](?:-|\b)|davinci",
    "Claude": r"claude",
    "Gemini": r"gemini|gemma|palm|bison",
    "Llama": r"llama(?!-?cpp)|vicuna|alpaca|hermes",
    "Qwen": r"qwen|qwq",
    "Mistral": r"mistral|mixtral|ministral|codestral|magistral|zephyr",
    "DeepSeek": r"deepseek",
    "Grok": r"grok",
    "Phi": r"\bphi-?\d",
    "Command": r"command-|c4ai|cohere|aya-",
    "GLM": r"glm",
    "Kimi": r"kimi|moonshot",
    "Yi": r"\byi-",
    "Nova": r"nova-|titan",
    "SmolLM": r"smollm",
    "MiniMax": r"minimax",
}


def families(model: str) -> frozenset[str]:
    """Families that a model's name tells; empty for what is embedded (`local`) and unknown names.

    The provider before the last slash is looked at only when the name itself tells nothing.
    """
    if model == EMBEDDED:
        return frozenset()
    for part in (model.rsplit("/", 1)[-1], model):
        found = {name for name, pattern in _FAMILIES.items() if re.search(pattern, part.lower())}
        if found:
            return frozenset(found)
    return frozenset()


def family_warning(judge: str, others: Mapping[str, str | None]) -> str | None:
    """Say so when the judge shares a family with a model in another part, such as author or rewriter.

    Args:
        others: model by part (`author`, `rewriter`); None where there is none.
    """
    own = families(judge)
    clashes = [(part, model, own & families(model)) for part, model in others.items() if model]
    same = [(part, model, shared) for part, model, shared in clashes if shared or (model == judge != EMBEDDED)]
    if not same:
        return None
    told = ", ".join(f"{part} {model}" for part, model, _ in same)
    names = ", ".join(sorted({name for _, _, shared in same for name in shared})) or "one model"
    return (
        f"judge {judge} and {told} are one family ({names}): models favour what their own kind wrote; "
        "confirm with a judge of another family (-m) or with labels (safetyqc compare --labels)"
    )
