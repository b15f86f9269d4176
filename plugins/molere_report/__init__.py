"""Runs as a page that can be passed on, as charts and as lines of text; hard examples; and the demo."""

from __future__ import annotations

import typer

from molere_cli import hookimpl
from molere_cli.commands import examples


@hookimpl
def register_commands(app: typer.Typer) -> None:
    from molere_report.curves_command import curves
    from molere_report.demo_command import demo
    from molere_report.hardest_command import hardest
    from molere_report.plot_command import plot
    from molere_report.report_command import report

    app.command(epilog=examples("molere report", "molere report runs/* -o report.html"))(report)
    app.command(epilog=examples("molere plot runs/* -o gains.png", "molere plot runs/* -o gains.svg"))(plot)
    app.command(epilog=examples("molere curves runs/*", "molere curves --metrics 'train/*'"))(curves)
    suspects = "molere hardest runs/digits-erm-s0 --suspects --csv suspects.csv"
    app.command(epilog=examples("molere hardest runs/digits-erm-s0", suspects))(hardest)
    app.command(epilog=examples("molere demo", "molere demo --seeds 0-1 --out first-look"))(demo)
