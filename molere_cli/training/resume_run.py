"""A run that goes on where it stopped, from its last checkpoint; with more epochs, also a finished one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from molere_cli.config.config_file import saved_config, validate_config
from molere_cli.config.plan import make_plan
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.engine.checkpoint import load_average, load_state, load_trained
from molere_cli.foundation.errors import ConfigError, RunError
from molere_cli.foundation.progress import Progress
from molere_cli.registry.registry import Registry
from molere_cli.runs.checkpoint_exchange import CHECKPOINTS
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.build_engine import Engine, engine_on_split
from molere_cli.training.checkpoint_writer import digest_of_records
from molere_cli.training.model_selection import Selection
from molere_cli.training.process_group import check_shares, joined_ranks
from molere_cli.training.run_identity import (
    check_fingerprint,
    check_input,
    check_split,
    check_test_sets,
    checked_split,
    other_machine,
)
from molere_cli.training.train_run import train_to_end


def resume_run(
    path: Path,
    registry: Registry,
    *,
    data: LoadedDataset | None = None,
    epochs: int | None = None,
    checkpoint_every: str | None = None,
    wait: bool = False,
    progress: Progress,
) -> RunDir:
    """Go on with an unfinished run from its last checkpoint; a finished one is returned as it is.

    Args:
        data: the run's dataset, if it has been loaded already.
        epochs: how many it is to have in all: its own number, or more, finished or not.
        checkpoint_every: in place of its own.
        wait: for another process that is training it.

    Raises:
        RunError: `path` is no run, its settings, split, metrics or dataset are not what they were, or another
            process is training it.
        SplitError: its split is none of this dataset.
        ConfigError: it has more than `epochs`.
    """
    run = RunDir(path)
    settings = run.config()  # raises for what is no run
    if run.is_done and epochs in {None, settings["epochs"]}:
        progress.note(f"{path} is finished; nothing to resume")
        return run
    with run.locked(note=progress.note, wait=wait):
        if run.is_done and epochs in {None, run.config()["epochs"]}:
            return run
        given = {"epochs": epochs, "checkpoint_every": checkpoint_every}
        given = {name: value for name, value in given.items() if value is not None}
        return _go_on(run, registry, data, given, progress=progress)


def _go_on(
    run: RunDir,
    registry: Registry,
    data: LoadedDataset | None,
    given: Mapping[str, Any],
    *,
    progress: Progress,
) -> RunDir:
    config = saved_config(run.config(), source=str(run.path / "config.json"))
    had = config.classifier.epochs
    config = validate_config({**config.given, **given})
    epochs = config.classifier.epochs
    check_extension(run, had, epochs)
    plan = make_plan(config, registry, precision=run.environment()["precision"])
    data = data or load_dataset(plan.config.data, registry)
    check_fingerprint(run, data)
    check_test_sets(run, data)
    split = None
    if plan.needs_split:
        split = checked_split(run.split_path, data, note=progress.note)
        check_split(run)
    engine = engine_on_split(plan, data, split, ranks=joined_ranks(), note=progress.note)
    check_shares(engine)
    check_input(run, engine.feed_settings)
    if (sentence := other_machine(run, plan.device)) is not None:
        progress.note(sentence)
    selection = Selection(engine)
    unevaluated, recorded = _load_checkpoint(engine, selection, run, note=progress.note)
    records = _records(run, engine.loop.next_epoch - len(unevaluated), recorded)
    if epochs > had:
        run.extend(epochs)
        progress.note(new_schedule(engine, run, had))
    return train_to_end(engine, run, split, records, unevaluated, selection, progress=progress)


def _load_checkpoint(
    engine: Engine, selection: Selection, run: RunDir, *, note: Callable[[str], None]
) -> tuple[list[dict[str, Any]], str | None]:
    """Put the last checkpoint into the engine.

    Returns:
        The metrics of an epoch that it has and that was not evaluated yet, and the digest of those of the
        epochs before, None in one of a version that kept none.
    """

    Tensors = dict[str, Tensor] | None

    def read(folder: Path) -> tuple[Path, dict[str, Any], Tensors, tuple[Tensors, Tensors]]:
        state = load_state(folder)
        return folder, state, load_trained(engine.classifier.module, folder), load_average(folder)

    run.settle_checkpoint()
    if (found := run.read_checkpoint(read, note=note)) is None:
        return [], None
    folder, state, selected, (average, selected_average) = found
    if folder.name != CHECKPOINTS[0]:
        run.use_old_checkpoint()
    engine.loop.load_state_dict(state, average)
    selection.load_state_dict(state, selected, selected_average)
    return [state["unevaluated"]] if "unevaluated" in state else [], state.get("records")


def _records(run: RunDir, num_epochs: int, recorded: str | None) -> list[dict[str, Any]]:
    """The metrics of the first epochs; a run may have been killed after it wrote those of one more.

    Args:
        recorded: their digest in the checkpoint, None in one of a version that kept none.
    """
    records = run.metrics()[:num_epochs] if num_epochs else []
    if [record.get("epoch") for record in records] != list(range(num_epochs)):
        raise RunError(
            f"{run.path / 'metrics.jsonl'} is damaged: it lacks some of the {num_epochs} epochs that the "
            "checkpoint has; train a new run"
        )
    if recorded not in {None, digest_of_records(records)}:
        raise RunError(
            f"{run.path / 'metrics.jsonl'} is damaged: its first {num_epochs} epochs are not those that the "
            "checkpoint was written with; train a new run"
        )
    return records


def check_extension(run: RunDir, had: int, epochs: int) -> None:
    """Raise ConfigError if a run that was to have `had` epochs is to have fewer."""
    if epochs < had:
        raise ConfigError(f"--epochs {epochs} is less than the {had} of {run.path}; a run only grows")


def new_schedule(engine: Engine, run: RunDir, had: int) -> str:
    """What becomes of the learning rate, in a sentence; the engine has the run's last checkpoint."""
    loop, settings = engine.loop, engine.plan.config.classifier
    before = float(loop.optimizer.param_groups[0]["lr"])
    loop.scheduler.step(loop.next_epoch)
    after = float(loop.optimizer.param_groups[0]["lr"])
    return (
        f"{run.path} was to have {had} epochs and now gets {settings.epochs}: from epoch "
        f"{loop.next_epoch + 1} on the learning rate is what --schedule {settings.schedule} has there in a "
        f"run of {settings.epochs}, {after:.3g} after {before:.3g}, and so with all that goes by the number "
        f"of epochs; `molere compare` keeps it apart from runs that had {settings.epochs} from the start"
    )
