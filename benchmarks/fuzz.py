"""Hostile answers and hostile files through the command line: no traceback, nothing lost, every call counted.

    python benchmarks/fuzz.py                                   # 2,000 answers, 500 files
    python benchmarks/fuzz.py --answers 100000 --files 10000    # a quarter of an hour of one core

A server of its own answers every request with something that is wrong in one of many ways, and counts what it was asked
and what it charged for; it is asked in rounds until it has given as many answers as were wanted. `generate` (both
modes), `judge`, `rewrite`, `augment` and `--batch-dir` have to end with a planned exit code; each conversation has to
have a judgment or a recorded failure; and the run's ledger has to hold every answer that was charged for, no more and
no fewer. Files are mutated from good ones of many forms and read by `check`'s own reader.
Ends with 1 where anything of that is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from safetyqc.errors import SafetyqcError
from safetyqc.formats.readers import read_conversations
from safetyqc.store.file import FILE_NAME
from safetyqc.testing.answers import answer

PLANNED = {0, 2, 3, 4}
ODD = [
    "\x00",
    "\ud83d",
    "\udc00",
    "\u202e",
    "\x1b[2J",
    "\ufffe",
    "😀",
    "你好",
    "\r\n",
    "\u2028",
    "`",
    '"',
    "\\",
    "<|im_end|>",
    "</data>",
]
VALUES: list[Any] = [None, True, -1, 0, 1e999, 10**30, "", "x", [], {}, [[]], {"a": {"b": []}}, "1", 2.5]
Rng = random.Random
ASKED_FOR_EACH = 12
"""About how many answers a conversation of a round takes, all commands together."""
MOST_IN_A_ROUND = 2000


# ---- hostile text ---------------------------------------------------------------------------------------------------


def hostile_text(good: str, rng: Rng) -> str:
    """A text that a model, or somebody who means harm, could have given in the place of a good one."""
    return rng.choice(TEXTS)(good, rng)


def _cut(good: str, rng: Rng) -> str:
    return good[: rng.randrange(len(good) + 1)]


def _odd(good: str, rng: Rng) -> str:
    for _ in range(rng.randrange(1, 6)):
        place = rng.randrange(len(good) + 1)
        good = good[:place] + rng.choice(ODD) + good[place:]
    return good


def _flipped(good: str, rng: Rng) -> str:
    letters = list(good)
    for _ in range(rng.randrange(1, 20)):
        if letters:
            letters[rng.randrange(len(letters))] = chr(rng.choice([rng.randrange(128), rng.randrange(0x110000)]))
    return "".join(letters)


def _noise(_: str, rng: Rng) -> str:
    return "".join(chr(rng.randrange(rng.choice([128, 0x3000, 0x110000]))) for _ in range(rng.randrange(200)))


def _wrapped(good: str, rng: Rng) -> str:
    before, after = rng.choice(
        [
            ("```json\n", "\n```"),
            ("<think>hm {", "}</think>"),
            ("<think>", ""),
            ("Sure! ", ""),
            ('{"result": ', "}"),
            ("[", "]"),
        ]
    )
    return before + good + after


def _twice(good: str, rng: Rng) -> str:
    return good + rng.choice(["", "\n", " or "]) + hostile_json(good, rng)


def _escapes(good: str, rng: Rng) -> str:
    return good.replace(" ", rng.choice([r"\ud83d", r"\u0000", r"\q", r"\u12", "\\"]), rng.randrange(1, 4))


def _long(good: str, rng: Rng) -> str:
    return good + rng.choice(["\n", "{", "[", " ", "a", '{"a":', "```\n", "<think>"]) * rng.choice([100, 5_000, 50_000])


def _empty(_: str, rng: Rng) -> str:
    return rng.choice(["", " ", "\n", "null", "I'm sorry, but I can't help with that.", "{}", "[]", "NaN"])


def hostile_json(good: str, rng: Rng) -> str:
    """The object of a good text with values, keys or levels changed; of no object, the text itself."""
    try:
        value = json.loads(good)
    except ValueError:
        return _flipped(good, rng)
    return json.dumps(_mutated(value, rng, depth=0))


def _mutated(value: Any, rng: Rng, depth: int) -> Any:
    if rng.random() < 0.1:
        return rng.choice(VALUES)
    if isinstance(value, dict):
        keys = [
            key if rng.random() > 0.05 else rng.choice(["", "level", "LEVEL", "\ud800", key.upper()]) for key in value
        ]
        return {key: _mutated(inner, rng, depth + 1) for key, inner in zip(keys, value.values(), strict=True)}
    if isinstance(value, list):
        return [_mutated(inner, rng, depth + 1) for inner in value] * rng.choice([1, 1, 1, 0, 2])
    if isinstance(value, str) and rng.random() < 0.3:
        return rng.choice([_odd, _cut, _noise])(value, rng)
    return value


TEXTS: list[Callable[[str, Rng], str]] = [
    *(_cut, _odd, _flipped, _noise, _wrapped, _twice, _escapes, _long, _empty),
    *([hostile_json] * 4),
    lambda good, _: good,
]


# ---- a hostile server -----------------------------------------------------------------------------------------------


@dataclass
class Hostile:
    """Answers everything wrongly in some way, and counts; `charged` are answers of status 200 with credible usage."""

    rng: Rng
    asked: int = 0
    charged: int = 0
    kinds: Counter[str] = field(default_factory=Counter)

    async def reply(self, request: web.Request) -> web.Response:
        """One answer."""
        status, body = self.say(await request.json())
        return web.Response(body=body, status=status, content_type="application/json")

    def say(self, asked: dict[str, Any]) -> tuple[int, bytes]:
        """A status and what comes with it."""
        self.asked += 1
        rng = self.rng
        said = hostile_text(answer(asked, rng), rng)
        message: Any = {"role": "assistant", "content": said}
        kind = rng.choices(["text", "message", "body", "raw", "error"], [90, 5, 3, 1, 1])[0]
        self.kinds[kind] += 1
        if kind == "raw":
            return 200, _noise("", rng).encode("utf-8", "replace")
        if kind == "error":
            return 400, json.dumps({"error": {"message": said[:200], "code": rng.choice(VALUES[:6])}}).encode()
        if kind == "message":
            message = rng.choice(
                [{"content": rng.choice(VALUES)}, {"refusal": said}, {"reasoning_content": said}, None, []]
            )
        body: Any = {"choices": [{"message": message, "finish_reason": rng.choice(["stop", "stop", "length", 7])}]}
        body["usage"] = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        if kind == "body":
            body["choices"] = rng.choice([[], None, {}, [None], "x", [[]]])
        self.charged += 1
        return 200, json.dumps(body).encode()

    def answer_files(self, folder: Path) -> int:
        """Answer what stands in a folder of batch files, as `vllm run-batch` would; returns how many lines."""
        lines = 0
        for file in sorted((folder / "requests").glob("*.jsonl")):
            with (folder / "results" / file.name).open("w", encoding="utf-8") as out:
                for asked in map(json.loads, file.read_text(encoding="utf-8").strip().split("\n")):
                    status, body = self.say(asked["body"])
                    try:
                        held = json.loads(body)
                    except ValueError:
                        held = body.decode("utf-8", "replace")
                    told = {"custom_id": asked["custom_id"], "response": {"status_code": status, "body": held}}
                    out.write(json.dumps({**told, "error": None}) + "\n")
                    lines += 1
        return lines


# ---- through the commands -------------------------------------------------------------------------------------------


async def through_commands(count: int, rng: Rng, folder: Path) -> list[str]:
    """Run every command that asks models until so many answers were given; returns what is wrong."""
    hostile = Hostile(rng)
    app = web.Application(client_max_size=2**24)
    app.router.add_post("/v1/chat/completions", hostile.reply)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    base = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}/v1"  # type: ignore[union-attr]
    wrong: list[str] = []
    number = 0
    while hostile.asked < count:
        number += 1
        each = min(max((count - hostile.asked) // ASKED_FOR_EACH, 20), MOST_IN_A_ROUND)
        (folder / f"round{number}").mkdir()
        wrong += await _round(hostile, base, folder / f"round{number}", each)
        told = f"asked {hostile.asked:,} times so far, charged for {hostile.charged:,}"
        print(f"round {number}: {told}, {len(wrong)} wrong; {dict(hostile.kinds)}", flush=True)
    await runner.cleanup()
    return wrong


async def _round(hostile: Hostile, base: str, folder: Path, each: int) -> list[str]:
    server = ["--api-base", base, "--concurrency", "64", "-q"]
    model = ["-m", "openai/hostile", *server]
    judged = ["--judge", "openai/hostile"]
    good = str(folder / "good.jsonl")
    _conversations(folder / "good.jsonl", each, hostile.rng)
    wrong: list[str] = []
    for run, line in [
        ("one", ["generate", "-n", str(each), *model]),
        ("two", ["generate", "-n", str(each // 4), "--mode", "dialogue", *model]),
        ("three", ["judge", good, *model]),
        ("three", ["rewrite", *model, *judged]),
        ("three", ["augment", "--more", "general_safety=20", *model, *judged]),
        ("three", ["judge", "--retry-unscored", *model]),
    ]:
        wrong += await _typed(hostile, folder / run, line)
    for run, line in [("four", ["judge", good, *model[:2]]), ("five", ["generate", "-n", str(each // 4), *model[:2]])]:
        asked = -1
        while asked < hostile.asked:  # what could not be used is asked again, a file at a time
            asked = hostile.asked
            wrong += await _typed(hostile, folder / run, [*line, "-q"], folder / f"{run}-files")
    for run in ("three", "four"):
        wrong += _lost(folder / run, each)
    return wrong


async def _typed(hostile: Hostile, run: Path, line: list[str], files: Path | None = None) -> list[str]:
    """Type one command; with a folder of files, answer those and have the answers collected."""
    before, wrong, name = (hostile.charged, _ledger(run)), list[str](), line[0]
    lines = [[*line, "--batch-dir", str(files)], ["batch", "collect"]] if files else [line]
    for typed in lines:
        command = [sys.executable, "-m", "safetyqc", *typed, "--run", str(run)]
        environment = os.environ | {"OPENAI_API_KEY": "none", "NO_PROXY": "127.0.0.1"}
        ended = await asyncio.create_subprocess_exec(
            *command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        told = b"".join(await ended.communicate()).decode("utf-8", "replace")
        if ended.returncode not in PLANNED or "Traceback" in told:
            wrong.append(f"{name}: exit {ended.returncode}: {told[-1500:]}")
        if files and typed is lines[0] and not hostile.answer_files(files):
            break
    charged, kept = hostile.charged - before[0], _ledger(run) - before[1]
    what = f"{name}{' in files' if files else ''}"
    print(f"{what:18} exit {ended.returncode}, charged {charged:,}, in the ledger {kept:,}", flush=True)
    if charged != kept:
        wrong.append(f"{what}: {charged:,} answers were charged for, {kept:,} are in the ledger")
    return wrong


def _conversations(path: Path, count: int, rng: Rng) -> None:
    lines = []
    for number in range(count):
        said = [
            f"Number {number}: how is it done, {rng.random()}?",
            f"I will not help with {rng.random()}, but a friend can.",
        ]
        roles = ("user", "assistant")
        messages = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
        lines.append(json.dumps({"messages": messages, "category": "general_safety", "intent": "harmful"}))
    path.write_text("\n".join(lines), encoding="utf-8")


def _ledger(run: Path) -> int:
    if not (run / FILE_NAME).exists():
        return 0
    with sqlite3.connect(run / FILE_NAME) as db:
        return int(db.execute("SELECT count(*) FROM calls").fetchone()[0])


def _lost(run: Path, count: int) -> list[str]:
    with sqlite3.connect(run / FILE_NAME) as db:
        held = db.execute("SELECT count(*) FROM conversations WHERE origin = 'imported'").fetchone()[0]
        query = (
            "SELECT count(*) FROM conversations WHERE origin = 'imported' AND id NOT IN "
            "(SELECT conversation_id FROM judgments) AND id NOT IN (SELECT record_id FROM failures)"
        )
        open_ = db.execute(query).fetchone()[0]
    told = [] if held == count else [f"{held:,} of {count:,} conversations are in the run"]
    return told + ([f"{open_:,} conversations have neither a judgment nor a failure"] if open_ else [])


# ---- through the readers --------------------------------------------------------------------------------------------

_PAIR = [{"role": "user", "content": "How are you?"}, {"role": "assistant", "content": "Well."}]
FILES: dict[str, str] = {
    "a.jsonl": "\n".join(json.dumps({"messages": _PAIR, "category": "x", "intent": "benign"}) for _ in range(3)),
    "b.json": json.dumps([{"conversations": [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Ho"}]}]),
    "c.csv": "prompt,response,is_safe\nHow?,So.,true\nWhy?,Thus.,false\n",
    "d.jsonl": "\n".join([json.dumps(_PAIR)] * 3),
    "e.jsonl": json.dumps({"instruction": "Do", "input": "it", "output": "No."}),
    "f.jsonl": json.dumps({"prompt": "Hi", "chosen": _PAIR, "rejected": _PAIR}),
    "g.jsonl": json.dumps({"chosen": "\n\nHuman: Hi\n\nAssistant: Ho", "rejected": "\n\nHuman: Hi\n\nAssistant: No"}),
    "h.tsv": "question\tanswer\nHow?\tSo.\n",
}


def through_readers(count: int, rng: Rng, folder: Path) -> list[str]:
    """Read mutated files; returns what ended otherwise than by a planned error."""
    wrong = []
    for number in range(count):
        name, good = rng.choice(list(FILES.items()))
        path = folder / f"{number % 50}-{name}"
        raw = hostile_text(good, rng).encode("utf-8", rng.choice(["replace", "surrogatepass"]))
        if rng.random() < 0.2:
            raw = bytes(byte if rng.random() > 0.02 else rng.randrange(256) for byte in raw)
        path.write_bytes(rng.choice([b"", b"", b"", b"\xef\xbb\xbf", b"\xff\xfe", b"\x1f\x8b"]) + raw)
        try:
            read_conversations(path, skip_bad_lines=rng.random() < 0.5)
        except SafetyqcError:
            pass
        except Exception as error:  # noqa: BLE001 - finding such is what this is for
            kept = folder / f"wrong-{len(wrong)}-{name}"
            kept.write_bytes(path.read_bytes())
            wrong.append(f"{kept}: {type(error).__name__}: {error}")
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--answers", type=int, default=2000)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = Rng(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-"))
    wrong = through_readers(options.files, rng, folder)
    print(f"{options.files:,} files, {len(wrong)} ended in an error that nobody planned", flush=True)
    if options.answers:
        wrong += asyncio.run(through_commands(options.answers, rng, folder))
    for one in wrong:
        print(f"WRONG {one}")
    print(f"kept in {folder}" if wrong else "nothing wrong")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
