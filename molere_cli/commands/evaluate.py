"""`molere eval`: what a run's checkpoint achieves, recomputed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molere_cli.commands.flags import RunsDir

if TYPE_CHECKING:
    from molere_cli.tasks.evaluate import Evaluation

SHOWN_CLASSES = 20


def evaluate(
    run: Annotated[
        Path | None,
        typer.Argument(help="Run directory; default: the newest under --runs.", show_default=False),
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
    runs: RunsDir = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with all classes.")] = False,
) -> None:
    """Evaluate a run from its checkpoint alone."""
    from molere_cli.commands.console import Notes
    from molere_cli.commands.flags import key_values
    from molere_cli.config.paths import comma_separated
    from molere_cli.files import json_text
    from molere_cli.registry.registry import load_plugins
    from molere_cli.tasks.evaluate import evaluate_run

    found = evaluate_run(
        run,
        load_plugins(),
        runs=runs,
        sets=comma_separated(on) if on else None,
        dataset=dataset,
        dataset_option=key_values("dataset_option", dataset_option or []),
        note=Notes().note,
    )
    for remark in found.remarks:
        typer.echo(f"note: {remark}", err=True)
    if as_json:
        typer.echo(json_text(found.as_json(), indent=2))
    else:
        print_evaluation(found)


def print_evaluation(found: Evaluation) -> None:
    """A table of the test sets, and one of the classes (the worst ones, where there are many)."""
    from rich.table import Table

    from molere_cli.commands.console import stdout

    keys = list(dict.fromkeys(key for summary in found.summaries.values() for key in summary))
    table = Table(title=f"{found.label} ({found.run})")
    table.add_column("set")
    table.add_column("images", justify="right")
    for key in keys:
        table.add_column(key.replace("_", " "), justify="right")
    for name, summary in found.summaries.items():
        table.add_row(
            name,
            f"{found.sizes[name]:,}",
            *(f"{summary[key]:.4f}" if key in summary else "-" for key in keys),
        )
    stdout.print(table)
    for name, accuracies in found.by_class.items():
        stdout.print(_class_table(name, accuracies))


def _class_table(name: str, accuracies: dict[str, float]) -> Any:
    from rich.table import Table

    ordered = sorted(accuracies.items(), key=lambda item: item[1])
    shown = ordered[:SHOWN_CLASSES]
    more = f", the lowest {SHOWN_CLASSES} of {len(ordered)}" if len(ordered) > SHOWN_CLASSES else ""
    table = Table("class", title=f"Accuracy by class on {name}{more}")
    table.add_column("accuracy", justify="right")
    for class_name, accuracy in shown:
        table.add_row(class_name, f"{accuracy:.4f}")
    return table
