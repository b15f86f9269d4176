"""Write docs/concepts/results.md, its history and figures, and the tables of docs/guide/methods.md.

`--check` says whether they are current.

    python benchmarks/reproduce/results.py

The prose is in results.md.j2 and results-history.md.j2; every number comes from a cell's line under results/,
or from a measurement's own file there.
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
PAGES = {"results.md": DOCS / "concepts", "results-history.md": DOCS / "dev"}
NEW_PAGE = re.compile(r"^<!-- page: (\S+) \| (.+) -->\n", re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
METHODS = DOCS / "guide" / "methods.md"


def render(page: str) -> str:
    """The page of that name."""
    environment = Environment(  # noqa: S701 - Markdown, of our own results
        loader=FileSystemLoader(HERE), undefined=StrictUndefined, keep_trailing_newline=True
    )
    helpers: Mapping[str, Any] = {
        "answer_table": answer.answer_table,
        "chosen_table": answer.chosen_table,
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


def in_pages(name: str, text: str) -> dict[str, str]:
    """A text cut where it says `<!-- page: NAME | TITLE -->`, by file name; its links to headings of its own
    go to the page that has them."""
    first, *rest = NEW_PAGE.split(text)
    stem = name.removesuffix(".md")
    pages = {name: first}
    for page, title, part in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        intro = f"For anyone who compares with earlier defaults; the answer in short is in [{stem}]({name})."
        pages[f"{stem}-{page}.md"] = f"# {title}\n\n{intro}\n\n{part}"
    home = {anchor(title): page for page, part in pages.items() for title in HEADING.findall(part)}

    def link(found: re.Match[str], page: str) -> str:
        target = home.get(found[1], page)
        return f"]({'' if target == page else target}#{found[1]})"

    return {
        page: re.sub(r"\]\(#([^)]+)\)", lambda found, page=page: link(found, page), part)  # type: ignore[misc]
        for page, part in pages.items()
    }


def anchor(heading: str) -> str:
    """As a link names a heading."""
    return re.sub(r"[^\w -]", "", heading.lower()).strip().replace(" ", "-")


def with_tables(text: str) -> str:
    """A page whose blocks `<!-- gains: EXPERIMENT VARIANT -->` to `<!-- end -->` hold the present tables."""

    def block(found: re.Match[str]) -> str:
        experiment, variant = found.groups()
        present = tables.gains_table(experiment, variant)
        return f"<!-- gains: {experiment} {variant} -->\n\n{present}\n\n<!-- end -->"

    return re.sub(r"<!-- gains: (\S+) (\S+) -->.*?<!-- end -->", block, text, flags=re.DOTALL)


def main() -> int:
    pages = {
        folder / name: text
        for page, folder in PAGES.items()
        for name, text in in_pages(page, render(page)).items()
    }
    pages[METHODS] = with_tables(METHODS.read_text(encoding="utf-8"))
    if "--check" in sys.argv[1:]:
        stale = [
            str(path.relative_to(DOCS.parent))
            for path, page in pages.items()
            if not path.exists() or path.read_text(encoding="utf-8") != page
        ]
        if stale:
            print(f"{', '.join(stale)} out of date; run `make results`", file=sys.stderr)
        return 1 if stale else 0
    for path, page in pages.items():
        path.write_text(page, encoding="utf-8")
    draw_figures(DOCS)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ResultsError as error:
        sys.exit(f"results.py: {error}")
