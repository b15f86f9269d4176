"""`molere cache`: what is kept between commands, and how much room it takes."""

from __future__ import annotations

from typing import Annotated

import typer

from molere_cli.commands.output import say, show, show_table


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Delete all of it.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the features that frozen backbones have left behind, or delete them."""
    from molere_cli.engine.feature_store import cache_folder, delete, stored_features
    from molere_cli.foundation.files import json_text

    found = list(stored_features())
    if clear:
        for stored in found:
            delete(stored)
    total = sum(stored.num_bytes for stored in found)
    if as_json:
        show(json_text([stored.as_json() for stored in found], indent=2))
        return
    if found and not clear:
        headings = ("backbone", "input", "images", "MiB", "folder")
        rows = [
            (
                stored.backbone,
                stored.input,
                f"{stored.num_images:,}",
                _mebibytes(stored.num_bytes),
                stored.path.name,
            )
            for stored in found
        ]
        show_table("", headings, rows, num_texts=2)
    what = "deleted" if clear else "kept"
    say(f"{_mebibytes(total)} MiB of features {what} in {cache_folder()}")


def _mebibytes(number: int) -> str:
    return f"{number / 2**20:,.1f}"
