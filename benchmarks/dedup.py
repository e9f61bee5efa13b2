"""Measures near-duplicate search: what each threshold catches and wrongly merges, and its speed beside other tools.

    python benchmarks/dedup.py edits --data DIR            planted edits and contrast pairs, in English and Chinese
    python benchmarks/dedup.py against --data DIR          benchmark prompts planted in conversations
    python benchmarks/dedup.py speed --size 10000          every method that is installed, one process each
    python benchmarks/dedup.py speed --size 100000 --methods safetyqc,rensa
    python benchmarks/dedup.py speed --size 10000 --analyzer char --threshold 0.7
    python benchmarks/dedup.py run --size 100000           `safetyqc dedup` on a run that grows, as it is typed

DIR holds `hh_harmless_test.jsonl.gz`, `bilingual_conversations.jsonl` and `xstest_dev.jsonl`; without it `speed`
and `run` make synthetic text. Corpora are recombined from real turns, and a tenth are near-copies of earlier
ones.
Times are wall seconds; imports and compiling stand in a column of their own; memory is the peak of the process.
"""

from __future__ import annotations

import argparse
import gzip
import importlib.util
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import combinations, pairwise, product
from pathlib import Path

Pair = tuple[int, int]
SENTENCE = re.compile(r"(?<=[.!?。！？\n])\s*")
HAN = re.compile("[\u4e00-\u9fff]")


# --- corpora ---------------------------------------------------------------------------------------------------------


def english(data: Path) -> list[tuple[str, str]]:
    """(chosen, rejected) conversations as plain text."""
    with gzip.open(data / "hh_harmless_test.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [json.loads(line) for line in lines]
    return [
        tuple(re.sub(r"(Human|Assistant):", "", row[key]).strip() for key in ("chosen", "rejected")) for row in rows
    ]


def bilingual(data: Path) -> list[list[dict[str, str]]]:
    lines = (data / "bilingual_conversations.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"] for line in lines]


def turns(data: Path | None) -> list[str]:
    """Distinct turns to recombine; synthetic ones with a Zipfian vocabulary when there is no data."""
    if data is None:
        rng = random.Random(1)
        words = [f"w{rank}" for rank in range(20_000)]
        weights = [1 / (rank + 10) for rank in range(20_000)]
        return [" ".join(rng.choices(words, weights, k=rng.randint(10, 120))) for _ in range(9_000)]
    out = {part.strip() for pair in english(data) for text in pair for part in text.split("\n\n")}
    out |= {message["content"] for messages in bilingual(data) for message in messages}
    return sorted(out - {""})


def corpus(size: int, data: Path | None, seed: int = 0) -> list[str]:
    """Conversations of two to six recombined turns; a tenth are near-copies (3% of words swapped) of earlier ones."""
    rng, parts, out = random.Random(seed), turns(data), list[str]()
    while len(out) < size:
        if out and rng.random() < 0.1:
            out.append(swapped(rng.choice(out), rng, 0.03))
        else:
            out.append("\n".join(rng.choice(parts) for _ in range(rng.choice((2, 4, 4, 6)))))
    return out


# --- planted edits ---------------------------------------------------------------------------------------------------


def swapped(text: str, rng: random.Random, share: float) -> str:
    """Replace a share of the words (at least one) by others of the same text; a Chinese character is a word."""
    units = [match.span() for match in re.finditer(rf"{HAN.pattern}|[^\W{HAN.pattern[1:-1]}]+", text)]
    out = text
    for place in sorted(rng.sample(range(len(units)), max(1, round(len(units) * share))), reverse=True):
        start, stop = units[place]
        other = slice(*rng.choice(units))
        out = out[:start] + text[other] + out[stop:]
    return out


def reformatted(text: str, rng: random.Random) -> str:
    out = text.replace("'", "’").replace(". ", ".  ").replace("，", ", ").replace("\n", "\n\n")
    return "".join(c.upper() if rng.random() < 0.1 else c for c in out).rstrip(".!?。！？")


def edit_sentences(text: str, rng: random.Random, change: Callable[[list[str], int], None]) -> str:
    sentences = [part for part in SENTENCE.split(text) if part]
    change(sentences, rng.randrange(len(sentences)))
    return ("" if HAN.search(text) else " ").join(sentences)


def edits(stranger: Callable[[], str], opener: Callable[[], str]) -> dict[str, Callable[[str, random.Random], str]]:
    def rotate(parts: list[str], at: int) -> None:
        parts[:] = parts[at:] + parts[:at]

    def sentence(how: str) -> Callable[[str, random.Random], str]:
        changes: dict[str, Callable[[list[str], int], None]] = {
            "order": rotate,
            "opener": lambda parts, _: parts.__setitem__(0, opener()),
            "change": lambda parts, at: parts.__setitem__(at, stranger()),
            "add": lambda parts, at: parts.insert(at, stranger()),
            "drop": lambda parts, at: parts.__delitem__(at) if len(parts) > 1 else None,
        }
        return lambda text, rng: edit_sentences(text, rng, changes[how])

    return {
        "format, case, quotes": reformatted,
        "sentences reordered": sentence("order"),
        "other opening sentence": sentence("opener"),
        "1% of words swapped": lambda text, rng: swapped(text, rng, 0.01),
        "3% of words swapped": lambda text, rng: swapped(text, rng, 0.03),
        "10% of words swapped": lambda text, rng: swapped(text, rng, 0.10),
        "one sentence dropped": sentence("drop"),
        "one sentence added": sentence("add"),
        "one sentence changed": sentence("change"),
    }


THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def planted(originals: list[str], background: list[str], seed: int, analyzer: str) -> Iterator[tuple[str, list[float]]]:
    """For each kind of edit, the similarity of every original to its edited copy (0 where it is below 0.3)."""
    from safetyqc.dedup import find_pairs

    rng = random.Random(seed)
    sentences = [part for text in background for part in SENTENCE.split(text) if len(part) > 12]
    kinds = edits(lambda: rng.choice(sentences), lambda: rng.choice(sentences))
    for kind, edit in kinds.items():
        copies = [edit(text, rng) for text in originals]
        pairs = find_pairs(originals + copies + background, 0.3, analyzer=analyzer)
        near = {(left, right): value for left, right, value in pairs.links()}
        yield kind, [near.get((place, place + len(originals)), 0.0) for place in range(len(originals))]


def unrelated(texts: list[str], analyzer: str) -> list[float]:
    """Similarities from 0.3 on of pairs of texts that were not made from each other."""
    from safetyqc.dedup import find_pairs

    return [value for _, _, value in find_pairs(texts, 0.3, analyzer=analyzer).links()]


def table_of_edits(data: Path, analyzer: str) -> None:
    pairs = english(data)
    opening = {chosen.split("\n\n")[0]: (chosen, rejected) for chosen, rejected in pairs}
    chosen = [chosen for chosen, _ in opening.values()]
    long = [text for text in chosen if len(text.split()) >= 60]
    chinese = ["\n".join(m["content"] for m in messages) for messages in bilingual(data)]
    chinese = [text for text in chinese if len(HAN.findall(text)) >= 100]
    sets = {"en": (long[:300], long[300:] or long), "zh": (chinese[:150], chinese[150:])}
    print("| edit | language | n |", " | ".join(f"{t:g}" for t in THRESHOLDS), "| median |")
    print("|---|---|---|" + "---|" * (len(THRESHOLDS) + 1))
    for language, (originals, background) in sets.items():
        for kind, values in planted(originals, background, 7, analyzer):
            row(kind, language, values, len(values))
    contrast = unrelated_pairs(pairs, analyzer)
    row("chosen / rejected of one request (not copies)", "en", contrast, len(pairs))
    for language, texts in (("en", chosen), ("zh", chinese)):
        values = unrelated(texts, analyzer)
        row(
            f"pairs of different conversations (highest {max(values, default=0):.2f})",
            language,
            values,
            len(texts) * (len(texts) - 1) // 2,
        )


def unrelated_pairs(pairs: list[tuple[str, str]], analyzer: str) -> list[float]:
    from safetyqc.dedup import find_pairs

    texts = [text for pair in pairs for text in pair]
    near = {(left, right): value for left, right, value in find_pairs(texts, 0.3, analyzer=analyzer).links()}
    return [near.get((2 * place, 2 * place + 1), 0.0) for place in range(len(pairs))]


def row(kind: str, language: str, values: list[float], count: int) -> None:
    shares = (sum(value >= threshold for value in values) / count for threshold in THRESHOLDS)
    middle = f"{sorted(values)[len(values) // 2]:.2f}" if len(values) == count else ""
    cells = [f"{share:.1%}" if share >= 0.0005 or share == 0 else f"{share:.0e}" for share in shares]
    print(f"| {kind} | {language} | {count:,} |", " | ".join(cells), f"| {middle} |", flush=True)


# --- reference sets --------------------------------------------------------------------------------------------------


def prompt_edits(rng: random.Random) -> dict[str, Callable[[list[str]], list[str]]]:
    def without_one(words: list[str]) -> list[str]:
        at = rng.randrange(len(words))
        return words[:at] + words[at + 1 :]

    def one_replaced(words: list[str]) -> list[str]:
        at = rng.randrange(len(words))
        return [*words[:at], "something", *words[at + 1 :]]

    return {
        "copied, case and marks changed": lambda words: [word.upper().strip("?.") for word in words],
        "one word left out": without_one,
        "one word replaced": one_replaced,
        "a sentence before it": lambda words: ["Hello, I have a quick question for you.", *words],
        "inside a longer message": lambda words: [
            *[
                "I",
                "have",
                "been",
                "thinking",
                "about",
                "this",
                "since",
                "yesterday",
                "and",
                "nobody",
                "could",
                "tell",
                "me.",
            ],
            *words,
            *["Thank", "you", "very", "much", "in", "advance", "for", "your", "help", "with", "it!"],
        ],
    }


def table_of_references(data: Path) -> None:
    """What `find_against` finds of XSTest prompts planted as requests, and what it finds where none was planted."""
    from safetyqc.dedup.against import find_against
    from safetyqc.formats.references import Reference
    from safetyqc.records import Conversation, Message

    lines = (data / "xstest_dev.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = sorted({json.loads(line)["messages"][0]["content"] for line in lines})
    references = [Reference(prompt) for prompt in prompts]

    def conversation(name: str, request: str, answer: str) -> Conversation:
        return Conversation(
            id=name, messages=(Message(role="user", content=request), Message(role="assistant", content=answer))
        )

    parts = [chosen.split("\n\n") for chosen, _ in english(data) if chosen.count("\n\n")]
    clean = [
        conversation(f"clean{n}", part[0].strip(), part[1].strip() or "-") for n, part in enumerate(parts) if part[0]
    ]
    steps = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    print("| reference prompt in the request | n |", " | ".join(f"{t:g}" for t in steps), "|")
    print("|---|---|" + "---|" * len(steps))
    for kind, edit in prompt_edits(random.Random(3)).items():
        planted_ = [conversation(f"{n}", " ".join(edit(p.split())), parts[n][1] or "-") for n, p in enumerate(prompts)]
        best = dict.fromkeys(range(len(prompts)), 0.0)
        for match in find_against(planted_ + clean, references, 0.3, terms=0):
            place = int(match.conversation_id.removeprefix("clean"))
            if match.conversation_id == str(place) and match.reference is references[place]:
                best[place] = match.similarity
        shares = (sum(value >= step for value in best.values()) / len(best) for step in steps)
        print(f"| {kind} | {len(prompts)} |", " | ".join(f"{share:.1%}" for share in shares), "|", flush=True)
    highest: dict[str, float] = {}
    for match in find_against(clean, references, 0.3, terms=0):
        highest[match.conversation_id] = max(match.similarity, highest.get(match.conversation_id, 0.0))
    shares = (sum(value >= step for value in highest.values()) / len(clean) for step in steps)
    print(f"| none planted (hh) | {len(clean)} |", " | ".join(f"{share:.2%}" for share in shares), "|")


# --- methods ---------------------------------------------------------------------------------------------------------


def vectorizer(analyzer: str):
    from sklearn.feature_extraction.text import TfidfVectorizer

    from safetyqc.dedup.tokens import characters, tokens

    if analyzer == "char":
        return TfidfVectorizer(preprocessor=characters, analyzer="char", ngram_range=(3, 4), sublinear_tf=True)
    return TfidfVectorizer(tokenizer=tokens, lowercase=False, token_pattern=None, ngram_range=(1, 2), sublinear_tf=True)


def by_safetyqc(texts: list[str], threshold: float, analyzer: str, backend: str = "compiled") -> set[Pair]:
    from safetyqc.dedup import find_pairs

    return every_copy(find_pairs(texts, threshold, analyzer=analyzer, backend=backend))


def by_reference(texts: list[str], threshold: float, analyzer: str) -> set[Pair]:
    return by_safetyqc(texts, threshold, analyzer, "reference")


def every_copy(pairs) -> set[Pair]:
    """Write out the pairs of copies that safetyqc leaves to `same_as`, to compare with methods that list them all."""
    copies: dict[int, list[int]] = {}
    for place, first in enumerate(pairs.same_as.tolist()):
        copies.setdefault(first, []).append(place)
    found = {pair for group in copies.values() for pair in combinations(group, 2)}
    for left, right in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True):
        found |= {(min(pair), max(pair)) for pair in product(copies[left], copies[right])}
    return found


def by_sklearn(texts: list[str], threshold: float, analyzer: str) -> set[Pair]:
    vectors = vectorizer(analyzer).fit_transform(texts)
    found: set[Pair] = set()
    for first in range(0, len(texts), 500):
        near = (vectors[first : first + 500] @ vectors.T).tocoo()
        kept = (near.data >= threshold - 5e-7) & (near.col > near.row + first)
        found |= set(zip((near.row[kept] + first).tolist(), near.col[kept].tolist(), strict=True))
    return found


def by_sparse_dot_topn(texts: list[str], threshold: float, analyzer: str) -> set[Pair]:
    from sparse_dot_topn import sp_matmul_topn

    vectors = vectorizer(analyzer).fit_transform(texts)
    threads = len(os.sched_getaffinity(0))
    near = sp_matmul_topn(vectors, vectors.T.tocsr(), top_n=1000, threshold=threshold - 5e-7, n_threads=threads).tocoo()
    kept = near.col > near.row
    return set(zip(near.row[kept].tolist(), near.col[kept].tolist(), strict=True))


def shingles(text: str) -> list[str]:
    """The same kind of features for MinHash: words and word pairs, split at white space because that is fastest."""
    words = text.lower().split()
    return words + [f"{a} {b}" for a, b in pairwise(words)]


def by_datasketch(texts: list[str], *_: float | str) -> set[Pair]:
    from datasketch import MinHash, MinHashLSH

    index, found = MinHashLSH(threshold=JACCARD, num_perm=128), set[Pair]()
    for place, text in enumerate(texts):
        sketch = MinHash(num_perm=128)
        sketch.update_batch([part.encode() for part in set(shingles(text))])
        found |= {(int(other), place) for other in index.query(sketch)}
        index.insert(str(place), sketch)
    return found


def by_rensa(texts: list[str], *_: float | str, bands: int = 16) -> set[Pair]:
    from rensa import RMinHash, RMinHashLSH

    index, found = RMinHashLSH(threshold=JACCARD, num_perm=128, num_bands=bands), set[Pair]()
    for place, text in enumerate(texts):
        sketch = RMinHash(num_perm=128, seed=1)
        sketch.update(shingles(text))
        found |= {(other, place) for other in index.query(sketch)}
        index.insert(place, sketch)
    return found


def by_rensa_for_recall(texts: list[str], *_: float | str) -> set[Pair]:
    """With the number of bands that comes nearest to an exact search's recall."""
    return by_rensa(texts, bands=32)


def by_semhash(texts: list[str], threshold: float, analyzer: str) -> set[Pair]:
    import numpy as np
    from semhash import SemHash
    from sklearn.decomposition import TruncatedSVD

    class Encoder:
        def __init__(self) -> None:
            self._vectorizer, self._svd = vectorizer(analyzer), TruncatedSVD(128, random_state=0)
            self._svd.fit(self._vectorizer.fit_transform(texts))

        def encode(self, inputs, **_):
            return self._svd.transform(self._vectorizer.transform(list(inputs))).astype(np.float32)

    records = [{"text": text, "place": str(place)} for place, text in enumerate(texts)]
    result = SemHash.from_records(records, columns=["text"], model=Encoder()).self_deduplicate(threshold=threshold)
    return {
        tuple(sorted((int(item.record["place"]), int(other["place"]))))
        for item in result.filtered
        for other, _ in item.duplicates
    }


JACCARD = 0.7  # of token sets; about where a cosine of 0.85 lies
METHODS: dict[str, tuple[str, Callable[[list[str], float, str], set[Pair]], int]] = {
    "safetyqc": ("numba", by_safetyqc, 10**9),
    "safetyqc-reference": ("sklearn", by_reference, 20_000),
    "sklearn": ("sklearn", by_sklearn, 20_000),
    "sparse-dot-topn": ("sparse_dot_topn", by_sparse_dot_topn, 100_000),
    "datasketch": ("datasketch", by_datasketch, 100_000),
    "rensa": ("rensa", by_rensa, 10**9),
    "rensa-32-bands": ("rensa", by_rensa_for_recall, 10**9),
    "semhash": ("semhash", by_semhash, 20_000),
}
"""Package needed, function, and the largest size that it is run at unless it is asked for by name."""


def peak_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e9 if sys.platform == "darwin" else 1e6)


def run_one(method: str, size: int, threshold: float, analyzer: str, data: Path | None, out: Path | None) -> None:
    """Time one method in this process and print one JSON line."""
    texts = corpus(size, data)
    before, function = peak_gb(), METHODS[method][1]
    start = time.perf_counter()
    function(corpus(200, data, seed=9), threshold, analyzer)  # imports, compiling
    warm, warm_cpu = time.perf_counter(), time.process_time()
    found = function(texts, threshold, analyzer)
    seconds, cpu = time.perf_counter() - warm, time.process_time() - warm_cpu
    if out:
        out.write_text(json.dumps(sorted(found)))
    print(
        json.dumps(
            {
                "seconds": seconds,
                "cpu": cpu,
                "first_use": warm - start,
                "gb": peak_gb(),
                "texts_gb": before,
                "pairs": len(found),
            }
        )
    )


def table_of_speed(
    size: int, threshold: float, analyzer: str, data: Path | None, methods: list[str], scratch: Path
) -> None:
    print(f"{size:,} conversations, cosine >= {threshold:g}, {len(os.sched_getaffinity(0))} cores")
    print(
        "| method | seconds | CPU seconds | first use | peak GB | pairs | recall of exact pairs | of its pairs exact |"
    )
    print("|---|---|---|---|---|---|---|---|")
    exact: set[Pair] | None = None
    for method in methods:
        out = scratch / f"{method}.json"
        options = [*(["--data", str(data)] if data else []), "--threshold", str(threshold), "--out", str(out)]
        options += ["--analyzer", analyzer]
        command = [sys.executable, __file__, "one", "--size", str(size), "--methods", method, *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"| {method} | did not run: {done.stderr.strip().splitlines()[-1]} | | | | | | |")
            continue
        result = json.loads(done.stdout.splitlines()[-1])
        found = {(left, right) for left, right in json.loads(out.read_text())}
        exact = found if exact is None else exact
        recall, precision = len(found & exact) / len(exact), len(found & exact) / max(len(found), 1)
        print(
            f"| {method} | {result['seconds']:.1f} | {result['cpu']:.1f} | {result['first_use']:.1f} "
            f"| {result['gb']:.2f} | {result['pairs']:,} | {recall:.4f} | {precision:.4f} |",
            flush=True,
        )


# --- a run that grows ------------------------------------------------------------------------------------------------


def write_conversations(path: Path, texts: list[str], first: int) -> None:
    """Each text as a conversation: its first line asks, the rest answers."""
    with path.open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts, first):
            request, _, answer = text.partition("\n")
            turns_ = [{"role": "user", "content": request or "-"}, {"role": "assistant", "content": answer or "-"}]
            file.write(json.dumps({"id": f"c{number}", "messages": turns_}, ensure_ascii=False) + "\n")


def typed(*arguments: str) -> tuple[float, float, str]:
    """Run a safetyqc command; its CPU seconds, its peak GB, and what it told of how pairs were come by."""
    command = [sys.executable, "-m", "safetyqc", *arguments]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        told = process.stderr.read() if process.stderr else ""
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(told)
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1e6, told


def table_of_a_run(size: int, data: Path | None, scratch: Path) -> None:
    """What `safetyqc dedup` takes on a run of this size, and after 1,000 conversations more."""
    run, texts = scratch / "run", corpus(size + 2_000, data)
    batches = ((0, size), (size, size + 1_000), (size + 1_000, size + 2_000))
    steps: list[tuple[str, tuple[int, int] | None, list[str]]] = [
        ("the first", batches[0], []),
        ("nothing new", None, []),
        ("1,000 more", batches[1], []),
        ("1,000 more", batches[2], []),
        ("--min-similarity 0.9", None, ["--min-similarity", "0.9"]),
        ("back to 0.75", None, []),
        ("--refit", None, ["--refit"]),
    ]
    print("| `safetyqc dedup` | CPU seconds | peak GB | run.sqlite MB | |\n|---|---|---|---|---|")
    for name, batch, flags in steps:
        if batch:
            write_conversations(scratch / "batch.jsonl", texts[slice(*batch)], batch[0])
            typed("import", str(scratch / "batch.jsonl"), "--run", str(run))
        cpu, gb, told = typed("dedup", "--run", str(run), *flags)
        stored = sum(f.stat().st_size for f in run.glob("run.sqlite*")) / 1e6
        how = next(line.strip() for line in told.splitlines() if "searched" in line or "reused" in line)
        print(f"| {name} | {cpu:.1f} | {gb:.2f} | {stored:.0f} | {how} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("edits", "against", "speed", "run", "one"))
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--threshold", type=float, default=0.85)
    parser.add_argument("--analyzer", choices=("word", "char"), default="word")
    parser.add_argument("--methods", default="")
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    if given.what in ("edits", "against"):
        if given.data is None:
            parser.error(f"{given.what} needs --data")
        if given.what == "edits":
            table_of_edits(given.data, given.analyzer)
        else:
            table_of_references(given.data)
    elif given.what == "one":
        run_one(given.methods, given.size, given.threshold, given.analyzer, given.data, given.out)
    elif given.what == "run":
        with tempfile.TemporaryDirectory() as scratch:
            table_of_a_run(given.size, given.data, Path(scratch))
    else:
        chosen = given.methods.split(",") if given.methods else [
            name for name, (package, _, most) in METHODS.items()
            if importlib.util.find_spec(package) and given.size <= most
        ]  # fmt: skip
        with tempfile.TemporaryDirectory() as scratch:
            table_of_speed(given.size, given.threshold, given.analyzer, given.data, chosen, Path(scratch))


if __name__ == "__main__":
    main()
