"""`molere split`: rank the pool and choose its validation set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from molere_cli.commands.completion import run_directories, splits
from molere_cli.commands.flags import ConfigFile, Quiet, RunsDir, with_config_flags
from molere_cli.commands.output import say, show, show_table
from molere_cli.config.sections import ClassifierSettings, DataSettings, MachineSettings, SplitSettings

if TYPE_CHECKING:
    from molere_cli.api.new_split import NewSplit
    from molere_cli.splits.summary import SplitSide

SECTIONS_OF_A_SPLIT = (DataSettings, ClassifierSettings, SplitSettings, MachineSettings)


@with_config_flags(SECTIONS_OF_A_SPLIT, without=("split", "train_on", "eval_interval"))
def split(
    *,
    flags: dict[str, Any],
    strategy: Annotated[
        str,
        typer.Option(
            "--split",
            "--strategy",
            help="Split strategy: NAME or NAME:ARGUMENT.",
            autocompletion=splits,
        ),
    ] = "hard",
    erm: Annotated[
        Path | None,
        typer.Option(
            "--erm",
            help="Take scores, dataset and settings from this ERM run; without one, it is found or trained.",
            show_default=False,
            autocompletion=run_directories,
        ),
    ] = None,
    config: ConfigFile = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Where the split goes; default: under splits/.", show_default=False),
    ] = None,
    runs: RunsDir = Path("runs"),
    as_json: Annotated[
        bool, typer.Option("--json", help="Print path, counts and mean scores as JSON.")
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Rank the pool and write a split file."""
    from molere_cli.api.new_split import new_split_file
    from molere_cli.commands.console import progress_display
    from molere_cli.config.from_flags import configured_split
    from molere_cli.foundation.files import json_text
    from molere_cli.registry.registry import load_plugins
    from molere_cli.splits.summary import summarize_whole
    from molere_cli.training.process_group import joined_ranks
    from molere_cli.training.told_to_all import same_configs

    registry = load_plugins()
    (settings,) = same_configs(
        joined_ranks(), lambda: [configured_split(config, {**flags, "split": strategy}, registry)]
    )
    with progress_display(quiet=quiet) as progress:
        made = new_split_file(settings, registry, erm=erm, out=out, runs=runs, progress=progress)
        parts = split_parts(made)
        if not quiet and not as_json:
            for kind, of_it in parts.items():
                end = [summarize_whole(made.split)] if kind == "class" else []
                _show_parts(kind, made.split.info.score_name, [*of_it, *end])
    if as_json:
        show(json_text(_as_json(made, parts), indent=2))
        return
    say(str(made.path))


def split_parts(made: NewSplit) -> dict[str, list[SplitSide]]:
    """Counts and mean scores by class and, where known, by group and by whether the label is right."""
    from molere_cli.splits.summary import summarize_by

    split, dataset = made.split, made.data.dataset
    found = {"class": summarize_by(split, split.labels, dataset.class_names)}
    if dataset.pool.groups is not None:
        found["group"] = summarize_by(split, dataset.pool.groups, dataset.group_names)
    clean = dataset.pool.clean_labels
    if clean is not None:
        kind_N = (dataset.pool.labels != clean).long()
        found["label"] = summarize_by(split, kind_N, ("rightly labelled", "mislabelled"))
    return found


def _as_json(made: NewSplit, parts: Mapping[str, Sequence[SplitSide]]) -> dict[str, Any]:
    info, in_validation = made.split.info, made.split.in_validation
    return {
        "path": str(made.path),
        "strategy": info.strategy,
        "delta": info.delta,
        "score": info.score_name,
        "num_train": int((~in_validation).sum()),
        "num_val": int(in_validation.sum()),
        **{f"by_{kind}": [vars(part) for part in of_it] for kind, of_it in parts.items()},
    }


def _show_parts(kind: str, score: str | None, parts: Sequence[SplitSide]) -> None:
    headings, rows = [kind, "train", "val", "val %"], []
    if score:
        headings += [f"{score}, train", f"{score}, val"]
    for part in parts:
        share = 100 * part.num_val / max(1, part.num_train + part.num_val)
        scores = [_score(part.train_score), _score(part.val_score)] if score else []
        rows.append([part.name, str(part.num_train), str(part.num_val), f"{share:.1f}", *scores])
    show_table(f"Split by {kind}", headings, rows)


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
