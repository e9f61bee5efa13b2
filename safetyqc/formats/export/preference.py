"""One answer to a prompt a line: prompt and completion, DPO pairs, KTO verdicts, for TRL, LLaMA-Factory and axolotl."""

from __future__ import annotations

from typing import Any

from safetyqc.formats.export.encoding import FACTS, Example, Exporter, Held, example_lines, facts_of
from safetyqc.formats.export.trainers import OPENAI_TAGS, axolotl, llamafactory, trl

_HOLDS: frozenset[Held] = FACTS | {"system"}


def _prompt_completion(example: Example) -> dict[str, Any]:
    return {"prompt": example.prompt, "completion": [example.completion], **facts_of(example.conversation)}


def _rejected(example: Example) -> dict[str, str]:
    if example.rejected is None:
        raise ValueError("a pair without a rejected answer")
    return example.rejected.as_messages()[example.answer]


def _dpo(example: Example) -> dict[str, Any]:
    chosen, rejected = [example.completion], [_rejected(example)]
    return {"prompt": example.prompt, "chosen": chosen, "rejected": rejected, **_ids(example)}


def _ids(example: Example) -> dict[str, Any]:
    return {**facts_of(example.conversation), "rejected_id": example.rejected.id if example.rejected else ""}


def _kto(example: Example) -> dict[str, Any]:
    return {
        "prompt": example.prompt,
        "completion": [example.completion],
        "label": not example.failed,
        **facts_of(example.conversation),
    }


def _llamafactory_dpo(example: Example) -> dict[str, Any]:
    pair = {"chosen": example.completion, "rejected": _rejected(example)}
    return {"messages": example.prompt, **pair, **_ids(example)}


def _llamafactory_kto(example: Example) -> dict[str, Any]:
    messages = [*example.prompt, example.completion]
    return {"messages": messages, "kto_tag": not example.failed, **facts_of(example.conversation)}


PROMPT_COMPLETION = Exporter(
    "safety_conversations.prompt-completion.jsonl",
    example_lines(_prompt_completion),
    holds=_HOLDS,
    snippets={"trl.yaml": trl("sft")},
)
DPO = Exporter(
    "safety_pairs.dpo.jsonl",
    example_lines(_dpo),
    takes="pairs",
    holds=_HOLDS,
    snippets={
        "trl.yaml": trl("dpo"),
        "axolotl.yaml": axolotl(rl="dpo", type="chat_template.default", field_messages="prompt"),
    },
)
KTO = Exporter(
    "safety_answers.kto.jsonl",
    example_lines(_kto),
    takes="verdicts",
    holds=_HOLDS,
    snippets={"trl.yaml": trl("kto")},
)
_PAIR_COLUMNS = {"messages": "messages", "chosen": "chosen", "rejected": "rejected"}
LLAMAFACTORY_DPO = Exporter(
    "safety_pairs.llamafactory.jsonl",
    example_lines(_llamafactory_dpo),
    takes="pairs",
    holds=_HOLDS,
    snippets={
        "dataset_info.json": llamafactory(_PAIR_COLUMNS, OPENAI_TAGS, ranking=True),
        "axolotl.yaml": axolotl(rl="dpo", type="chat_template.default", field_messages="messages"),
    },
)
LLAMAFACTORY_KTO = Exporter(
    "safety_answers.llamafactory.jsonl",
    example_lines(_llamafactory_kto),
    takes="verdicts",
    holds=_HOLDS,
    snippets={"dataset_info.json": llamafactory({"messages": "messages", "kto_tag": "kto_tag"}, OPENAI_TAGS)},
)
