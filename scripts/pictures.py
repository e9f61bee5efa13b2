"""Makes the README's pictures from a run: `python scripts/pictures.py RUN`, into docs/images.

The terminal's comes from rich's SVG export, the page's from the page itself; both are photographed by Chromium.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, sync_playwright
from rich.console import Console
from rich.terminal_theme import TerminalTheme

from safetyqc.config import Config
from safetyqc.pipeline.outputs import summarise_run
from safetyqc.reports.html import render_html
from safetyqc.reports.terminal import render_report
from safetyqc.results.report import Summary
from safetyqc.store import Store

IMAGES = Path(__file__).parents[1] / "docs" / "images"
INK = (215, 219, 224)
THEME = TerminalTheme((24, 27, 32), INK, [INK] * 8, [INK] * 8)


def terminal_svg(summary: Summary) -> str:
    """Draw the report of one screen as rich exports it."""
    console = Console(
        file=io.StringIO(), record=True, width=96, force_terminal=True, color_system="truecolor", highlight=False
    )
    console.print(render_report(summary))
    # the export names a font on a server; the machine's own will do
    svg = console.export_svg(title="safetyqc report", theme=THEME)
    return svg.replace("Fira Code", "DejaVu Sans Mono")


def photograph(browser: Browser, page_file: Path, target: str, *, width: int, height: int, whole: str | None) -> None:
    """Photograph a page, or the element `whole` of it."""
    page = browser.new_page(viewport={"width": width, "height": height}, device_scale_factor=1.5)
    page.goto(page_file.as_uri())
    page.wait_for_timeout(1500)
    shot = page.locator(whole) if whole else page
    shot.screenshot(path=IMAGES / target)
    page.close()


def main(run: str) -> None:
    """Make both pictures."""
    IMAGES.mkdir(parents=True, exist_ok=True)
    with Store.read(run) as store:
        summary = summarise_run(store, Config())
        pages = {
            "terminal.html": f"<body style='margin:0'>{terminal_svg(summary)}",
            "page.html": render_html(store, summary),
        }
    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=flags)
        for name, text in pages.items():
            Path(folder, name).write_text(text, encoding="utf-8")
        photograph(browser, Path(folder, "terminal.html"), "report-terminal.png", width=1380, height=900, whole="svg")
        photograph(browser, Path(folder, "page.html"), "report-html.png", width=1280, height=1500, whole=None)
        browser.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
