"""Makes the pictures and figures of docs/review.md: `python scripts/review_pictures.py XSTEST.jsonl`.

Types the commands of the walk-through on answers to XSTest prompts, whose recorded GPT-4 verdicts are the judge, and
presses on the page the keys that XSTest's own people would press. The pictures show the bundled sample instead.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from safetyqc.pipeline.demo import SAMPLE

IMAGES = Path(__file__).parents[1] / "docs" / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
SAFETYQC = [sys.executable, "-m", "safetyqc"]
KEYS = {"2_full_refusal": "1", "3_partial_refusal": "1", "1_full_compliance": "3"}
MAP = """name: gpt-4 (recorded)
file: answers.jsonl
match: messages
criteria:
  strict_refusal:
    field: recorded.gpt4
    pass: [2_full_refusal, 3_partial_refusal]
    fail: [1_full_compliance]
"""


def typed(line: str, folder: Path) -> None:
    """Type a command, and show it with what it says."""
    print(f"\n$ safetyqc {line}")
    ended = subprocess.run([*SAFETYQC, *line.split()], cwd=folder, capture_output=True, text=True, check=False)
    print(ended.stdout + ended.stderr)


class Served:
    """The page, served by the command."""

    def __init__(self, folder: Path, *flags: str) -> None:
        command = [*SAFETYQC, "review", "--no-browser", *flags]
        self.process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.address = self.process.stdout.readline().strip()

    def __enter__(self) -> str:
        return self.address

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        print(self.process.communicate()[1])


def label_all(page: Page, key_of: dict[str, str]) -> int:
    """Press the key of every conversation until none is left; returns how many keys that took."""
    pressed = 0
    page.keyboard.press("Shift+B")
    while not (title := page.inner_text("#title")).startswith("Nothing"):
        place = page.inner_text("#place")
        page.keyboard.press(key_of[page.inner_text(".message.assistant .text").strip()])
        page.wait_for_function(
            "([a, b]) => title.textContent !== a || document.getElementById('place').textContent !== b",
            arg=[title, place],
        )
        pressed += 1
    return pressed


def walk(browser: Browser, xstest: Path, folder: Path) -> None:
    """Go from an unlabelled run to a corrected rate."""
    rows = [json.loads(line) for line in xstest.read_text(encoding="utf-8").splitlines()]
    bare = [{k: v for k, v in row.items() if k != "human"} for row in rows]
    (folder / "answers.jsonl").write_text("\n".join(map(json.dumps, bare)), encoding="utf-8")
    (folder / "gpt4.yaml").write_text(MAP, encoding="utf-8")
    people = {row["messages"][-1]["content"].strip(): KEYS[row["human"]["final"]] for row in rows}
    typed("judge answers.jsonl --judge recorded:gpt4.yaml --decide --rubric strict_refusal", folder)
    typed("label plan --for 0.05", folder)
    with Served(folder, "--annotator", "ann") as address:
        page = browser.new_context(bypass_csp=True).new_page()
        page.goto(address)
        page.locator(".criterion.active").wait_for()
        print(label_all(page, people), "keys")
    typed("report --section corrected", folder)
    final = [row["human"]["final"] for row in rows]
    print("all labels say", sum(word != "1_full_compliance" for word in final) / len(final))


def photograph(browser: Browser, folder: Path) -> None:
    """Take the pictures, of the bundled sample."""
    typed(f"judge {SAMPLE} -m local --run pictures", folder)
    wide: dict[str, Any] = {"viewport": {"width": 1180, "height": 760}, "device_scale_factor": 1}
    with Served(folder, "--run", "pictures", "--annotator", "ann") as address:
        page = browser.new_page(**wide)
        page.goto(address)
        page.locator(".blurred").wait_for()
        page.screenshot(path=IMAGES / "review-blurred.png")
        page.keyboard.press("b")
        page.keyboard.press("1")
        page.locator(".answer.pass").wait_for()
        page.screenshot(path=IMAGES / "review-page.png")
        first = page.inner_text("#title")
        for _ in range(page.locator(".answer", has_text="open").count()):
            page.keyboard.press("1")
        page.locator("#title", has_not_text=first).wait_for()
        page.keyboard.press("ArrowLeft")
        page.locator("#title", has_text=first).wait_for()
        page.keyboard.press("b")
        page.keyboard.press("j")
        page.locator("#judges h3").wait_for()
        page.screenshot(path=IMAGES / "review-judges.png")
        phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark", device_scale_factor=1)
        phone.goto(address)
        phone.locator(".criterion.active").wait_for()
        phone.keyboard.press("b")
        phone.locator("#messages:not(.blurred)").wait_for()
        phone.screenshot(path=IMAGES / "review-phone.png")


def main(xstest: str) -> None:
    """Type, press, photograph."""
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
        photograph(browser, Path(folder))
        walk(browser, Path(xstest), Path(folder))
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
