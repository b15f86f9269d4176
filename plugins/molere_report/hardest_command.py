"""`molere hardest`: the hardest examples of a run's pool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from molere_cli import ConfigError
from molere_cli.commands import json_text, run_directories, say, show, show_table


def hardest(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Run directory of a finished run.", autocompletion=run_directories
        ),
    ],
    top: Annotated[int, typer.Option("--top", help="How many.", min=1, max=10_000_000)] = 20,
    class_name: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Of this class alone.", show_default=False)
    ] = None,
    score: Annotated[
        Literal["aum", "early-aum", "margin", "loss", "el2n", "forgetting"] | None,
        typer.Option("--score", help="By which score that the run has recorded.", show_default="aum"),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", help="Write them into this file.", show_default=False)
    ] = None,
    suspects: Annotated[
        bool,
        typer.Option("--suspects", help="Those whose label looks wrong instead; the CSV is as cleanlab's."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the hardest examples of a run's pool, with path, label, prediction and score."""
    from molere_report.hard_examples import hardest_examples, write_hardest_csv

    if suspects:
        if score is not None or class_name is not None:
            raise ConfigError(
                "--suspects has a score of its own, over all classes; leave --score and --class out"
            )
        _show_suspects(run, top=top, csv=csv, as_json=as_json)
        return
    score = score or "aum"
    found = hardest_examples(run, score=score, top=top, class_name=class_name)
    if csv is not None:
        write_hardest_csv(found, csv)
        say(f"wrote {len(found):,} examples into {csv}", err=True)
        return
    if as_json:
        show(json_text([example.as_json() for example in found], indent=2))
        return
    noisy = any(example.clean_label is not None for example in found)
    headings = ["image", "label", "prediction", *(["clean label"] if noisy else []), score, "weight"]
    rows = [
        [
            example.path or f"{example.index}",
            example.label,
            f"{example.prediction} {example.probability:.4f}",
            *([example.clean_label or "-"] if noisy else []),
            f"{example.score:.4f}",
            "-" if example.weight is None else f"{example.weight:.3f}",
        ]
        for example in found
    ]
    of = "" if class_name is None else f" of class {class_name}"
    show_table(f"The hardest{of} in the pool of {run}", headings, rows, num_texts=4 if noisy else 3)


def _show_suspects(run: Path, *, top: int, csv: Path | None, as_json: bool) -> None:
    from molere_cli.commands import write_text
    from molere_report.hard_examples import suspects
    from molere_report.suspects import suspects_csv

    found = suspects(run)
    examples = found.examples[:top]
    if csv is not None:
        write_text(csv, suspects_csv(examples))
        say(f"wrote {len(examples):,} of {len(found.examples):,} suspects into {csv}", err=True)
        return
    if as_json:
        show(json_text([example.row() for example in examples], indent=2))
        return
    headings = ["image", "given label", "predicted label", "label score", "early AUM", "weight"]
    rows = [
        [
            example.path or f"{example.index}",
            example.given_label,
            example.predicted_label,
            f"{example.label_score:.4f}",
            f"{example.early_aum:.4f}",
            "-" if example.weight is None else f"{example.weight:.3f}",
        ]
        for example in examples
    ]
    title = f"{len(found.examples):,} of {found.num_pool:,} labels in the pool of {run} look wrong"
    show_table(f"{title} ({found.evidence})", headings, rows, num_texts=3)
