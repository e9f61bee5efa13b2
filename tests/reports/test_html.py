"""The page is opened in real Chromium (Playwright drives the one that is installed); without it these tests skip."""

from __future__ import annotations

import base64
import gzip
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from safetyqc.records import Conversation, Judgment, Label, Message, Rejection, Score, Source
from safetyqc.reports.diff import compare_stores
from safetyqc.reports.html import render_html
from safetyqc.reports.summary import summarise
from safetyqc.store import Store
from tests.support.payloads import PAYLOADS
from tests.support.runs import RUBRIC, RUBRIC_HASH, fill_from_files, fill_with_everything

Maker = Callable[..., Store]


def write(store: Store, folder: Path, **options: Any) -> Path:
    path = folder / "report.html"
    path.write_text(render_html(store, summarise(store), **options), encoding="utf-8")
    return path


def unpacked(text: str, name: str) -> Any:
    packed = re.search(rf'id="{name}-data">([^<]*)<', text)
    assert packed
    return json.loads(gzip.decompress(base64.b64decode(packed[1])))


# ---- without a browser ----------------------------------------------------------------------------------------------


def test_the_page_names_no_address_to_load(full_run: Store) -> None:
    page = re.sub(r"<script.*?</script>|<style>.*?</style>", "", render_html(full_run, summarise(full_run)), flags=re.S)
    assert not re.search(r"(?:src|href)\s*=\s*[\"']?(?![\"'#])", page)
    assert "default-src &#39;none&#39;" in page


def test_equal_runs_give_equal_pages(full_run: Store) -> None:
    assert render_html(full_run, summarise(full_run)) == render_html(full_run, summarise(full_run))


def test_the_browser_gets_every_conversation_with_its_standing(full_run: Store) -> None:
    data = unpacked(render_html(full_run, summarise(full_run)), "conversation")
    found = {c["id"]: c for c in data["conversations"]}
    assert len(found) == sum(full_run.count_conversations().values())
    assert found["c_0003"]["status"] == "superseded"
    assert found["c_0003"]["children"] == ["c_0003_1"]
    assert found["c_0003_1"]["diff"][0][0][0] == "same"
    assert "I'm here." in "".join(text for what, text in found["c_0003_1"]["diff"][1] if what == "new")
    assert data["groups"][found["c_0004"]["group"]]["kept"] == "c_0001"


def test_hidden_characters_are_shown_by_their_code(make_run: Maker) -> None:
    run = make_run(
        [Conversation(id="c", messages=(Message(role="user", content="a\u202eb\u200bc\x07 \\b \\u0007 \b\n"),))]
    )
    data = unpacked(render_html(run, summarise(run)), "conversation")
    assert data["conversations"][0]["turns"][0][1] == "a⟨U+202E⟩b⟨U+200B⟩c⟨U+0007⟩ \\b \\u0007 ⟨U+0008⟩\n"


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_never_stands_as_markup_in_the_source(make_run: Maker, payload: str) -> None:
    run = make_run()
    fill_with_payloads(run, [payload])
    page = render_html(run, summarise(run))
    if "<" in payload and not payload.startswith("<!--"):
        assert payload not in page
    assert page.count("<script") == 6  # two of data, four of our own


# ---- in Chromium ----------------------------------------------------------------------------------------------------


class Opened:
    """A page, and everything that it did and must not do."""

    def __init__(self, browser: Any, path: Path, **options: Any) -> None:
        anchor = options.pop("anchor", "")
        self.page = browser.new_page(**({"viewport": {"width": 1280, "height": 900}} | options))
        self.page.set_default_timeout(15_000)
        self.noise: list[str] = []
        self.page.on("dialog", lambda d: (self.noise.append(f"dialog {d.message}"), d.dismiss()))
        self.page.on("console", lambda m: self.noise.append(f"console {m.type} {m.text}"))
        self.page.on("pageerror", lambda e: self.noise.append(f"error {e}"))
        self.page.on(
            "request", lambda r: self.noise.append(f"request {r.url}") if r.url[:5] not in ("file:", "blob:") else None
        )
        self.page.goto(path.as_uri() + anchor)
        self.page.wait_for_selector("html[data-ready]")

    def expect_matched(self, count: str) -> None:
        """Wait until the browser says so (without evaluating a string, which the page's policy forbids)."""
        self.page.locator("#matched", has_text=re.compile(f"^{count} of ")).wait_for()

    def matched(self) -> int:
        return int(self.page.inner_text("#matched").split(" ")[0].replace(",", ""))


@pytest.fixture
def open_page(chromium: Any) -> Iterator[Callable[..., Opened]]:
    pages: list[Opened] = []

    def open_it(path: Path, **options: Any) -> Opened:
        pages.append(Opened(chromium, path, **options))
        return pages[-1]

    yield open_it
    for opened in pages:
        opened.page.close()


@pytest.fixture(scope="module")
def full_page(full_run: Store, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(full_run, tmp_path_factory.mktemp("page"))


def fill_with_payloads(run: Store, payloads: list[str]) -> None:
    """Put every payload into every string that a page shows."""
    for i, evil in enumerate(payloads):
        messages = (Message(role="user", content=evil), Message(role="assistant", content=f"{evil} {evil}"))
        talk = Conversation(
            id=f"c{i}{evil}", messages=messages, category=evil, author=evil, language=evil, origin="generated",
            source=Source(path=evil, index=0),
        )  # fmt: skip
        child = talk.model_copy(update={"id": f"d{i}{evil}", "origin": "rewritten", "parent_id": talk.id})
        score = Score(
            criterion=f"k {evil}", outcome="fail", level=evil, reason=f'says "{evil}" {evil}', quote=evil, turn=1
        )
        run.add_conversations([talk, child])
        fields = {"judge": evil, "rubric": evil, "rubric_hash": RUBRIC_HASH, "passed": False}
        run.put_judgments([Judgment(conversation_id=c.id, scores=(score,), **fields) for c in (talk, child)]).result()
        run.add_labels([Label(conversation_id=talk.id, criterion=score.criterion, outcome="fail", annotator=evil)])
        run.put_rejections([Rejection(conversation_id=child.id, filter=evil, reason=evil)], [])
    run.set_meta("plan", {"count": 99, "per_category": dict.fromkeys(payloads, 9)})
    criteria = [{"id": f"k {evil}", "title": evil, "gate": True} for evil in payloads]
    run.set_meta("rubric", {"id": payloads[0], "hash": RUBRIC_HASH, "criteria": criteria})
    run.set_meta("bars", {f"k {evil}": 0.5 for evil in payloads})


def test_payloads_do_nothing_anywhere_on_the_page(
    make_run: Maker, tmp_path: Path, open_page: Callable[..., Opened]
) -> None:
    run = make_run()
    fill_with_payloads(run, PAYLOADS)
    opened = open_page(write(run, tmp_path))
    page = opened.page
    page.click("#texts-switch")
    assert opened.matched() == 2 * len(PAYLOADS)
    page.focus("#list")
    for _ in range(opened.matched()):
        page.keyboard.press("ArrowDown")
    for key in ("category", "language", "judge", "criterion", "outcome", "stage"):
        for value in page.eval_on_selector_all(f"#filter-{key} option", "all => all.map(o => o.value)")[:6]:
            page.select_option(f"#filter-{key}", value)
        page.select_option(f"#filter-{key}", "")
    page.fill("#query", PAYLOADS[1])
    page.wait_for_timeout(200)
    assert opened.matched() >= 1
    for address in page.eval_on_selector_all("a[href]", "all => all.map(a => a.getAttribute('href'))"):
        assert address.startswith("#")
    page.evaluate("location.hash = '#browse?id=<img src=x onerror=alert(1)>&category=<svg onload=alert(2)>'")
    page.emulate_media(media="print")
    page.wait_for_timeout(200)
    assert opened.noise == []
    foreign = "main iframe, main img, main form:not(#filters), base, main style:not(.chart style)"
    assert page.locator(foreign).count() == 0


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")])
def test_nothing_overflows_and_nothing_complains(
    full_page: Path, open_page: Callable[..., Opened], width: int, scheme: str
) -> None:
    opened = open_page(full_page, viewport={"width": width, "height": 800}, color_scheme=scheme)
    opened.page.wait_for_selector("#chart-rates svg")
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.noise == []
    background = opened.page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (background == "rgb(255, 255, 255)") == (scheme == "light")


def test_the_theme_switch_goes_before_the_systems_choice(full_page: Path, open_page: Callable[..., Opened]) -> None:
    page = open_page(full_page, color_scheme="light").page
    page.click("#theme-switch")
    page.click("#theme-switch")
    assert page.inner_text("#theme-switch") == "Theme: dark"
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"


def test_filters_and_search_count_as_the_run_does(
    full_run: Store, full_page: Path, open_page: Callable[..., Opened]
) -> None:
    opened = open_page(full_page)
    page, everything = opened.page, list(full_run.conversations())
    assert opened.matched() == len(everything)
    page.select_option("#filter-category", "cybercrime_or_hacking")
    assert opened.matched() == sum(c.category == "cybercrime_or_hacking" for c in everything)
    page.click("#filters button[type=reset]")
    opened.expect_matched("39")
    page.select_option("#filter-stage", "kept")
    assert opened.matched() == summarise(full_run).kept
    page.select_option("#filter-stage", "")
    page.select_option("#filter-criterion", "empathy")
    page.select_option("#filter-outcome", "fail")
    failed = [
        j for j in full_run.judgments("local") for s in j.scores if (s.criterion, s.outcome) == ("empathy", "fail")
    ]
    assert opened.matched() == len(failed)
    page.select_option("#filter-judge", "openai/gpt")
    assert opened.matched() == 0
    page.click("#filters button[type=reset]")
    page.fill("#query", "FLATMATE number 4")
    opened.expect_matched("0")
    page.fill("#query", "FLATMATE  (13)")
    opened.expect_matched("1")
    assert opened.noise == []


def test_a_cell_of_the_heat_table_leads_to_its_conversations(full_page: Path, open_page: Callable[..., Opened]) -> None:
    opened = open_page(full_page)
    opened.page.click("a[href='#browse?criterion=empathy&outcome=fail']")
    opened.expect_matched("3")
    assert opened.page.input_value("#filter-criterion") == "empathy"
    opened.page.evaluate("location.hash = '#browse?id=c_0005'")
    opened.page.locator("#detail h3").first.filter(has_text=re.compile("^c_0005$")).wait_for()
    assert re.fullmatch(r"safetyqc review --run \S+ --id c_0005", opened.page.inner_text("#detail .command"))


def test_harmful_text_is_blurred_and_silent_until_asked_for(full_page: Path, open_page: Callable[..., Opened]) -> None:
    page = open_page(full_page, anchor="#browse?id=c_0005").page
    text = page.locator("#detail .turn .hostile").first
    assert "blur" in text.evaluate("e => getComputedStyle(e).filter")
    assert text.get_attribute("aria-hidden") == "true"
    text.click()
    assert text.evaluate("e => getComputedStyle(e).filter") == "none"
    assert text.get_attribute("aria-hidden") is None
    page.click("#texts-switch")
    assert page.get_attribute("#texts-switch", "aria-pressed") == "true"
    assert page.locator("#detail .hostile[aria-hidden]").count() == 0
    page.click("#texts-switch")
    assert "blur" in text.evaluate("e => getComputedStyle(e).filter")


def test_the_judges_quote_is_marked_in_its_turn(full_page: Path, open_page: Callable[..., Opened]) -> None:
    page = open_page(full_page, anchor="#browse?id=c_0005").page
    marked = page.locator("#detail .turn.assistant mark").first
    assert marked.inner_text() == "I won't look up where somebody lives (5)"[:40]
    assert "safe alternative" in (marked.get_attribute("title") or "")
    assert page.locator("#detail .turn.user mark").count() == 0


def test_a_rewrite_shows_what_it_changed_and_a_duplicate_its_group(
    full_page: Path, open_page: Callable[..., Opened]
) -> None:
    page = open_page(full_page, anchor="#browse?id=c_0003_1").page
    assert "I'm here." in page.locator("#detail ins").first.text_content()
    page.click("#detail a:text-is('c_0003')")
    page.locator("#detail h3").first.filter(has_text=re.compile("^c_0003$")).wait_for()
    page.evaluate("location.hash = '#browse?id=c_0004'")
    page.locator("#detail h3").first.filter(has_text=re.compile("^c_0004$")).wait_for()
    assert "0.91" in page.inner_text("#detail ul")


def test_the_browser_works_by_keyboard_alone(full_page: Path, open_page: Callable[..., Opened]) -> None:
    page = open_page(full_page).page
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.focus("#list")
    page.keyboard.press("End")
    last = page.get_attribute("#list", "aria-activedescendant")
    assert page.get_attribute(f"#{last}", "aria-selected") == "true"
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#detail h3 >> nth=0") == "c_0001"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "detail"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "list"


def test_every_control_has_a_name_and_every_chart_says_its_numbers(
    full_page: Path, open_page: Callable[..., Opened]
) -> None:
    page = open_page(full_page).page
    page.wait_for_selector("#chart-rates svg")
    assert "overall" not in page.get_attribute("#chart-rates svg", "aria-description")
    assert "whole conversation 89.7%" in page.get_attribute("#chart-rates svg", "aria-description")
    unnamed = page.evaluate(
        "[...document.querySelectorAll('select, input')].filter(e => !e.labels.length).length"
        " + [...document.querySelectorAll('[tabindex=\"0\"]')].filter(e => !e.getAttribute('aria-label')).length"
    )
    assert unnamed == 0
    levels = page.evaluate("[...document.querySelectorAll('main > section > h2')].length")
    assert levels >= 8


def test_print_leaves_the_browser_out_and_is_light(full_page: Path, open_page: Callable[..., Opened]) -> None:
    page = open_page(full_page, color_scheme="dark").page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.is_visible("#list")
    assert page.is_visible("#rates")
    assert page.evaluate("getComputedStyle(document.querySelector('blockquote.hostile')).color") == "rgba(0, 0, 0, 0)"
    assert len(page.pdf()) > 10_000


@pytest.mark.parametrize("count", [0, 1])
def test_an_empty_run_and_one_conversation_open_without_complaint(
    make_run: Maker, tmp_path: Path, open_page: Callable[..., Opened], count: int
) -> None:
    messages = (Message(role="user", content="q"), Message(role="assistant", content="a"))
    opened = open_page(write(make_run([Conversation(id=f"c{i}", messages=messages) for i in range(count)]), tmp_path))
    assert opened.matched() == count
    assert opened.noise == []


def test_a_comparison_with_another_run_is_shown(
    make_run: Maker, full_run: Store, tmp_path: Path, open_page: Callable[..., Opened]
) -> None:
    other = make_run()
    fill_with_everything(other)
    other.put_rejections([Rejection(conversation_id="c_0010", filter="new", reason="x")], [])
    difference = compare_stores(full_run, other, summarise(full_run), summarise(other))
    opened = open_page(write(other, tmp_path, difference=difference))
    assert "1 of 39 shared conversations stand elsewhere" in opened.page.inner_text("section:has(#moved) summary")
    assert opened.noise == []


@pytest.mark.slow
def test_twenty_thousand_conversations_stay_quick(
    make_run: Maker, tmp_path: Path, open_page: Callable[..., Opened]
) -> None:
    run = make_run(rubric=RUBRIC)
    text = "This is one of many answers, and it is about as long as answers are. " * 6
    talks = [
        Conversation(
            id=f"c{i}",
            messages=(Message(role="user", content=f"Question {i}?"), Message(role="assistant", content=f"{i} {text}")),
            category=f"category {i % 9}",
        )
        for i in range(20_000)
    ]
    run.add_conversations(talks)
    opened = open_page(write(run, tmp_path))
    page = opened.page
    assert opened.matched() == 20_000
    assert page.locator(".row").count() < 40
    started = time.monotonic()
    page.fill("#query", "question 19999?")
    opened.expect_matched("1")
    page.fill("#query", "")
    page.focus("#list")
    page.keyboard.press("End")
    page.locator("#detail h3").first.filter(has_text=re.compile("^c19999$")).wait_for()
    assert time.monotonic() - started < 10  # about half a second here; only a browser that hangs takes ten


def test_a_page_of_real_conversations_is_small_and_complete(
    shared_data: Path, make_run: Maker, tmp_path: Path, open_page: Callable[..., Opened]
) -> None:
    run = make_run()
    names = ("bilingual_conversations.jsonl", "xstest_dev.jsonl", "nanochat_safety_dev.jsonl")
    fill_from_files(run, [shared_data / name for name in names])
    path = write(run, tmp_path)
    assert path.stat().st_size < 3_000_000
    opened = open_page(path, viewport={"width": 390, "height": 800})
    assert opened.matched() == sum(run.count_conversations().values())
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert opened.noise == []
