"""Draws a run as one HTML file that opens offline and asks the network for nothing.

Every string of the run is hostile. Text in the page goes through jinja's autoescape; the conversations travel
compressed (see `browser`) and reach the page as text nodes only; a content security policy names the hashes of our own
styles and scripts, so that nothing else runs even if something slipped through. With the policy
in force no element may carry a style attribute, so bars are SVG rectangles. Needs jinja2, imported to write a page.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from safetyqc.reports import wording
from safetyqc.reports.advice import tell_mix
from safetyqc.reports.browser import browser_data, pack
from safetyqc.reports.diff import adjusted, moves_to_show
from safetyqc.reports.snapshot import read_snapshot
from safetyqc.text import counted, reveal, run_flag

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

    from safetyqc.reports.diff import Difference
    from safetyqc.results.report import Summary
    from safetyqc.store import Store

_SCRIPTS = ("vendor/d3.min.js", "vendor/plot.umd.min.js", "charts.js", "browser.js")


def render_html(store: Store, summary: Summary, difference: Difference | None = None) -> str:
    """Render the page of a summary, with all conversations that it was narrowed to.

    About half a megabyte for the charts' library and a third of the conversations' JSON.
    """
    snapshot = read_snapshot(store, summary.run.judge, summary.run.category, bars={})
    style, scripts = page_asset("page.css"), [page_asset(name) for name in _SCRIPTS]
    return (
        page_environment()
        .get_template("page.html.j2")
        .render(
            summary=summary,
            selection=wording.tell_selection(summary),
            difference=difference,
            moves=moves_to_show(difference) if difference else [],
            policy=page_policy([style, plot_style()], scripts),
            style=style,
            scripts=scripts,
            charts=pack(_chart_data(summary)),
            conversations=pack(browser_data(snapshot) | {"review": f"safetyqc review{run_flag(store.folder)} --id"}),
            count=len(snapshot.conversations),
            goals={b.name: b.bar for b in summary.verdict.bars if b.of == "rate"},
        )
    )


def plot_style() -> str:
    """The one style sheet that the chart library puts into every chart, as it will write it for the class `chart`."""
    library = page_asset("vendor/plot.umd.min.js")
    found = re.search(r"`(:where\(\.\$\{\w+\}\) \{\\n  --plot-background.*?)`", library)
    if found is None:
        raise LookupError("the embedded chart library writes another style sheet than the content policy expects")
    return re.sub(r"\$\{\w+\}", "chart", found[1]).replace("\\n", "\n")


def _chart_data(summary: Summary) -> dict[str, Any]:
    return summary.model_dump(mode="json", include={"funnel", "balance", "criteria", "verdict", "judges"})


def page_policy(styles: list[str], scripts: list[str]) -> str:
    """Nothing may load; only these very styles and scripts may act; strings may not become markup."""
    return "; ".join(
        [
            "default-src 'none'",
            f"style-src {' '.join(map(hash_source, styles))}",
            f"script-src {' '.join(map(hash_source, scripts))}",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ]
    )


def hash_source(text: str) -> str:
    """Word a content policy's permission for exactly this inline text, so that no other can be slipped in."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


@cache
def page_asset(name: str) -> str:
    """A text file that pages are made of."""
    return (files("safetyqc.reports") / "page" / name).read_text(encoding="utf-8")


@cache
def page_environment() -> Environment:
    """What templates are read and filled with: every string is escaped, and what is hidden in it is shown."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("safetyqc.reports", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: reveal(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        name: getattr(wording, name) for name in ("percent", "number", "money", "duration", "split_quotes")
    }
    environment.globals |= {
        name: getattr(wording, name)
        for name in (
            *("interval", "bin_name", "similarity", "tell_open", "tell_bars"),
            *("tell_guesses", "tell_right", "tell_all_right"),
        )
    }
    environment.filters["counted"] = counted
    environment.filters["breakable"] = breakable
    environment.filters["refusals"] = wording.tell_refusals
    environment.globals |= {"step_names": wording.STEP_NAMES, "lost_by": wording.LOST_BY}
    environment.globals |= {"heat": heat, "adjusted": adjusted, "tell_mix": tell_mix}
    return environment


def breakable(name: str) -> Markup:
    """A name as text that a narrow column may break behind its underscores, and nowhere inside a word."""
    from markupsafe import Markup, escape

    return Markup(str(escape(reveal(name))).replace("_", "_<wbr>"))


def heat(rate: float | None, bar: float | None = None) -> str:
    """Class of a rate's colour: against the user's bar where there is one, else by what usually is good enough."""
    if rate is None:
        return "none"
    if bar is not None:
        return "full" if rate >= bar else "bad"
    return next(
        (name for least, name in ((0.95, "full"), (0.9, "good"), (0.8, "fair"), (0.5, "poor")) if rate >= least), "bad"
    )
