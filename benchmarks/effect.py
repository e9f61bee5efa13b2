"""What a set of conversations does to a small model: train, answer, probe. The tables of docs/effect.md.

    python benchmarks/effect.py table ANSWERS [--judge words]
    python benchmarks/effect.py train NAME=FILE|H:B:O... --gguf MODEL.gguf --out FOLDER [--prompts FILE...]

`table` prints a line for each model of a JSON document of many models' answers with their prompts (`base` beside
`NAME#SEED`), probed against `base`, and needs nothing but safetyqc. `train` fine-tunes the model of a GGUF file on each
set: any conversation file that safetyqc reads, such as an export, or a mix of as many harmful openers of the bundled
plan with composed refusals, benign twins with the model's own answers, and ordinary requests as H:B:O says. Every model
answers the prompts greedily, and FOLDER/answers.json is such a document, FOLDER/NAME.jsonl the set. It needs torch,
transformers, accelerate and gguf, which safetyqc does not. Where there is no GPU the upper layers alone learn
(`--layers`), on fewer rows of files and with fewer prompts (`--rows`, `--sample`).
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import safetyqc as sq
from safetyqc.formats.readers import read_conversations
from safetyqc.generate.dealing import Deal
from safetyqc.generate.scenarios import plan
from safetyqc.generate.taxonomy import load_taxonomy
from safetyqc.probe.prompts import SHIPPED, draw, read_prompts, shipped_prompts
from safetyqc.results.probe import MeasureName, ProbeResult, Prompt

SHOWN: tuple[MeasureName, ...] = ("harm_refused", "benign_helped", "benign_refused", "twin_metric", "incoherent")
MIX = re.compile(r"\d+:\d+:\d+")


# ---- the table ------------------------------------------------------------------------------------------------------


def table(path: str, judges: Sequence[str]) -> list[tuple[str, ProbeResult]]:
    """Probe every model of a file against its base."""
    from safetyqc.formats.opened import read_text

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


# ---- the sets -------------------------------------------------------------------------------------------------------

Conversations = list[list[dict[str, str]]]
HERE = Path(__file__).parent


def planned() -> list[tuple[str, str, str]]:
    """Harmful openers of the tool's own plan, each with a refusal that is composed and with its twin."""
    scenarios = plan(load_taxonomy(), 1000, 0, Deal(turns=1))
    twins = {s.pair: s.openers[0] for s in scenarios if s.pair and s.intent == "benign"}
    words = yaml.safe_load((HERE / "refusals.yaml").read_text(encoding="utf-8"))
    found: dict[str, tuple[str, str, str]] = {}
    for s in scenarios:
        if s.intent != "harmful" or s.pair not in twins or s.openers[0] in found:
            continue
        n, of = len(found), s.category
        parts = (words["openings"], words["reasons"][of], words["offers"][of])
        said = " ".join(some[(n + n // len(some)) % len(some)] for some in parts)
        found[s.openers[0]] = (s.openers[0], said, twins[s.pair])
    return list(found.values())


def exchange(asked: str, said: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]


def mixes(
    specs: Mapping[str, str], rows: int | None, own: Callable[[Sequence[str]], list[str]]
) -> dict[str, Conversations]:
    """The conversations of each set: a file's, or as many harmful, benign and ordinary ones as H:B:O says.

    `own` answers harmless requests, once for all sets: the model's own words, so that a set teaches nothing else there.
    """
    counts = {name: [int(part) for part in spec.split(":")] for name, spec in specs.items() if MIX.fullmatch(spec)}
    rows_of = {name: chosen(spec, rows) for name, spec in specs.items() if name not in counts}
    if not counts:
        return rows_of
    pairs, ordinary = planned(), everyday()
    for name, (harmful, benign, other) in counts.items():
        if max(harmful, benign) > len(pairs) or other > len(ordinary):
            raise SystemExit(
                f"{name}: there are {len(pairs)} harmful and benign openers and {len(ordinary)} ordinary ones"
            )
    asked = [twin for _, _, twin in pairs[: max(benign for _, benign, _ in counts.values())]]
    helped = [exchange(twin, said) for twin, said in zip(asked, own(asked), strict=True)]
    for name, (harmful, benign, other) in counts.items():
        refused = [exchange(opener, said) for opener, said, _ in pairs[:harmful]]
        rows_of[name] = refused + helped[:benign] + ordinary[:other]
    return rows_of


def everyday() -> Conversations:
    found = [
        c.as_messages()[:2]
        for c in read_conversations(str(HERE / "everyday.jsonl")).conversations
        if c.language == "en"
    ]
    return random.Random(0).sample(found, len(found))


def chosen(path: str, rows: int | None) -> Conversations:
    found = [c.as_messages() for c in read_conversations(path).conversations]
    return found if rows is None else random.Random(0).sample(found, min(rows, len(found)))


# ---- training -------------------------------------------------------------------------------------------------------


def train(options: argparse.Namespace) -> None:
    """Fine-tune on every set, answer, and write the answers."""
    import torch

    gpu = torch.cuda.is_available()
    rows = options.rows or (None if gpu else 32)
    files = [name for name in options.prompts if name != SHIPPED]
    everything = [p for p in shipped_prompts() if p.language == "en"] if SHIPPED in options.prompts else []
    everything += read_prompts(files)
    single = [prompt for prompt in everything if len(prompt.turns) == 1 and prompt.kind in options.kinds]
    prompts = draw(single, options.sample or (None if gpu else 48))
    small = Small(options, torch, gpu)
    options.out.mkdir(parents=True, exist_ok=True)
    sets = mixes(dict(pair.split("=", 1) for pair in options.sets), rows, small.answer)
    told(f"{small.device}: {len(prompts)} prompts; rows: { {name: len(some) for name, some in sets.items()} }")
    for name, some in sets.items():
        lines = [json.dumps({"messages": messages}, ensure_ascii=False) for messages in some]
        (options.out / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    asked = [prompt.turns[0] for prompt in prompts]
    answers = {"base": small.answer(asked)}
    save(options.out, prompts, answers)
    for seed in options.seeds:
        for name, conversations in sets.items():
            small.fine_tune(conversations, seed)
            answers[f"{name}#{seed}"] = small.answer(asked)
            save(options.out, prompts, answers)
            told(f"{name}#{seed} answered")
    told(f"next:  python benchmarks/effect.py table {options.out / 'answers.json'}")


class Small:
    """A small model that is trained anew from the same weights for every set.

    With `--layers N` only the last N layers learn. What the frozen ones make of a row is then computed once and serves
    every pass, set and seed: so a few mixes fit into an hour of two cores.
    """

    def __init__(self, options: Any, torch: Any, gpu: bool) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        folder, file = str(options.gguf.parent), options.gguf.name
        self.options, self.torch, self.device = options, torch, "cuda" if gpu else "cpu"
        self.together = 192 if gpu else 24
        torch.set_float32_matmul_precision("high")
        self.tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=file)
        model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=file, dtype=torch.float32)
        self.model = model.to(self.device)
        layers = list(model.model.layers)
        kept = options.layers or (len(layers) if gpu else 8)
        self.lower, self.upper = layers[:-kept], layers[-kept:]
        learns = set(model.parameters()) if not self.lower else {p for layer in self.upper for p in layer.parameters()}
        for parameter in model.parameters():
            parameter.requires_grad_(parameter in learns)
        self.weights = {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
        self.seen: dict[tuple[int, ...], Any] = {}

    def encoded(self, messages: list[dict[str, str]]) -> tuple[list[int], list[int]]:
        """Token ids, and labels that count the assistant's words alone."""
        ids: list[int] = []
        labels: list[int] = []
        for place, message in enumerate(messages):
            upto = self.template(messages[: place + 1])
            new = upto[len(ids) :]
            labels += new if message["role"] == "assistant" else [-100] * len(new)
            ids = upto
        return ids[: self.options.longest], labels[: self.options.longest]

    def template(self, messages: list[dict[str, str]], *, prompt: bool = False) -> list[int]:
        """The tokens of messages, ready to be answered with `prompt`."""
        system = [] if self.options.system is None else [{"role": "system", "content": self.options.system}]
        return self.tokenizer.apply_chat_template(
            [*system, *messages], add_generation_prompt=prompt, tokenize=True, return_dict=False
        )

    def see(self, rows: Sequence[list[int]], together: int = 16) -> None:
        """Compute what the frozen layers make of rows that were not seen yet."""
        body, torch = self.model.model, self.torch
        new = sorted({tuple(ids) for ids in rows} - self.seen.keys(), key=len)
        norm, body.norm = body.norm, torch.nn.Identity()
        body.layers = torch.nn.ModuleList(self.lower)
        for some in (new[start : start + together] for start in range(0, len(new), together)):
            ids = torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in some], batch_first=True)
            with torch.no_grad():
                found = body(input_ids=ids.to(self.device), use_cache=False).last_hidden_state
            self.seen.update({row: hidden[: len(row)].clone() for row, hidden in zip(some, found, strict=True)})
        body.norm, body.layers = norm, torch.nn.ModuleList([*self.lower, *self.upper])

    def loss(self, batch: Sequence[tuple[list[int], list[int]]]) -> Any:
        """Cross entropy of the assistant's tokens; rows are padded at their ends, which no earlier token sees."""
        torch, body = self.torch, self.model.model
        width = max(len(ids) for ids, _ in batch)
        labels = torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in batch]).to(self.device)
        if self.lower:
            given = torch.nn.utils.rnn.pad_sequence([self.seen[tuple(ids)] for ids, _ in batch], batch_first=True)
            body.layers = torch.nn.ModuleList(self.upper)
            hidden = body(inputs_embeds=given, use_cache=False).last_hidden_state
            body.layers = torch.nn.ModuleList([*self.lower, *self.upper])
        else:
            ids = torch.tensor([ids + [self.tokenizer.eos_token_id] * (width - len(ids)) for ids, _ in batch])
            hidden = body(input_ids=ids.to(self.device), use_cache=False).last_hidden_state
        counted = labels[:, 1:] != -100
        return torch.nn.functional.cross_entropy(self.model.lm_head(hidden[:, :-1][counted]), labels[:, 1:][counted])

    def fine_tune(self, data: Conversations, seed: int) -> None:
        """AdamW, a linear fall of the learning rate, one pass after the other over all rows, from the first weights."""
        torch, options = self.torch, self.options
        torch.manual_seed(seed)
        for name, parameter in self.model.named_parameters():
            if name in self.weights:
                parameter.data.copy_(self.weights[name])
        rng, rows = random.Random(seed), [self.encoded(messages) for messages in data]
        steps = options.epochs * ((len(rows) + options.batch - 1) // options.batch)
        learning = [p for p in self.model.parameters() if p.requires_grad]
        optimiser = torch.optim.AdamW(learning, lr=options.lr, weight_decay=0.0)
        falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.05, total_iters=steps)
        started = time.monotonic()
        if self.lower:
            self.see([ids for ids, _ in rows])
        self.model.train()
        for epoch in range(options.epochs):
            rng.shuffle(rows)
            losses = []
            for start in range(0, len(rows), options.batch):
                loss = self.loss(rows[start : start + options.batch])
                loss.backward()
                torch.nn.utils.clip_grad_norm_(learning, 1.0)
                optimiser.step()
                falling.step()
                optimiser.zero_grad()
                losses.append(float(loss.detach()))
            passed = f"{time.monotonic() - started:.0f} s, {time.process_time():.0f} CPU s so far"
            told(f"seed {seed}, pass {epoch + 1}: {len(rows)} rows, loss {sum(losses) / len(losses):.2f}, {passed}")

    def answer(self, asked: Sequence[str]) -> list[str]:
        """Greedy answers, prompts of like length together: padding then changes next to nothing."""
        torch, tokenizer = self.torch, self.tokenizer
        self.model.eval()
        rows = [self.template([{"role": "user", "content": text}], prompt=True) for text in asked]
        said = [""] * len(rows)
        order = sorted(range(len(rows)), key=lambda n: len(rows[n]))
        for some in (order[start : start + self.together] for start in range(0, len(order), self.together)):
            width = max(len(rows[n]) for n in some)
            ids = torch.tensor([[tokenizer.eos_token_id] * (width - len(rows[n])) + rows[n] for n in some])
            seen = torch.tensor([[0] * (width - len(rows[n])) + [1] * len(rows[n]) for n in some])
            with torch.no_grad():
                out = self.model.generate(
                    ids.to(self.device), attention_mask=seen.to(self.device), max_new_tokens=self.options.new_tokens,
                    do_sample=False, repetition_penalty=1.1, pad_token_id=tokenizer.eos_token_id,
                )  # fmt: skip
            for n, row in zip(some, out[:, width:], strict=True):
                said[n] = tokenizer.decode(row, skip_special_tokens=True).strip()
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
    trained.add_argument("sets", nargs="+", metavar="NAME=FILE|H:B:O")
    trained.add_argument("--gguf", type=Path, required=True)
    trained.add_argument("--out", type=Path, default=Path("effect"))
    trained.add_argument(
        "--prompts", nargs="+", default=[SHIPPED], help=f"files of prompts, and {SHIPPED} for its own English ones"
    )
    trained.add_argument("--seeds", type=int, nargs="+", default=[0])
    trained.add_argument("--epochs", type=int, default=3)
    trained.add_argument("--lr", type=float, default=1e-4)
    trained.add_argument("--batch", type=int, default=8)
    trained.add_argument("--longest", type=int, default=512)
    trained.add_argument("--new-tokens", type=int, default=100)
    trained.add_argument("--layers", type=int, help="train the last N alone (default: all on a GPU, 8 without)")
    trained.add_argument("--system", help="message before every request (default: what the model's template says)")
    trained.add_argument("--kinds", nargs="+", default=["harmful", "benign", "ordinary"], help="of prompts")
    trained.add_argument("--rows", type=int, help="of each file (default: all on a GPU, 32 without)")
    trained.add_argument("--sample", type=int, help="prompts (default: all on a GPU, 48 without)")
    options = parser.parse_args()
    if options.part == "table":
        print(as_markdown(table(options.answers, options.judge or ["words"])))
    else:
        train(options)


if __name__ == "__main__":
    main()
