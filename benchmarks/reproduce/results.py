"""Write docs/results.md, its history and figures, and the tables of docs/methods.md from results/ alone.

`--check` says whether they are current.

    python benchmarks/reproduce/results.py

The prose is in results.md.j2 and results-history.md.j2; every number comes from a cell's line, or from a
measurement's own file there.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from typing import Any

import answer
import tables
from cells import HERE
from evidence import count, programme
from figures import draw_figures
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from lines import ResultsError

DOCS = HERE.parents[1] / "docs"
PAGES = ("results.md", "results-history.md")
METHODS, FIGURES = DOCS / "methods.md", DOCS / "figures"


def render(page: str) -> str:
    """The page of that name."""
    environment = Environment(  # noqa: S701 - Markdown, of our own results
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, keep_trailing_newline=True
    )
    helpers: Mapping[str, Any] = {
        "answer_table": answer.answer_table,
        "asked_table": answer.asked_table,
        "price": answer.price,
        "versus_jtt": answer.versus_jtt,
        "gain": tables.gain,
        "gains_table": tables.gains_table,
        "order_table": tables.order_table,
        "who_table": tables.who_table,
        "ablation_table": tables.ablation_table,
        "tuning_table": tables.tuning_table,
        "status_table": tables.status_table,
        "summary_table": tables.summary_table,
        "diagnosis_table": tables.diagnosis_table,
        "oracle_table": tables.oracle_table,
        "signal_table": tables.signal_table,
        "theory_table": tables.theory_table,
        "count": count,
        "programme": programme(),
    }
    return environment.get_template(f"{page}.j2").render(helpers)


def with_tables(text: str) -> str:
    """A page whose blocks `<!-- gains: EXPERIMENT VARIANT -->` to `<!-- end -->` hold the present tables."""

    def block(found: re.Match[str]) -> str:
        experiment, variant = found.groups()
        present = tables.gains_table(experiment, variant)
        return f"<!-- gains: {experiment} {variant} -->\n\n{present}\n\n<!-- end -->"

    return re.sub(r"<!-- gains: (\S+) (\S+) -->.*?<!-- end -->", block, text, flags=re.DOTALL)


def main() -> int:
    pages = {DOCS / page: render(page) for page in PAGES}
    pages[METHODS] = with_tables(METHODS.read_text(encoding="utf-8"))
    if "--check" in sys.argv[1:]:
        stale = [
            path.name
            for path, page in pages.items()
            if not path.exists() or path.read_text(encoding="utf-8") != page
        ]
        if stale:
            print(f"docs/{', docs/'.join(stale)} out of date; run `make results`", file=sys.stderr)
        return 1 if stale else 0
    for path, page in pages.items():
        path.write_text(page, encoding="utf-8")
    draw_figures(FIGURES)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ResultsError as error:
        sys.exit(f"results.py: {error}")
