"""`molere demo`: the whole story in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molere_cli.commands.flags import Quiet


def demo(
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds of every row: 0-4 or 0,2,7.")] = "0-4",
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the runs and the chart; a number is added if it exists.")
    ] = Path("runs/demo"),
    quiet: Quiet = False,
) -> None:
    """Tell the whole story on colour-digits."""
    from rich.progress import track

    from molere_cli.commands.console import stderr
    from molere_cli.files import claim_name, make_folder, writing
    from molere_cli.report import render
    from molere_cli.tasks.compare import compare
    from molere_cli.tasks.demo import demo_commands, demo_runs, num_demo_runs
    from molere_cli.tasks.seeds import parse_seeds

    numbers = parse_seeds(seeds)
    make_folder(out.parent)
    with writing(out):
        folder = claim_name(out, Path.mkdir, numbered=True)
    if not quiet:
        stderr.print("The runs are those of:", highlight=False)
        for command in demo_commands(seeds):
            stderr.print(f"  {command}", highlight=False, soft_wrap=True)
    finished = track(
        demo_runs(numbers, runs=folder),
        total=num_demo_runs(numbers),
        description="training",
        console=stderr,
        disable=quiet,
    )
    chart = folder / "gains.png"
    typer.echo(render(compare(list(finished), runs=folder, plot=chart), "table"))
    typer.echo(f"{chart}  the chart; the table again: molere compare {folder}/*")
