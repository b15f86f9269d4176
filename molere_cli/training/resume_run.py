"""A run that goes on where it stopped, from its last checkpoint; with more epochs, also a finished one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from molere_cli.config.config_file import saved_config, validate_config
from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset
from molere_cli.engine.checkpoint import (
    load_average,
    load_state,
    load_trained,
    take_parameters_of_first,
)
from molere_cli.foundation.errors import ConfigError, RunError
from molere_cli.foundation.progress import Progress
from molere_cli.registry.registry import Registry
from molere_cli.runs.checkpoint_exchange import CHECKPOINTS
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.split_file import Split
from molere_cli.training.build_engine import Engine, engine_on_split
from molere_cli.training.checkpoint_writer import digest_of_records
from molere_cli.training.model_selection import ModelSelection
from molere_cli.training.process_group import check_shares, joined_ranks, load_together
from molere_cli.training.run_identity import (
    check_fingerprint,
    check_input,
    check_split,
    check_test_sets,
    checked_split,
    other_machine,
)
from molere_cli.training.told_to_all import same_configs, same_split
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
    run, ranks = RunDir(path), joined_ranks()

    def is_finished() -> bool:
        had = run.config()["epochs"]  # raises for what is no run
        return run.is_done and epochs in {None, had}

    if ranks.decided(is_finished):
        progress.note(f"{path} is finished; nothing to resume")
        return run
    with ranks.first_holds(lambda: run.locked(note=progress.note, wait=wait)):
        if ranks.decided(is_finished):
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
    ranks = joined_ranks()
    (config,) = same_configs(ranks, lambda: [_config(run, given)])
    had, precision = ranks.decided(lambda: (run.config()["epochs"], run.environment()["precision"]))
    plan = make_plan(config, registry, precision=precision)
    data = data or load_together(plan.config.data, registry)
    ranks.decided(lambda: _check_data(run, data))
    split = same_split(ranks, lambda: _split(run, data, note=progress.note)) if plan.needs_split else None
    engine = engine_on_split(plan, data, split, ranks=ranks, note=progress.note)
    check_shares(plan, engine.loop.method, ranks)
    ranks.decided(lambda: check_input(run, engine.feed_settings))
    if (sentence := ranks.decided(lambda: other_machine(run, plan.device))) is not None:
        progress.note(sentence)
    selection = ModelSelection(engine)
    unevaluated, recorded = _load_checkpoint(engine, selection, run, note=progress.note)
    num_epochs = engine.loop.next_epoch - len(unevaluated)
    records = ranks.decided(lambda: _records(run, num_epochs, recorded))
    if (epochs := plan.config.classifier.epochs) > had:
        ranks.decided(lambda: run.extend(epochs))
        progress.note(new_schedule(engine, run, had))
    return train_to_end(engine, run, split, records, unevaluated, selection, progress=progress)


def _config(run: RunDir, given: Mapping[str, Any]) -> RunConfig:
    """The run's, with what is given now."""
    config = saved_config(run.config(), source=str(run.path / "config.json"))
    had = config.classifier.epochs
    config = validate_config({**config.given, **given})
    check_extension(run, had, config.classifier.epochs)
    return config


def _check_data(run: RunDir, data: LoadedDataset) -> None:
    check_fingerprint(run, data)
    check_test_sets(run, data)


def _split(run: RunDir, data: LoadedDataset, *, note: Callable[[str], None]) -> Split:
    split = checked_split(run.split_path, data, note=note)
    check_split(run)
    return split


def _load_checkpoint(
    engine: Engine, selection: ModelSelection, run: RunDir, *, note: Callable[[str], None]
) -> tuple[list[dict[str, Any]], str | None]:
    """Put the last checkpoint into the engine of every rank.

    Returns:
        The metrics of an epoch that it has and that was not evaluated yet, and the digest of those of the
        epochs before, None in one of a version that kept none.
    """

    Tensors = dict[str, Tensor] | None
    module, ranks = engine.classifier.module, engine.loop.ranks

    def read(folder: Path) -> tuple[str, dict[str, Any], Tensors, tuple[Tensors, Tensors]]:
        return folder.name, load_state(folder), load_trained(module, folder), load_average(folder)

    def last() -> tuple[str, dict[str, Any], Tensors, tuple[Tensors, Tensors]] | None:
        run.settle_checkpoint()
        found = run.read_checkpoint(read, note=note)
        if found is not None and found[0] != CHECKPOINTS[0]:
            run.use_old_checkpoint()
        return found

    if (found := ranks.decided(last)) is None:
        return [], None
    _, state, selected, (average, selected_average) = found
    take_parameters_of_first(engine.classifier)
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
