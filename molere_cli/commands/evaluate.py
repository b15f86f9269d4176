"""`molere eval`: what a run's checkpoint achieves, recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from molere_cli.commands.completion import run_directories
from molere_cli.commands.flags import Average, RunsDir
from molere_cli.commands.output import say, show, show_table

if TYPE_CHECKING:
    from molere_cli.api.evaluation import Evaluation

SHOWN_PARTS = 20


def evaluate(
    run: Annotated[
        Path | None,
        typer.Argument(
            help="Run directory; default: the newest under --runs.",
            show_default=False,
            autocompletion=run_directories,
        ),
    ] = None,
    on: Annotated[
        str | None,
        typer.Option(
            "--on",
            help="Test sets, as in test,corrupted:gaussian_noise:3,folder:DIR (one with a comma in quotes); "
            "default: all of the dataset.",
            show_default=False,
        ),
    ] = None,
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", help="Evaluate on the test sets of another dataset.", show_default=False),
    ] = None,
    dataset_option: Annotated[
        list[str] | None,
        typer.Option(
            "--dataset-option", metavar="KEY=VALUE", help="Option of that dataset.", show_default=False
        ),
    ] = None,
    ema: Average = False,
    runs: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all classes.")] = False,
) -> None:
    """Evaluate a run from its checkpoint alone."""
    from molere_cli.api.evaluation import evaluate_run
    from molere_cli.commands.console import Notes
    from molere_cli.commands.flags import key_values
    from molere_cli.config.paths import comma_separated
    from molere_cli.foundation.files import json_text
    from molere_cli.registry.registry import load_plugins

    found = evaluate_run(
        run,
        load_plugins(),
        runs=runs,
        sets=comma_separated(on) if on else None,
        dataset=dataset,
        dataset_option=key_values("dataset_option", dataset_option or []),
        average=ema,
        note=Notes().note,
    )
    for remark in found.remarks:
        say(f"note: {remark}", err=True)
    if as_json:
        show(json_text(found.as_json(), indent=2))
    else:
        print_evaluation(found)


def print_evaluation(found: Evaluation) -> None:
    """A table of the test sets, and for each one of its classes and groups (the worst ones of many)."""
    keys = list(dict.fromkeys(key for summary in found.summaries.values() for key in summary))
    headings = ["set", "images", *(key.replace("_", " ") for key in keys)]
    rows = [
        [name, f"{found.sizes[name]:,}", *(f"{summary[key]:.4f}" if key in summary else "-" for key in keys)]
        for name, summary in found.summaries.items()
    ]
    show_table(f"{found.label} ({found.run})", headings, rows)
    for name, accuracies in found.by_class.items():
        _show_accuracies("class", name, accuracies)
    for name, accuracies in found.by_group.items():
        _show_accuracies("group", name, accuracies)


def _show_accuracies(kind: str, name: str, accuracies: dict[str, float]) -> None:
    ordered = sorted(accuracies.items(), key=lambda item: item[1])
    more = f", the lowest {SHOWN_PARTS} of {len(ordered)}" if len(ordered) > SHOWN_PARTS else ""
    more += f"; the worst is {ordered[0][0]}" if kind == "group" else ""
    rows = [[part, f"{accuracy:.4f}"] for part, accuracy in ordered[:SHOWN_PARTS]]
    show_table(f"Accuracy by {kind} on {name}{more}", [kind, "accuracy"], rows)
