"""How fast the labelling page is in a large run: seconds until its address is printed, milliseconds from key to paint.

`python benchmarks/review_page.py [CONVERSATIONS] [KEYS]` makes a run of so many short conversations (default 100,000),
serves it by the real command and labels in Chromium: until the first frame after a key, and until the frame in which
its answer, which is stored by then, is drawn.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Playwright, sync_playwright

from safetyqc.records import Conversation, Judgment, Message, Score
from safetyqc.rubrics import load_rubric_set
from safetyqc.store import Store

CRITERIA = ("strict_refusal", "no_dangerous_steps", "safe_alternative")
WATCH = """() => {
  window.times = { seen: [], drawn: [] };
  const after = (from, list) => requestAnimationFrame(() => {
    const painted = new MessageChannel();
    painted.port1.onmessage = () => list.push(performance.now() - from);
    painted.port2.postMessage(0);
  });
  let pressed = null;
  addEventListener("keydown", (event) => {
    pressed = event.timeStamp;
    setTimeout(() => after(event.timeStamp, times.seen));
  }, true);
  new MutationObserver(() => { if (pressed !== null) { after(pressed, times.drawn); pressed = null; } })
    .observe(document.getElementById("criteria"), { childList: true });
}"""


def fill(folder: Path, count: int) -> None:
    """Make a judged run."""
    rubric = load_rubric_set("safety")
    with Store.create(folder) as store:
        store.set_meta("rubric", {"id": rubric.id, "hash": rubric.hash, "criteria": []})
        for start in range(0, count, 10_000):
            talks = [talk(number) for number in range(start, min(start + 10_000, count))]
            store.add_conversations(talks)
            store.put_judgments(judged(c, rubric.hash) for c in talks).result()


def talk(number: int) -> Conversation:
    """One of four exchanges; about as long as real ones."""
    asked = f"Write me tool {number} that reads the passwords of my flatmate. " * 4
    told = f"I can't help with reading passwords ({number}). I can show you how to lock your own router. " * 8
    messages = [Message(role="user", content=asked), Message(role="assistant", content=told)] * 2
    facts: dict[str, Any] = {"category": "cybercrime_or_hacking", "intent": "harmful", "language": "en"}
    return Conversation(id=f"c_{number:06d}", messages=tuple(messages), **facts)


def judged(conversation: Conversation, rubric_hash: str) -> Judgment:
    """A judgment in which everything passes."""
    scores = tuple(Score(criterion=name, outcome="pass", probability=0.9) for name in CRITERIA)
    told: dict[str, Any] = {"judge": "local", "rubric": "safety", "rubric_hash": rubric_hash, "passed": True}
    return Judgment(conversation_id=conversation.id, scores=scores, **told)


def measure(folder: Path, keys: int) -> tuple[float, dict[str, list[float]]]:
    """Seconds to the address, and milliseconds of each key."""
    command = [sys.executable, "-m", "safetyqc", "review", "--run", str(folder), "--no-browser"]
    began = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        address = process.stdout.readline().strip()
        ready = time.perf_counter() - began
        with sync_playwright() as playwright:
            times = press(playwright, address, keys)
    finally:
        process.terminate()
        process.communicate()
    return ready, times


def press(playwright: Playwright, address: str, keys: int) -> dict[str, list[float]]:
    """Label by keyboard, each key when the one before is painted; every tenth goes on to another conversation."""
    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
    # the page's own policy forbids what a test driver does to look into it
    page = browser.new_context(viewport={"width": 1280, "height": 800}, bypass_csp=True).new_page()
    page.goto(address)
    page.locator(".criterion.active").wait_for()
    page.evaluate(WATCH)
    for number in range(keys):
        page.keyboard.press("1" if number % 10 else "ArrowRight")
        page.wait_for_function(f"times.drawn.length > {number}")
    times: dict[str, list[float]] = page.evaluate("() => times")
    browser.close()
    return times


def main(count: int = 100_000, keys: int = 300) -> None:
    """Make, measure, print."""
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder, "run"), count)
        ready, times = measure(Path(folder, "run"), keys)
    print(f"{count:,} conversations; address after {ready:.1f} s; {keys} keys")
    for name, about in (("seen", "key to next paint"), ("drawn", "key to stored and drawn")):
        own = sorted(times[name])
        shares = {share: own[min(int(share * len(own)), len(own) - 1)] for share in (0.5, 0.95, 0.99)}
        print(f"{about}, ms: " + ", ".join(f"p{100 * share:.0f} {value:.0f}" for share, value in shares.items()))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
