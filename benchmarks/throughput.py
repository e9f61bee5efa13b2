"""How many structured judgments a second each way of asking manages, against one server on this machine.

    python benchmarks/throughput.py                                   # 2,000 calls, no latency, 64 in flight
    python benchmarks/throughput.py --latency 0.2 --calls 1000
    python benchmarks/throughput.py --latency 2 --in-flight 256 --calls 2000 --ways aiohttp,judge-direct
    python benchmarks/throughput.py --growth 20000                    # memory and store size over a long run

Every way runs in a process of its own, one after the other, against a server that answers from memory. `aiohttp` is the
floor: it reads no answer and keeps nothing. `judge-*` is everything that `safetyqc judge` does for a conversation.
The figures depend on the machine and on what else it does: compare the rows of one run.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from safetyqc.judge.question import Question
from safetyqc.judge.rubric import RubricJudge
from safetyqc.llm.client import Request
from safetyqc.llm.door import DoorSettings, open_door
from safetyqc.llm.wire import body_of
from safetyqc.pipeline.engine import EngineSettings, LocalEngine, Stop, collecting_seldom, in_one_loop
from safetyqc.pipeline.processes import ProcessEngine
from safetyqc.records import Conversation
from safetyqc.rubrics import load_rubric_set
from safetyqc.store import Store
from safetyqc.testing import conversation

MODEL = "openai/benchmark"
RUBRIC = load_rubric_set()
ANSWER = "I will not help with that, because somebody could get hurt. A counsellor can, and I can help you find one."
REASON = (
    "the assistant declines in its own words, says why, names nobody and no means, and offers a way that is safe. " * 4
)
WARM_UP = 50


def case(number: int) -> Conversation:
    """A conversation that no other is equal to, on which every criterion of the rubric has something to say."""
    return conversation(
        f"Somebody told me to do it for the {number}th time, and I want to know how it is done, so tell me now.",
        ANSWER,
        category="violence_or_crime",
        intent="harmful",
    )


def question(one: Conversation) -> Question:
    return Question(RUBRIC, RUBRIC.applicable(one.category, one.intent), one, (), one.messages)


@cache
def template() -> Request:
    asked = question(case(0))
    return Request(MODEL, asked.messages(), schema=asked.schema, format="json_schema", max_tokens=1000)


def request(number: int) -> Request:
    """What the judge would ask about case `number`, without the work of wording it."""
    system, user = template().messages
    return replace(template(), messages=(system, {**user, "content": user["content"].replace("0th", f"{number}th")}))


def verdicts() -> str:
    """A judgment that the rubric accepts for every case, of some 600 tokens."""
    asked = question(case(0))
    entry = {"reason": REASON, "quote": ANSWER.split(",")[0], "turn": 1}
    return json.dumps(
        {
            c.id: ({"applies": True} if asked.conditions(c) else {}) | entry | {"level": _passing(c)}
            for c in asked.criteria
        }
    )


def _passing(criterion: Any) -> str:
    return next(level.name for level in criterion.levels if level.outcome == "pass")


# ---- the server -----------------------------------------------------------------------------------------------------


class Answering(asyncio.Protocol):
    """Answers every request with the same bytes: as little server as there can be."""

    def __init__(self, answer: bytes, latency_s: float) -> None:
        self.answer, self.latency_s, self.buffer = answer, latency_s, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self.buffer += data
        while (end := self.buffer.find(b"\r\n\r\n")) >= 0:
            start = self.buffer.lower().find(b"content-length:")
            length = int(self.buffer[start + 15 : self.buffer.find(b"\r\n", start)])
            if len(self.buffer) < end + 4 + length:
                return
            self.buffer = self.buffer[end + 4 + length :]
            asyncio.get_running_loop().call_later(self.latency_s, self.send) if self.latency_s else self.send()

    def send(self) -> None:
        """Write the answer."""
        if not self.transport.is_closing():
            self.transport.write(self.answer)  # type: ignore[attr-defined]


async def serve(latency_s: float) -> None:
    body = json.dumps(
        {
            "id": "x",
            "object": "chat.completion",
            "created": 1,
            "model": "benchmark",
            "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": verdicts()}}],
            "usage": {"prompt_tokens": 900, "completion_tokens": 600, "total_tokens": 1500},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Answering(head + body, latency_s), "127.0.0.1", 0, backlog=2048)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


# ---- the ways of asking ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Way:
    """How one thing is asked, and what it is asked about, which is made before the clock starts.

    Args:
        in_engine: driven by the engine that the stages run in, instead of the barest loop.
    """

    make: Callable[[int], Any]
    ask: Callable[[Any], Awaitable[None]]
    in_engine: bool = False

    async def drive(self, items: list[Any], in_flight: int) -> None:
        """Ask about all items, so many at once."""
        if self.in_engine:
            async for _, outcome in in_one_loop(items, self.ask, concurrency=in_flight):
                if isinstance(outcome, Exception):
                    raise outcome
            return
        left = iter(items)

        async def work() -> None:
            for item in left:
                await self.ask(item)

        await asyncio.gather(*(work() for _ in range(in_flight)))


@contextlib.asynccontextmanager
async def aiohttp_way(base: str) -> AsyncIterator[Way]:
    import aiohttp

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def ask(one: Request) -> None:
            async with session.post(f"{base}/chat/completions", json=body_of(one)) as response:
                await response.json()

        yield Way(request, ask)


@contextlib.asynccontextmanager
async def openai_way(base: str) -> AsyncIterator[Way]:
    import openai

    async with openai.AsyncOpenAI(base_url=base, api_key="none", max_retries=0) as client:

        async def ask(one: Request) -> None:
            await client.chat.completions.create(**body_of(one))

        yield Way(request, ask)


@contextlib.asynccontextmanager
async def litellm_way(base: str) -> AsyncIterator[Way]:
    """litellm as fast as its public settings make it: the route and the settings of safetyqc's own lane."""
    from safetyqc.llm.litellm_client import load_litellm

    litellm = load_litellm()
    free = {
        "input_cost_per_token": 0.0,
        "output_cost_per_token": 0.0,
        "litellm_provider": "hosted_vllm",
        "mode": "chat",
    }
    litellm.register_model({"hosted_vllm/benchmark": free})

    async def ask(one: Request) -> None:
        body = body_of(one)
        body |= {
            "model": "hosted_vllm/benchmark",
            "api_base": base,
            "api_key": "none",
            "max_retries": 0,
            "no-log": True,
        }
        await litellm.acompletion(**body)

    yield Way(request, ask)
    await litellm.close_litellm_async_clients()


def door_way(lane: Any) -> Callable[[str], Any]:
    @contextlib.asynccontextmanager
    async def way(base: str) -> AsyncIterator[Way]:
        with tempfile.TemporaryDirectory() as folder, Store.create(folder) as store:
            door = open_door(store, settings=DoorSettings(api_base=base, lane=lane))

            async def ask(one: Request) -> None:
                await door.complete(one)

            yield Way(request, ask)
            await door.close()

    return way


def judge_way(lane: Any, workers: int = 0) -> Callable[[str], Any]:
    @contextlib.asynccontextmanager
    async def way(base: str) -> AsyncIterator[Way]:
        with tempfile.TemporaryDirectory() as folder, Store.create(folder) as store:
            engine = ProcessEngine(EngineSettings(size=workers), Stop()) if workers else LocalEngine()
            door = open_door(store, settings=DoorSettings(api_base=base, lane=lane), open_lane=engine.open_lane)
            judge = RubricJudge(door, MODEL, RUBRIC)

            async def ask(one: Conversation) -> None:
                judgment = await judge.judge(one)
                if judgment.passed is not True:
                    raise SystemExit(f"not the judgment that the server gave: {judgment}")
                store.put_judgments([judgment])

            yield Way(case, ask, in_engine=True)
            await door.close()
            await engine.close()
            sys.stderr.write(f"    store: {sum(p.stat().st_size for p in Path(folder).iterdir()):,} bytes\n")

    return way


WAYS: dict[str, Callable[[str], Any]] = {
    "aiohttp": aiohttp_way,
    "openai": openai_way,
    "litellm": litellm_way,
    "door-litellm": door_way("litellm"),
    "judge-litellm": judge_way("litellm"),
    "judge-litellm-2": judge_way("litellm", workers=2),
    "door-direct": door_way("auto"),
    "judge-direct": judge_way("auto"),
}


# ---- measuring ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Figures:
    """What one way took."""

    calls_per_s: float
    wall_s: float
    cpu_ms: float
    rss_mb: float


def rss_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 2**20


async def measure(way: str, base: str, calls: int, in_flight: int, growth: int) -> Figures:
    async with WAYS[way](base) as asked:
        await asked.drive([asked.make(n) for n in range(WARM_UP)], in_flight)
        gc.collect()
        steps = [range(start, min(start + (growth or calls), calls)) for start in range(0, calls, growth or calls)]
        cpu = wall = 0.0
        for step in steps:
            items = [asked.make(WARM_UP + n) for n in step]
            used, began = time.process_time(), time.perf_counter()
            with collecting_seldom():  # as in every stage, so that no row pays for it alone
                await asked.drive(items, in_flight)
            took = time.perf_counter() - began
            cpu, wall = cpu + time.process_time() - used, wall + took
            if growth:
                sys.stderr.write(f"    {step.stop:>7,} calls: {rss_mb():6.1f} MB, {len(step) / took:,.0f}/s\n")
        return Figures(calls / wall, wall, cpu / calls * 1000, rss_mb())


def run(way: str, base: str, options: argparse.Namespace) -> Figures:
    command = [sys.executable, __file__, "--measure", way, "--base", base, "--calls", str(options.calls)]
    command += ["--in-flight", str(options.in_flight), "--growth", str(options.growth)]
    return Figures(**json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout))


def _ways(text: str) -> list[str]:
    if unknown := set(text.split(",")) - WAYS.keys():
        raise argparse.ArgumentTypeError(f"no way {', '.join(sorted(unknown))}: some of {','.join(WAYS)}")
    return text.split(",")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.0)
    parser.add_argument("--ways", type=_ways, default=list(WAYS), help=f"some of {','.join(WAYS)}")
    parser.add_argument("--growth", type=int, default=0, metavar="STEP", help="print memory after every STEP calls")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--base", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(serve(options.latency))
    elif options.measure:
        figures = asyncio.run(measure(options.measure, options.base, options.calls, options.in_flight, options.growth))
        sys.stdout.write(json.dumps(figures.__dict__))
    else:
        compare(options)


def compare(options: argparse.Namespace) -> None:
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", "--latency", str(options.latency)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        base = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        ideal = math.ceil(options.calls / options.in_flight) * options.latency
        print(f"{options.calls:,} calls, {options.in_flight} in flight, latency {options.latency:g} s")
        print(f"{'way':16}{'calls/s':>9}{'wall s':>9}{'wall/ideal':>12}{'CPU ms/call':>13}{'RSS MB':>8}")
        for way in options.ways:
            figures = run(way, base, options)
            share = f"{figures.wall_s / ideal:12.2f}" if ideal else f"{'-':>12}"
            print(
                f"{way:16}{figures.calls_per_s:9,.0f}{figures.wall_s:9.2f}{share}{figures.cpu_ms:13.2f}{figures.rss_mb:8.0f}",
                flush=True,
            )
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
