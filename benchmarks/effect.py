"""What a set of conversations does to a small model: train, answer, probe. The tables of docs/effect.md.

    python benchmarks/effect.py table ANSWERS [--judge words]
    python benchmarks/effect.py train NAME=FILE... --gguf MODEL.gguf --out FOLDER [--prompts FILE] [--seeds 0 1]

`table` prints a line for each model of a JSON document of many models' answers with their prompts (`base` beside
`NAME#SEED`), probed against `base`, and needs nothing but safetyqc. `train` fully fine-tunes the model of a GGUF file
on each set (any conversation file that safetyqc reads, such as an export), has every model answer the prompts greedily,
and writes such a document to FOLDER/answers.json; it needs torch, transformers and gguf, which safetyqc does not. Where
there is no GPU it trains on fewer rows and asks fewer prompts (`--rows`, `--sample`).
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import safetyqc as sq
from safetyqc.formats.readers import read_conversations
from safetyqc.probe.prompts import SHIPPED, draw, read_prompts, shipped_prompts
from safetyqc.results.probe import MeasureName, ProbeResult, Prompt

SHOWN: tuple[MeasureName, ...] = ("harm_refused", "benign_helped", "benign_refused", "twin_metric", "incoherent")


# ---- the table ------------------------------------------------------------------------------------------------------


def table(path: str, judges: Sequence[str]) -> list[tuple[str, ProbeResult]]:
    """Probe every model of a file against its base."""
    from safetyqc.formats.json_values import read_text

    names = dict.fromkeys(name.rpartition("#")[0] or name for name in json.loads(read_text(path))["answers"])
    base = f"answers:{path}#base"
    found = []
    for name in names:
        against = None if name == "base" else base
        found.append((name, sq.probe(f"answers:{path}#{name}", against=against, judge=list(judges), quiet=True).result))
    return found


def as_markdown(found: Sequence[tuple[str, ProbeResult]]) -> str:
    heads = ["trained on", "runs", *(name.replace("_", " ") for name in SHOWN), "against base"]
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, result in found:
        measures = result.arms["model"].measures
        cells = []
        for shown in SHOWN:
            measure = measures.get(shown)
            if measure is None or measure.rate is None:
                cells.append(f"all {measure.unscored} open" if measure else "·")
            else:
                ends = sorted((measure.worst or 0.0, measure.best or 0.0))
                bounds = f" ({ends[0]:.2f} to {ends[1]:.2f}, {measure.unscored} open)" if measure.unscored else ""
                cells.append(f"{measure.rate:.2f}{bounds}")
        runs = len({answer.run for answer in result.answers["model"]})
        lines.append("| " + " | ".join([name, str(runs), *cells, result.word or "·"]) + " |")
    return "\n".join(lines)


# ---- training -------------------------------------------------------------------------------------------------------


def train(options: argparse.Namespace) -> None:
    """Fine-tune on every set, answer, and write the answers."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    gpu = torch.cuda.is_available()
    device = "cuda" if gpu else "cpu"
    rows = options.rows or (None if gpu else 32)
    everything = (
        read_prompts(options.prompts) if options.prompts else [p for p in shipped_prompts() if p.language == "en"]
    )
    single = [prompt for prompt in everything if len(prompt.turns) == 1]
    prompts = draw(single, options.sample or (None if gpu else 48))
    sets = {name: chosen(path, rows) for name, path in (pair.split("=", 1) for pair in options.sets)}
    folder, file = str(options.gguf.parent), options.gguf.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
    options.out.mkdir(parents=True, exist_ok=True)
    answers: dict[str, list[str]] = {}

    def fresh() -> Any:
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, torch_dtype=torch.float32)
        return model.to(device)

    told(f"{device}: {len(prompts)} prompts; rows: { {name: len(some) for name, some in sets.items()} }")
    answers["base"] = answered(fresh(), tokenizer, prompts, options.new_tokens, torch)
    save(options.out, prompts, answers)
    for name, conversations in sets.items():
        for seed in options.seeds:
            model = fresh()
            fine_tune(model, tokenizer, conversations, options, seed, torch)
            answers[f"{name}#{seed}"] = answered(model, tokenizer, prompts, options.new_tokens, torch)
            save(options.out, prompts, answers)
    told(f"next:  python benchmarks/effect.py table {options.out / 'answers.json'}")


def chosen(path: str, rows: int | None) -> list[list[dict[str, str]]]:
    found = [c.as_messages() for c in read_conversations(path).conversations]
    return found if rows is None else random.Random(0).sample(found, min(rows, len(found)))


def encoded(tokenizer: Any, messages: list[dict[str, str]], longest: int) -> tuple[list[int], list[int]]:
    """Token ids, and labels that count the assistant's words alone."""
    ids: list[int] = []
    labels: list[int] = []
    for place, message in enumerate(messages):
        upto = tokenizer.apply_chat_template(messages[: place + 1], tokenize=True, return_dict=False)
        new = upto[len(ids) :]
        labels += new if message["role"] == "assistant" else [-100] * len(new)
        ids = upto
    return ids[:longest], labels[:longest]


def fine_tune(
    model: Any, tokenizer: Any, data: Sequence[list[dict[str, str]]], options: Any, seed: int, torch: Any
) -> None:
    """Full fine-tuning: AdamW, a linear fall of the learning rate, one pass after the other over all rows."""
    torch.manual_seed(seed)
    rng, device = random.Random(seed), model.device
    rows = [encoded(tokenizer, messages, options.longest) for messages in data]
    steps = options.epochs * ((len(rows) + options.batch - 1) // options.batch)
    optimiser = torch.optim.AdamW(model.parameters(), lr=options.lr, weight_decay=0.0)
    falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, total_iters=steps)
    model.train()
    started, loss = time.monotonic(), None
    for _ in range(options.epochs):
        rng.shuffle(rows)
        for start in range(0, len(rows), options.batch):
            some = rows[start : start + options.batch]
            width = max(len(ids) for ids, _ in some)
            ids = torch.tensor([ids + [tokenizer.eos_token_id] * (width - len(ids)) for ids, _ in some])
            seen = torch.tensor([[1] * len(ids) + [0] * (width - len(ids)) for ids, _ in some])
            labels = torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in some])
            loss = model(input_ids=ids.to(device), attention_mask=seen.to(device), labels=labels.to(device)).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            falling.step()
            optimiser.zero_grad()
    told(f"seed {seed}: {len(rows)} rows, {steps} steps, loss {float(loss):.2f}, {time.monotonic() - started:.0f} s")


def answered(model: Any, tokenizer: Any, prompts: Sequence[Prompt], new_tokens: int, torch: Any) -> list[str]:
    """Greedy answers, one prompt at a time: padding would change what a small model says."""
    model.eval()
    said = []
    for prompt in prompts:
        asked = [{"role": "user", "content": prompt.turns[0]}]
        ids = tokenizer.apply_chat_template(
            asked, add_generation_prompt=True, tokenize=True, return_dict=False, return_tensors="pt"
        ).to(model.device)
        with torch.no_grad():
            out = model.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=new_tokens, do_sample=False,
                repetition_penalty=1.1, pad_token_id=tokenizer.eos_token_id,
            )  # fmt: skip
        said.append(tokenizer.decode(out[0, ids.shape[1] :], skip_special_tokens=True).strip())
    return said


def save(folder: Path, prompts: Sequence[Prompt], answers: dict[str, list[str]]) -> None:
    asked = [
        {"prompt": p.turns[0], "kind": p.kind, "category": p.category, "language": p.language, "pair": p.pair}
        for p in prompts
    ]
    text = json.dumps({"prompts": asked, "answers": answers}, ensure_ascii=False, indent=1)
    (folder / "answers.json").write_text(text, encoding="utf-8")


def told(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = parser.add_subparsers(required=True, dest="part")
    shown = parts.add_parser("table", help="probe every model in a file of answers")
    shown.add_argument("answers")
    shown.add_argument("--judge", action="append", help="see safetyqc probe (default: words)")
    trained = parts.add_parser("train", help="fine-tune on sets of conversations and answer prompts")
    trained.add_argument("sets", nargs="+", metavar="NAME=FILE")
    trained.add_argument("--gguf", type=Path, required=True)
    trained.add_argument("--out", type=Path, default=Path("effect"))
    trained.add_argument("--prompts", action="append", help=f"instead of the English ones of {SHIPPED}")
    trained.add_argument("--seeds", type=int, nargs="+", default=[0])
    trained.add_argument("--epochs", type=int, default=3)
    trained.add_argument("--lr", type=float, default=1e-4)
    trained.add_argument("--batch", type=int, default=8)
    trained.add_argument("--longest", type=int, default=512)
    trained.add_argument("--new-tokens", type=int, default=100)
    trained.add_argument("--rows", type=int, help="of each set (default: all on a GPU, 32 without)")
    trained.add_argument("--sample", type=int, help="prompts (default: all on a GPU, 48 without)")
    options = parser.parse_args()
    if options.part == "table":
        print(as_markdown(table(options.answers, options.judge or ["words"])))
    else:
        train(options)


if __name__ == "__main__":
    main()
