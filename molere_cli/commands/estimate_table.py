"""`--dry-run` as a table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from molere_cli.commands.output import say, show, show_table

if TYPE_CHECKING:
    from molere_cli.api.cost_estimate import CostEstimate


def show_estimates(found: Sequence[CostEstimate], *, as_json: bool) -> None:
    """A row for each method: what a run takes, what comes before it, and all of it."""
    from molere_cli.foundation.files import json_text

    if as_json:
        show(json_text([each.as_json() for each in found], indent=2))
        return
    rows = [
        [
            each.label,
            str(each.num_runs),
            str(each.num_epochs),
            f"{each.num_steps:,}",
            duration(each.seconds),
            "-" if each.peak_memory is None else f"{each.peak_memory:,.0f}",
            ", ".join(f"{what} {duration(seconds)}" for what, seconds in each.before.items()) or "-",
            duration(each.seconds_in_all),
        ]
        for each in found
    ]
    headings = ["method", "runs", "epochs", "steps", "a run", "memory, MiB", "before it", "in all"]
    show_table("Estimates: nothing is trained", headings, rows)
    say("before it: unless it is there already; auto may train a third ERM", err=True)


def duration(seconds: float) -> str:
    """`7 s`, `12 min`, `3.5 h`."""
    if seconds < 100:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
