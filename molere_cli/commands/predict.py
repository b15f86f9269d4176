"""`molere predict`: what a run's classifier says of new pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molere_cli.commands.completion import run_directories
from molere_cli.commands.flags import Average, Quiet
from molere_cli.commands.output import say, show, show_table

MOST_SHOWN = 100


def predict(
    run: Annotated[
        Path, typer.Argument(metavar="RUN", help="Run directory.", autocompletion=run_directories)
    ],
    images: Annotated[
        list[str],
        typer.Argument(metavar="IMAGES...", help="Pictures: files, folders with all below them, patterns."),
    ],
    csv: Annotated[
        Path | None,
        typer.Option("--csv", help="Write path, prediction, probability into this file.", show_default=False),
    ] = None,
    top: Annotated[
        int, typer.Option("--top", help="The likeliest classes of each picture.", min=1, max=100_000)
    ] = 1,
    ema: Average = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    quiet: Quiet = False,
) -> None:
    """Predict the classes of new pictures."""
    from molere_cli.api.predictions import prepare_predictions, write_predictions_csv
    from molere_cli.commands.console import Notes, watched
    from molere_cli.foundation.files import json_text
    from molere_cli.registry.registry import load_plugins

    prepared = prepare_predictions(run, images, load_plugins(), average=ema, note=Notes().note)
    for remark in prepared.remarks:
        say(f"note: {remark}", err=True)
    top = min(top, len(prepared.class_names))
    found = watched(prepared.predictions(top=top), total=len(prepared.paths), doing="predicting", quiet=quiet)
    if csv is not None:
        written = write_predictions_csv(found, csv, top=top)
        say(f"wrote {written:,} predictions into {csv}", err=True)
        return
    predictions = list(found)
    if as_json:
        show(json_text([prediction.as_json() for prediction in predictions], indent=2))
        return
    rows = [
        [
            prediction.path,
            *(
                f"{name} {probability:.4f}"
                for name, probability in zip(prediction.classes, prediction.probabilities, strict=True)
            ),
        ]
        for prediction in predictions[:MOST_SHOWN]
    ]
    headings = ["picture", "prediction", *(f"{rank}." for rank in range(2, top + 1))]
    show_table(f"Predictions of {run}", headings, rows, num_texts=len(headings))
    if len(predictions) > MOST_SHOWN:
        say(f"and {len(predictions) - MOST_SHOWN:,} more; --csv FILE takes them all", err=True)
