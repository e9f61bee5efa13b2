"""The labelling page in real Chromium: what is stored are the keys that were pressed."""

from __future__ import annotations

import asyncio
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from queue import Queue
from threading import Event, Thread
from typing import Any

import pytest
import yaml

from safetyqc.records import Conversation, Judgment, Label, Message, Score
from safetyqc.review.desk import Desk
from safetyqc.review.opening import Wanted, open_desk
from safetyqc.review.server import ReviewServer
from safetyqc.rubrics import load_rubric_set
from safetyqc.rubrics.rubric_set import bundled
from safetyqc.store import Store
from tests.support.payloads import PAYLOADS
from tests.support.runs import fill_for_review

LEVELS = {c.id: [level.name for level in c.levels] for c in load_rubric_set("safety").criteria}
ASKED = ("strict_refusal", "no_dangerous_steps", "safe_alternative")
WIDE, NARROW = {"width": 1280, "height": 800}, {"width": 390, "height": 844}


class Review:
    """The page of one server, and what browsers that opened it did and must not do."""

    def __init__(self, chromium: Any, address: str) -> None:
        self.chromium, self.address, self.noise = chromium, address, list[str]()

    def open(self, **options: Any) -> Any:
        context = self.chromium.new_context(**({"viewport": WIDE} | options))
        page = context.new_page()
        page.set_default_timeout(15_000)
        page.on("dialog", lambda d: (self.noise.append(f"dialog {d.message}"), d.dismiss()))
        page.on("console", lambda m: self.noise.append(f"console {m.type} {m.text}"))
        page.on("pageerror", lambda e: self.noise.append(f"error {e}"))
        page.on("request", lambda r: None if r.url.startswith(self.address) else self.noise.append(f"request {r.url}"))
        page.goto(self.address)
        page.locator("#title", has_text=re.compile("Conversation .|Nothing")).wait_for()
        return page


Serve = Callable[..., Review]
"""Run and what is wanted, perhaps a rubric: a server of the page in a thread, which costs no other start of Python."""


@contextmanager
def in_thread(run: Path, wanted: Wanted, rubric: str = "safety") -> Iterator[str]:
    """The address of a server with a store of its own."""
    started: Queue[str] = Queue()
    stop = Event()

    async def keep(desk: Desk) -> None:
        async with ReviewServer(desk) as server:
            started.put(server.address)
            await asyncio.to_thread(stop.wait)

    def work() -> None:
        with Store.beside(run) as store:
            asyncio.run(keep(open_desk(store, rubric, wanted)[0]))

    thread = Thread(target=work, daemon=True)
    thread.start()
    try:
        yield started.get(timeout=60)
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def serve(chromium: Any) -> Iterator[Serve]:
    with ExitStack() as servers:
        yield lambda *args: Review(chromium, servers.enter_context(in_thread(*args)))


@pytest.fixture(scope="module")
def opened(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Review, Path]]:
    """One server, and its run, for tests that begin wherever it stands."""
    run = fill_for_review(tmp_path_factory.mktemp("opened"))
    with in_thread(run, Wanted("ann")) as address:
        yield Review(chromium, address), run


@pytest.fixture
def command() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start servers by the command, as people do; all are killed in the end."""
    servers: list[subprocess.Popen[str]] = []

    def start(run: Path, annotator: str) -> subprocess.Popen[str]:
        flags = ["--run", str(run), "--no-browser", "--annotator", annotator]
        servers.append(
            subprocess.Popen(
                [sys.executable, "-m", "safetyqc", "review", *flags],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return servers[-1]

    yield start
    for server in servers:
        server.kill()
        server.communicate()


def address_of(server: subprocess.Popen[str]) -> str:
    """What the command printed: alone on a line, with its token."""
    assert server.stdout
    address = server.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/[\w-]{20,}/", address), server.communicate()
    return address


def stored(run: Path) -> list[Label]:
    with Store.read(run) as store:
        return list(store.labels())


def shown(page: Any) -> str:
    """Id of the conversation that is before the annotator; empty when nothing is left."""
    found = re.match(r"Conversation (\S+)", page.inner_text("#title"))
    return found[1] if found else ""


def left(page: Any, name: str) -> None:
    """Wait until another conversation, or none, is before the annotator."""
    page.locator("#title", has_not_text=name).wait_for()


def answer(page: Any, chosen: random.Random, pressed: dict[tuple[str, str], str]) -> None:
    """Press one key for each criterion of what is shown, as fast as they can be pressed."""
    name = shown(page)
    for criterion in ASKED:
        key = chosen.randint(0, len(LEVELS[criterion]))
        pressed[name, criterion] = LEVELS[criterion][key - 1] if key else "na"
        page.keyboard.press(str(key))
    left(page, name)


def test_labels_equal_the_keys_through_a_reload_a_killed_server_and_a_second_annotator(
    chromium: Any, command: Callable[..., subprocess.Popen[str]], run: Path
) -> None:
    chosen = random.Random(16)
    pressed: dict[str, dict[tuple[str, str], str]] = {"ann": {}, "ben": {}}
    process, of_ben = command(run, "ann"), command(run, "ben")  # both start at once
    server, other = Review(chromium, address_of(process)), Review(chromium, address_of(of_ben))
    page, second = server.open(), other.open()
    for _ in range(8):
        answer(page, chosen, pressed["ann"])
        answer(second, chosen, pressed["ben"])
    name = shown(page)
    page.keyboard.press("1")
    page.locator(".criterion:not(.active) .answer", has_text="refuses").wait_for()
    pressed["ann"][name, ASKED[0]] = LEVELS[ASKED[0]][0]
    process.kill()
    process.wait()
    process = command(run, "ann")
    page.keyboard.press("2")
    page.locator("#trouble", has_text="Not stored: the server does not answer").wait_for()
    assert {(x.conversation_id, x.criterion): x.level or "na" for x in stored(run) if x.annotator == "ann"} == pressed[
        "ann"
    ]
    server = Review(chromium, address_of(process))
    page = server.open()
    assert shown(page) == name  # where it was left, with what was answered
    page.reload()
    page.locator("h1", has_text=name).wait_for()
    assert page.inner_text(".criterion >> nth=0 >> .answer") == "refuses"
    for criterion in ASKED[1:]:
        pressed["ann"][name, criterion] = LEVELS[criterion][1]
        page.keyboard.press("2")
    left(page, name)
    while shown(page) or shown(second):
        if shown(page):
            answer(page, chosen, pressed["ann"])
        if shown(second):
            answer(second, chosen, pressed["ben"])
        else:
            second.keyboard.press("Enter")  # what ann had before her may have come free
    labels = stored(run)
    for annotator, keys in pressed.items():
        own = {(x.conversation_id, x.criterion): x.level or "na" for x in labels if x.annotator == annotator}
        assert own == keys
    assert len({x.conversation_id for x in labels}) == 30
    assert [n for n in server.noise + other.noise if "ERR_CONNECTION" not in n] == []


def test_undo_defer_note_search_and_typing_do_what_the_keys_say(serve: Serve, run: Path) -> None:
    server = serve(run, Wanted("ann"))
    page = server.open()
    first = shown(page)
    page.keyboard.press("d")
    left(page, first)
    second = shown(page)
    page.keyboard.press("n")
    page.keyboard.type("1 2 3 ud?/ 是的 ")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("more")
    page.keyboard.press("Enter")
    page.locator(".note", has_text="是的").wait_for()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("2")
    page.locator(".answer.fail", has_text="dangerous").wait_for()
    page.keyboard.press("u")
    page.locator(".criterion.active .answer", has_text="open").wait_for()
    page.keyboard.press("1")
    page.locator(".answer.pass", has_text="safe").wait_for()
    [label] = stored(run)
    assert (label.conversation_id, label.criterion, label.level) == (second, "no_dangerous_steps", "safe")
    page.keyboard.press("/")
    page.keyboard.type("tool 17 ")
    page.locator(".hits button").wait_for()
    page.keyboard.press("Enter")
    page.locator("#title", has_text="c_0017").wait_for()
    page.keyboard.press("?")
    page.locator("dialog[open]", has_text="take back what you did last").wait_for()
    page.keyboard.press("2")  # a dialog takes the keys
    page.keyboard.press("Escape")
    page.keyboard.press("u")
    page.locator("#title", has_text=second).wait_for()
    assert stored(run) == []
    with Store.read(run) as store:
        assert [x.outcome for x in store.label_history()] == ["fail", "cleared", "pass", "cleared"]
        notes = [act.body["note"] for _, act in store.acts_since(0) if act.act == "note"]
    assert notes == ["1 2 3 ud?/ 是的 \nmore"]
    assert server.noise == []


def test_a_decision_between_annotators_takes_a_key_and_its_reason(serve: Serve, run: Path) -> None:
    with Store.open(run) as store:
        for who, outcome, level in (("ann", "fail", "vague"), ("ben", "pass", "specific")):
            cell = {"conversation_id": "c_0004", "criterion": "safe_alternative", "annotator": who}
            store.add_labels(
                [Label.model_validate(cell | {"outcome": outcome, "level": level, "note": f"so: {level}"})]
            )
    page = serve(run, Wanted("cleo", "adjudicate")).open()
    assert set(page.locator(".others li").all_inner_texts()) == {"vague: so: vague", "specific: so: specific"}
    page.keyboard.press("1")
    page.keyboard.press("Enter")  # no reason yet
    page.keyboard.type("it names the router")
    page.keyboard.press("Enter")
    page.locator("#title", has_text="Nothing is left").wait_for()
    [decided] = [x for x in stored(run) if x.adjudicated]
    assert (decided.level, decided.note) == ("specific", "it names the router")


def test_text_is_blurred_until_asked_and_judges_are_silent_until_answered(opened: tuple[Review, Path]) -> None:
    server, _ = opened
    page = server.open()
    text = page.locator(".message .text").first
    assert text.evaluate("node => getComputedStyle(node).filter") == "blur(7px)"
    assert text.get_attribute("aria-hidden") == "true"
    page.keyboard.press("b")
    page.locator("#messages:not(.blurred)").wait_for()
    assert text.get_attribute("aria-hidden") is None
    page.keyboard.press("j")
    page.locator("#trouble", has_text="shown when you have answered").wait_for()
    assert "local" not in page.content()
    first = shown(page)
    page.keyboard.type("111")
    left(page, first)
    assert page.locator(".blurred").count() == 1
    page.keyboard.press("ArrowLeft")
    page.locator("#title", has_text=first).wait_for()
    page.keyboard.press("j")
    page.locator("#judges", has_text="openai/gpt: passes").wait_for()
    page.keyboard.press("Shift+B")
    page.keyboard.press("Enter")
    left(page, first)
    assert page.locator(".blurred").count() == 0
    assert [n for n in server.noise if "409" not in n] == []


def test_axe_finds_no_serious_fault(opened: tuple[Review, Path]) -> None:
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="no axe: pip install 'safetyqc[dev]'")
    found: list[Any] = []
    for options in ({"viewport": WIDE}, {"viewport": NARROW, "color_scheme": "dark"}):
        page = opened[0].open(bypass_csp=True, **options)
        found += axe.Axe().run(page).response["violations"]
        first = shown(page)
        page.keyboard.type("b121")
        left(page, first)
        page.keyboard.press("ArrowLeft")
        page.keyboard.press("j")
        page.locator("#judges h3").first.wait_for()
        page.keyboard.press("n")
        page.locator("#note").wait_for()
        found += axe.Axe().run(page).response["violations"]
        page.keyboard.press("Escape")
        page.keyboard.press("/")
        page.locator("dialog[open]").wait_for()
        found += axe.Axe().run(page).response["violations"]
    assert [
        (x["id"], x["impact"], x["nodes"][0]["html"]) for x in found if x["impact"] in ("serious", "critical")
    ] == []


def test_at_390_pixels_nothing_is_cut_and_fingers_do_what_keys_do(opened: tuple[Review, Path]) -> None:
    server, run = opened
    page = server.open(viewport=NARROW, has_touch=True)
    assert page.evaluate("() => document.documentElement.scrollWidth") <= NARROW["width"]
    first = shown(page)
    page.tap("#unblur")
    page.locator("#messages:not(.blurred)").wait_for()
    for _ in ASKED:
        page.tap(".criterion.active .level >> nth=0")
    left(page, first)
    assert [x.level for x in stored(run) if x.conversation_id == first] == [LEVELS[c][0] for c in ASKED]


def hostile_rubric(folder: Path) -> str:
    """The shipped rubric, its words replaced by markup."""
    for entry in bundled().iterdir():
        if not entry.name.endswith(".yaml"):
            continue
        told = yaml.safe_load(entry.read_text(encoding="utf-8"))
        if "levels" in told:
            told |= {"title": PAYLOADS[0], "question": PAYLOADS[2], "guidance": PAYLOADS[:3], "examples": []}
            told["levels"] = [level | {"meaning": PAYLOADS[3]} for level in told["levels"]]
        (folder / entry.name).write_text(yaml.safe_dump(told), encoding="utf-8")
    return str(folder / "safety.yaml")


def test_hostile_text_in_every_field_stays_text(serve: Serve, tmp_path: Path) -> None:
    run, folder = tmp_path / "hostile", tmp_path / "rubric"
    folder.mkdir()
    rubric = hostile_rubric(folder)
    talks = [
        Conversation(
            id=f"c{i}<b>",
            messages=(Message(role="user", content=payload), Message(role="assistant", content=payload * 2)),
            system=payload,
            category=payload,
            language=payload,
            intent="harmful",
        )
        for i, payload in enumerate(PAYLOADS)
    ]
    said = tuple(Score(criterion=p, outcome="fail", level=p, reason=p, quote=p) for p in PAYLOADS)
    with Store.create(run) as store:
        store.add_conversations(talks)
        verdict = {"judge": PAYLOADS[3], "rubric": "r", "rubric_hash": "h", "scores": said, "passed": False}
        store.put_judgments(Judgment(conversation_id=c.id, **verdict) for c in talks).result()
    server = serve(run, Wanted(PAYLOADS[2]), rubric)
    page = server.open()
    page.keyboard.press("Shift+B")
    page.keyboard.press("n")
    page.keyboard.type(PAYLOADS[1])
    page.keyboard.press("Enter")
    page.locator(".note", has_text="alert(2)").wait_for()
    for _ in PAYLOADS:
        name = shown(page)
        page.keyboard.type("1" * page.locator(".criterion").count())
        left(page, name)
    name = shown(page)
    page.keyboard.press("ArrowLeft")
    left(page, name)
    page.keyboard.press("j")
    page.locator("#judges h3").wait_for()
    page.keyboard.press("/")
    page.keyboard.type("alert(1)")
    page.locator("dialog .tell", has_text="found").wait_for()
    assert server.noise == []
    assert page.locator("script").count() == 1
    assert page.locator("#messages :not(div, p, kbd), #criteria img, iframe, form, style, base").count() == 0
