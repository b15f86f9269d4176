"""`molere demo`: the whole story in a few minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from molere_cli.commands import Quiet, say, show, stdout_encoding, stdout_width


def demo(
    seeds: Annotated[str, typer.Option("--seeds", help="Seeds of every row: 0-4 or 0,2,7.")] = "0-4",
    epochs: Annotated[
        int | None,
        typer.Option(
            "--epochs",
            min=1,
            help="Of every run, in place of the default; few show how it goes, not the gains.",
        ),
    ] = None,
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the runs and the report; a number is added if it exists.")
    ] = Path("runs/demo"),
    quiet: Quiet = False,
) -> None:
    """Tell the whole story on colour-digits."""
    from rich.progress import track

    from molere_cli.commands import claim_name, make_folder, parse_seeds, stderr, writing
    from molere_cli.report import compare_runs, render
    from molere_report.demo_study import demo_commands, demo_runs, num_demo_runs
    from molere_report.drawing import missing_extra
    from molere_report.report_page import report

    numbers = parse_seeds(seeds)
    make_folder(out.parent)
    with writing(out):
        folder = claim_name(out, Path.mkdir, numbered=True)
    if not quiet:
        say("The runs are those of:", err=True)
        for command in demo_commands(seeds, epochs=epochs):
            say(f"  {command}", err=True)
    finished = track(
        demo_runs(numbers, runs=folder, epochs=epochs),
        total=num_demo_runs(numbers),
        description="training",
        console=stderr,
        disable=quiet,
    )
    compared = compare_runs(list(finished))
    show(render(compared, width=stdout_width(), encoding=stdout_encoding()))
    say(f"the table again: molere compare --runs {folder}")
    again = f"molere report --runs {folder} -o {folder / 'report.html'}"
    if missing := missing_extra():
        say(f"a page needs {' and '.join(missing)}: pip install 'molere[report]', then {again}")
    else:
        paths = sorted(run.path for result in compared.results for run in result.row.runs.values())
        report(paths, runs=folder, out=folder / "report.html", command=again)
        say(f"{folder / 'report.html'}  the page; the page again: {again}")
