"""One table of a comparison with the runs behind it: what every section of the page starts from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from molere_cli.report import Comparison, Result, Row, RunDir, SeedPair

MOST_STUDIES = 3
"""Datasets and backbones that are looked into; all are in the tables."""
MOST_ROWS = 6
"""Rows of one that are looked into."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Study:
    """Results on one dataset with one backbone.

    results: of the test set that is looked into, in the order of the table; by_test_set: of all.
    """

    dataset: str
    backbone: str
    test_set: str
    results: Sequence[Result]
    by_test_set: dict[str, list[Result]]

    @property
    def title(self) -> str:
        return f"{self.dataset}, {self.backbone}"

    @property
    def measured(self) -> list[Result]:
        """Rows with a gain, those that are looked into."""
        return [result for result in self.results if result.gain is not None][:MOST_ROWS]

    @property
    def left_out(self) -> list[str]:
        """Labels of the rows with a gain that are not."""
        return [result.row.label for result in self.results if result.gain is not None][MOST_ROWS:]

    @property
    def erm(self) -> Row | None:
        """The row that most are measured against, None without one."""
        rows = [result.baseline for result in self.results if result.baseline is not None]
        rows += [result.row for result in self.results if result.row.is_baseline]
        return max(rows, key=rows.count) if rows else None

    def example_run(self) -> RunDir:
        """The run whose pool is shown: ERM's first seed, which says how hard examples are without weights;
        without ERM, the first of the first row."""
        return first_run(self.erm or self.results[0].row)


def first_run(row: Row, pair: SeedPair | None = None) -> RunDir:
    """The run of a seed, or of the first."""
    return RunDir(row.runs[pair or next(iter(row.runs))].path)


def run_beside(row: Row, study: Study) -> RunDir:
    """A run of a row with the seed of `example_run`, if there is one, so that both saw the same data."""
    erm = study.erm
    pair = next(iter(erm.runs)) if erm is not None else None
    return first_run(row, pair if pair in row.runs else None)


def studies(comparison: Comparison, test_set: str | None) -> list[Study]:
    """A study of each dataset and backbone, on `test_set`; on its first where it has no such set, or None is
    given."""
    found: dict[tuple[str, str], dict[str, list[Result]]] = {}
    for (dataset, backbone, name), results in comparison.groups.items():
        found.setdefault((dataset, backbone), {})[name] = results
    made = []
    for (dataset, backbone), by_test_set in found.items():
        chosen = test_set if test_set in by_test_set else next(iter(by_test_set))
        made.append(
            Study(
                dataset=dataset,
                backbone=backbone,
                test_set=chosen,
                results=by_test_set[chosen],
                by_test_set=by_test_set,
            )
        )
    return made
