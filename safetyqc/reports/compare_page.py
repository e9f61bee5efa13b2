"""Draws a comparison of judges as one HTML page: what to choose, each criterion's figures, every disagreement folded.

All texts are escaped, and blurred until asked for. There is no script: folding and showing are the browser's own, so
the content policy forbids any. Needs jinja2, imported to write a page.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from safetyqc.reports.html import hash_source, page_asset
from safetyqc.reports.wording import in_percent, percent, span, tell_groups
from safetyqc.results.compare import OVERALL, POOLED
from safetyqc.text import printable

if TYPE_CHECKING:
    from safetyqc.results.compare import Comparison, Disagreement


def comparison_page(comparison: Comparison, disagreements: Sequence[Disagreement]) -> str:
    """Write the page: the main figures, then every disagreement given."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("safetyqc.reports", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(printable=printable, percent=percent, in_percent=in_percent, span=span)
    environment.globals["tell_groups"] = tell_groups
    style = page_asset("page.css") + page_asset("compare.css")
    return environment.get_template("compare.html.j2").render(
        comparison=comparison,
        disagreements=disagreements,
        titles={OVERALL: "Whole conversation", POOLED: "All criteria"},
        kappas={c.criterion: {a.rater: a.kappa for a in c.accuracies} for c in comparison.criteria},
        policy=f"default-src 'none'; style-src {hash_source(style)}; base-uri 'none'; form-action 'none'",
        style=style,
    )
