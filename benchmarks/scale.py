"""Measures what a set costs as it grows, and what Ray adds; and works out ten million, a hundred million, a billion.

    python benchmarks/scale.py stages --size 20000       every command on a folder of shards, of N and of 3 N
    python benchmarks/scale.py ray --size 2000           start, calls a second
    python benchmarks/scale.py same --size 200000 --asked 20000    every stage by one process and by Ray, actors killed
    python benchmarks/scale.py limit --size 500000       import, check, judge and dedup with --memory 2GB; opt-in, hours
    python benchmarks/scale.py model                     the table of docs/scale.md, from the constants below

`stages` tells growth: CPU seconds, peak memory and disk for a million more conversations, the difference of two sizes,
which leaves the start out. So that small sizes show it, buffers that fill up once are made small there.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

MAIN = "from safetyqc.__main__ import main; sys.exit(main())"
SMALL = (
    "import safetyqc.formats.readers.reading as r, safetyqc.store.run as s, safetyqc.pipeline.importing as i; "
    "import safetyqc.pipeline.folders as f; "
    "r._HELD, s._MOST_HELD_CHARACTERS, i._AT_A_TIME, f._TOGETHER = 500, 100_000, 500, 500"
)
STAGES = {
    "import": ("import", "DATA", "--run", "RUN"),
    "filter": ("filter", "--run", "RUN"),
    "judge -m local": ("judge", "DATA", "-m", "local", "--run", "RUN", "--jsonl", "OUT", "-q"),
    "dedup": ("dedup", "--run", "RUN", "--memory", "300MB"),
    "report": ("report", "--run", "RUN"),
}


@dataclass(frozen=True)
class Cost:
    """Of one command."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    disk_mb: float
    held_mb: tuple[float, ...] = ()
    """At each tenth of the way."""


# --- data and processes ----------------------------------------------------------------------------------------------


def write_shards(folder: Path, size: int, shards: int = 10) -> None:
    """Synthetic conversations of some 700 characters, a tenth of them near-copies of earlier ones."""
    rng, words = random.Random(1), [f"w{rank}" for rank in range(20_000)]
    weights = list(itertools.accumulate(1 / (rank + 5) for rank in range(20_000)))
    folder.mkdir(parents=True)
    recent: list[list[str]] = []
    for shard in range(shards):
        with (folder / f"part-{shard:05}.jsonl").open("w") as file:
            for _ in range(size // shards):
                text = rng.choices(words, cum_weights=weights, k=120)
                if recent and rng.random() < 0.1:
                    text = [*rng.choice(recent)]
                    text[rng.randrange(120)] = "other"
                recent = [*recent[-999:], text]
                turns = [("user", " ".join(text[:30])), ("assistant", " ".join(text[30:]))]
                record = {"messages": [{"role": role, "content": said} for role, said in turns]}
                file.write(json.dumps(record) + "\n")


def run(words: tuple[str, ...], run_folder: Path, before: str = "pass") -> Cost:
    """One command in a process of its own."""
    peak = run_folder.with_suffix(".peak")
    last = f"pathlib.Path({str(peak)!r}).write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))"
    program = f"import atexit, pathlib, resource, sys; atexit.register(lambda: {last}); {before}; {MAIN}"
    started, then = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    held: list[float] = []
    with tempfile.TemporaryFile("w+") as told:
        child = subprocess.Popen(
            [sys.executable, "-c", program, *words], stdout=told, stderr=told, cwd=run_folder.parent
        )
        while child.poll() is None:
            held.append(held_by(child.pid))
            time.sleep(0.1 if len(held) < 100 else 1)
        if child.returncode:
            told.seek(0)
            sys.exit(f"{' '.join(words)}: {told.read()[-2000:]}")
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = now.ru_utime + now.ru_stime - then.ru_utime - then.ru_stime
    disk_mb = sum(file.stat().st_size for file in run_folder.rglob("*") if file.is_file()) / 1e6
    tenths = tuple(held[len(held) * tenth // 10] for tenth in range(1, 10))
    return Cost(time.monotonic() - started, cpu_s, int(peak.read_text()) / 1e3, disk_mb, tenths)


def held_by(pid: int) -> float:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 1e3 for line in lines if line.startswith("VmRSS")), 0.0)


def stages(size: int) -> None:
    costs: dict[int, dict[str, Cost]] = {}
    for count in (size, 3 * size):
        with tempfile.TemporaryDirectory() as name:
            data, folder = Path(name) / "data", Path(name) / "run"
            write_shards(data, count)
            filled = {"DATA": str(data), "RUN": str(folder), "OUT": str(Path(name) / "out")}
            costs[count] = {
                stage: run(tuple(filled.get(w, w) for w in words), folder, SMALL) for stage, words in STAGES.items()
            }
    print(f"{'a million more':16} {'CPU s':>8} {'peak MB':>8} {'disk MB':>8}   (from {size:,} and {3 * size:,})")
    before = 0.0
    for stage in STAGES:
        few, many = costs[size][stage], costs[3 * size][stage]
        per = 1e6 / (2 * size)
        disk = (many.disk_mb - few.disk_mb) * per
        grown = ((many.cpu_s - few.cpu_s) * per, (many.peak_mb - few.peak_mb) * per, disk - before)
        before = disk
        columns = " ".join(f"{value:8,.0f}" for value in grown)
        print(f"{stage:16} {columns}   at {3 * size:,}: {many.peak_mb:,.0f} MB")


def limit(size: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        data, folder = Path(name) / "data", Path(name) / "run"
        write_shards(data, size, 100)
        judge = ("judge", str(data), "-m", "local", "--run", str(folder), "--jsonl", str(Path(name) / "verdicts"), "-q")
        for words in (
            ("import", str(data), "--run", str(folder)),
            ("check", str(data), "--memory", "2GB"),
            judge,
            ("dedup", "--run", str(folder), "--memory", "2GB"),
        ):
            cost = run(words, folder)
            took = f"{words[0]:8} {cost.wall_s:8,.0f} s {cost.cpu_s:8,.0f} CPU s {cost.peak_mb:8,.0f} MB"
            tenths = " ".join(f"{mb:,.0f}" for mb in cost.held_mb)
            print(f"{size:9,} {took}, {cost.disk_mb:,.0f} MB of disk; MB at each tenth: {tenths}", flush=True)


# --- Ray -------------------------------------------------------------------------------------------------------------


async def calls(count: int, size: int) -> None:
    """Calls a second at 200 ms, 64 in flight an actor, in turn with this process alone."""
    from safetyqc.llm import Request
    from safetyqc.pipeline.engine import EngineSettings, LocalEngine, Stop, in_one_loop
    from safetyqc.pipeline.ray_engine import RayEngine
    from safetyqc.testing.server import FaultServer

    async with FaultServer(latency_s=0.2) as server:
        asked = Request("openai/m", ({"role": "user", "content": "hi"},), max_tokens=50, api_base=server.base_url)
        for name, engine in (("local", LocalEngine()), ("ray", RayEngine(EngineSettings(size=size), Stop()))):
            lane = engine.open_lane("direct", api_key=None, timeout_s=60)
            started = time.monotonic()
            await lane.complete(asked)
            first_s = time.monotonic() - started
            started, cpu = time.monotonic(), time.process_time()
            requests = [replace(asked, seed=n) for n in range(count)]
            failed = [
                r
                async for _, r in in_one_loop(requests, lane.complete, concurrency=64 * size)
                if not hasattr(r, "text")
            ]
            took_s, cpu_ms = time.monotonic() - started, (time.process_time() - cpu) / count * 1e3
            rate = f"{count / took_s:.0f} calls/s, {cpu_ms:.2f} ms of CPU a call here and in the server"
            print(f"{name:6} first answer after {first_s:.1f} s, then {rate}, {len(failed)} failed", flush=True)
            await lane.close()
            await engine.close()


SAME = {
    "judge -m local": ("judge", "DATA", "-m", "local", "--run", "RUN", "--jsonl", "OUT/local", "-q"),
    "filter": ("filter", "--run", "RUN", "-q"),
    "dedup": ("dedup", "--run", "RUN", "--jsonl", "OUT/groups.jsonl", "-q"),
    "judge -m MODEL": (
        *("judge", "FEW", "-m", "openai/m", "--api-base", "URL", "--lane", "direct", "--concurrency", "64"),
        *("--run", "RUN-m", "--jsonl", "OUT/model", "-q"),
    ),
}


async def same(size: int, asked: int) -> None:
    """Every map and dedup by this process and by Ray, its actors killed at ten moments of each: the same bytes."""
    from safetyqc.testing.server import FaultServer

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_shards(folder / "data", size)
        write_shards(folder / "few", asked)
        async with FaultServer(latency_s=0.2) as server:
            for stage, words in SAME.items():
                took, answers = {}, {}
                items = asked if "MODEL" in stage else size
                for engine in ("local", "ray"):
                    (folder / f"{engine}-out").mkdir(exist_ok=True)
                    places = {"DATA": "data", "FEW": "few", "RUN": engine, "RUN-m": f"{engine}-m"}
                    places["URL"] = server.base_url
                    filled = [places.get(w, w.replace("OUT/", f"{engine}-out/")) for w in words]
                    before = KILLING % max(items // 12, 1) if engine == "ray" else "pass"
                    (folder / "ray.deaths").write_text("0")
                    calls = server.witness.received.total()
                    took[engine] = await asyncio.to_thread(
                        run, (*filled, "--engine", engine), folder / engine, f"{KEY}; {before}"
                    )
                    answers[engine] = server.witness.received.total() - calls
                deaths = (folder / "ray.deaths").read_text()
                again = f", {answers['ray'] - answers['local']:,} calls more" if answers["local"] else ""
                costs = "; ".join(
                    f"{e} {c.wall_s:,.0f} s {c.cpu_s:,.0f} CPU s {c.peak_mb:,.0f} MB" for e, c in took.items()
                )
                print(f"{stage} on {items:,}: {costs}; {deaths} actors killed{again}", flush=True)
        written = {engine: outcome(folder, engine) for engine in ("local", "ray")}
        differ = [name for name, body in written["local"].items() if written["ray"].get(name) != body]
        count = len(written["local"])
        print(f"{count} files and tables: {'DIFFERENT ' + str(differ) if differ else 'the same to the byte'}")
        if differ or len(written["ray"]) != count:
            sys.exit(1)


KEY = "import os; os.environ['OPENAI_API_KEY'] = 'none'"


def outcome(folder: Path, engine: str) -> dict[str, str]:
    """Hashes of everything that one engine wrote: the files, and the hits of the rules."""
    from safetyqc.store import Store

    files = {f: f.read_bytes() for f in (folder / f"{engine}-out").rglob("*") if f.is_file()}
    found = {str(f.relative_to(folder / f"{engine}-out")): hashlib.sha256(b).hexdigest() for f, b in files.items()}
    hits = hashlib.sha256()
    with Store.read(folder / engine) as store:
        for hit in store.rejections():
            hits.update(hit.model_dump_json().encode())
    return found | {"the rules' hits": hits.hexdigest()}


KILLING = """exec('''
import ray, pathlib, safetyqc.pipeline.ray_engine as e
do, deaths = e.Pool.do, []
async def dying(self, task, item):
    found = await do(self, task, item)
    if self.done >= (len(deaths) + 1) * %d and len(deaths) < 10 and self.workers:
        deaths.append(self.done)
        ray.kill(self.workers[len(deaths) %% len(self.workers)].actor)
        pathlib.Path("ray.deaths").write_text(str(len(deaths)))
    return found
e.Pool.do = dying
''')"""


# --- the model -------------------------------------------------------------------------------------------------------

RATES = {"filter": 2_000, "judge -m local": 1_000}
"""Conversations a second and core (docs/filters.md, docs/local-judge.md)."""
JUDGED_S = 800
"""Judgments a second of one driver, each durable (docs/models.md)."""
MATCHED_CPU_S, GROWTH = 108, 1.42
"""Of a million conversations; and the power of their number by which it grew from 100,000 to that (docs/dedup.md)."""
IN_TOKENS, OUT_TOKENS = 1_500, 300
"""Of a judgment by the bundled rubric, supposed."""
STORED_KB = 1 + 9
"""Of a conversation of 700 characters (`stages`), and of an LLM judgment with its reply (docs/models.md)."""


def model(usd_in: float, usd_out: float, cores: int) -> None:
    print(f"| | {' | '.join(f'{n:,}' for n in SIZES)} |\n|---|{'---|' * len(SIZES)}")
    local_s = [sum(n / rate for rate in RATES.values()) for n in SIZES]
    matched_s = [MATCHED_CPU_S * (n / 1e6) ** GROWTH for n in SIZES]
    rows = {
        "rules and embedded judge, one core": map(hours, local_s),
        f"... {cores} cores": (hours(s / cores) for s in local_s),
        "near-duplicates, one core": map(hours, matched_s),
        f"..., {cores} cores": (hours(s / cores) for s in matched_s),
        f"LLM calls of one judge, one driver at {JUDGED_S}/s": (hours(n / JUDGED_S) for n in SIZES),
        "tokens in and out, billions": (f"{n * IN_TOKENS / 1e9:,.0f}, {n * OUT_TOKENS / 1e9:,.0f}" for n in SIZES),
        f"at {usd_in:g} and {usd_out:g} USD a million": (
            f"{n * (IN_TOKENS * usd_in + OUT_TOKENS * usd_out) / 1e6:,.0f} USD" for n in SIZES
        ),
        "answers over the network": (f"{n * (IN_TOKENS + OUT_TOKENS) * 4 / 1e9:,.0f} GB" for n in SIZES),
        "the run's folder": (f"{n * STORED_KB / 1e6:,.0f} GB" for n in SIZES),
        "driver's memory: near-duplicates": (f"{n * MATCHED_BYTES / 1e9:,.0f} GB" for n in SIZES),
    }
    for name, row in rows.items():
        print(f"| {name} | {' | '.join(row)} |")


MATCHED_BYTES = 300
"""Of a conversation, on the driver (docs/dedup.md: 200 and, for features, pairs and drops, 100)."""
SIZES = (10_000_000, 100_000_000, 1_000_000_000)


def hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:,.0f} days"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("stages", "ray", "same", "limit", "model"))
    parser.add_argument("--size", type=int, default=2_000)
    parser.add_argument("--asked", type=int, default=200, help="conversations that `same` asks a model about")
    parser.add_argument("--actors", type=int, default=1)
    parser.add_argument("--usd", type=float, nargs=2, default=(0.15, 0.60), metavar=("IN", "OUT"))
    parser.add_argument("--cores", type=int, default=256)
    options = parser.parse_args()
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"
    if options.what == "stages":
        stages(options.size)
    elif options.what == "limit":
        limit(options.size)
    elif options.what == "model":
        model(*options.usd, options.cores)
    elif options.what == "same":
        asyncio.run(same(options.size, options.asked))
    else:
        asyncio.run(calls(options.size, options.actors))


if __name__ == "__main__":
    main()
