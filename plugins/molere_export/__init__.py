"""A run's classifier for others to load, with a model card, and put on the Hugging Face Hub."""

from __future__ import annotations

import typer

from molere_cli import hookimpl
from molere_cli.commands import examples


@hookimpl
def register_commands(app: typer.Typer) -> None:
    from molere_export.export_command import export

    first = "molere export runs/digits-erm-s0 classifier"
    app.command(epilog=examples(first, f"{first}.onnx --format onnx"))(export)
