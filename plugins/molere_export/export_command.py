"""`molere export`: a run's classifier for others to load."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from molere_cli import ConfigError
from molere_cli.commands import Average, run_directories, say


def export(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="Run directory of a finished run.", autocompletion=run_directories
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to make.")],
    format: Annotated[
        Literal["timm", "onnx", "torch-export"],
        typer.Option(
            "--format",
            help="timm: model.safetensors and the config.json that timm reads; onnx: model.onnx; "
            "torch-export: model.pt2.",
        ),
    ] = "timm",
    ema: Average = False,
    push: Annotated[
        str | None,
        typer.Option(
            "--push",
            metavar="ORG/NAME",
            help="Then upload it to this repository of the Hugging Face Hub, made where it is not.",
            show_default=False,
        ),
    ] = None,
    private: Annotated[
        bool, typer.Option("--private", help="Of a repository that --push makes: for its owner alone.")
    ] = False,
) -> None:
    """Export a run's classifier, checked against its checkpoint, with a model card."""
    from molere_cli.commands import Notes
    from molere_export.hub_upload import check_repository, push_folder
    from molere_export.weight_export import export_run

    if push is not None:
        check_repository(push)
    elif private:
        raise ConfigError("--private goes with --push")
    for path in export_run(run, folder, format=format, average=ema, note=Notes().note):
        say(str(path))
    if push is not None:
        say(push_folder(folder, push, private=private))
