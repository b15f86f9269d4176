"""One run: a plan and a split in, a run directory out."""

from __future__ import annotations

from contextlib import AbstractContextManager, closing
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from molere_cli.config.plan import Plan
from molere_cli.data.source import LoadedDataset
from molere_cli.engine.average import AVERAGE_SUFFIX
from molere_cli.engine.checkpoint import take_parameters_of_first
from molere_cli.engine.loop import TrainingLoop
from molere_cli.engine.prediction import predict_feed, predict_sets
from molere_cli.engine.prediction_metrics import Predictions, group_accuracies, summarize
from molere_cli.foundation.locks import heartbeat
from molere_cli.foundation.progress import Progress
from molere_cli.foundation.stopping import Stopped, stop_if_asked
from molere_cli.runs.begin_run import new_run
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.split_file import Split, read_split, write_split
from molere_cli.training.build_engine import Engine, engine_on_split
from molere_cli.training.checkpoint_writer import Checkpoints, stopping_well
from molere_cli.training.model_selection import ModelSelection
from molere_cli.training.process_group import check_shares, joined_ranks
from molere_cli.training.run_environment import describe_environment, describe_gpu, describe_input
from molere_cli.training.run_outputs import (
    learned_split,
    split_provenance,
    write_pool_results,
    write_run_thumbnails,
    write_test_results,
)
from molere_cli.training.training_health import collapse_of, harm_of


def train_run(
    plan: Plan,
    data: LoadedDataset,
    split: Split | None,
    path: Path,
    *,
    numbered: bool = False,
    like: RunDir | None = None,
    progress: Progress,
) -> RunDir:
    """Train as planned and write a new run directory.

    Args:
        numbered: whether `path` gets a number if it is taken.
        like: a run of the same settings that could be taken or gone on with instead, which the user is told.

    Raises:
        RunError: `path` is taken.
    """
    ranks = joined_ranks()
    engine = engine_on_split(plan, data, split, ranks=ranks, note=progress.note)
    check_shares(engine.plan, engine.loop.method, ranks)
    take_parameters_of_first(engine.classifier)
    if engine.trains_as_erm is not None:
        progress.note(f"no weight is learned in this run, it trains as ERM: {engine.trains_as_erm}")

    def new() -> AbstractContextManager[RunDir]:
        begin = partial(_write_beginning, engine.plan.settings, _environment(engine, split), split)
        return new_run(path, begin, numbered=numbered, note=progress.note)

    with ranks.first_holds(new) as own:
        run = own or RunDir(path)  # elsewhere a name alone
        if like is not None:
            state, instead = ("finished", "take") if like.is_done else ("unfinished", "go on with")
            progress.note(
                f"{like.path} has these very settings and is {state}; {run.path} starts anew, while "
                f"--resume-unfinished would {instead} it"
            )
        return train_to_end(engine, run, split, [], [], ModelSelection(engine), progress=progress)


def _environment(engine: Engine, split: Split | None) -> dict[str, Any]:
    plan, data = engine.plan, engine.data
    return {
        **describe_environment(),
        "device": str(plan.device),
        "gpu": describe_gpu(plan.device),
        "precision": plan.precision,
        "fingerprint": data.fingerprint,
        "test_fingerprints": data.test_fingerprints(),
        "num_pool": len(data.dataset.pool),
        "num_mislabelled": data.num_mislabelled,
        "class_names": list(data.dataset.class_names),
        "group_names": list(data.dataset.group_names),
        "input": describe_input(engine.feed_settings),
        "data": data.summary.as_json(),
        "label": plan.label(split.info.strategy if split else None),
        "split": split_provenance(split.info) if split else None,
    }


def _write_beginning(
    settings: dict[str, Any], environment: dict[str, Any], split: Split | None, run: RunDir
) -> None:
    if split is not None:
        write_split(split, run.split_path)
    run.write_beginning(settings, environment)


def train_to_end(
    engine: Engine,
    run: RunDir,
    split: Split | None,
    records: list[dict[str, Any]],
    unevaluated: list[dict[str, Any]],
    selection: ModelSelection,
    *,
    progress: Progress,
) -> RunDir:
    """Train to the end; of several ranks the first one alone reads and writes `run`.

    Args:
        records, unevaluated: the metrics of the epochs so far; those of the last one may still lack what its
            evaluation says.
    """
    config, ranks = engine.plan.config, engine.loop.ranks
    label = ranks.decided(lambda: run.environment()["label"])
    progress.data_taken(engine.data.summary.line(), engine.data.summary.remarks())
    checkpoints, warned = Checkpoints(engine, run, records, selection), set[str]()
    on_step = partial(_report_step, engine.loop, checkpoints, progress) if ranks.is_first else None
    with stopping_well(run), closing(engine.loop.epochs(on_step)) as epochs:
        num_epochs = config.classifier.epochs
        progress.run_started(label, seed=config.machine.seed, num_epochs=num_epochs, path=run.path)
        # A run that was stopped between its last checkpoint and its end has no epoch left.
        going = () if selection.has_stopped and not unevaluated else chain(unevaluated, epochs)
        for trained in going:
            metrics = _recorded(engine, run, split, trained, checkpoints, selection)
            ranks.decided(checkpoints.write)
            progress.epoch_ended(metrics)
            for kind, warning in {
                "collapse": collapse_of(metrics, is_last=engine.loop.next_epoch == num_epochs),
                "harm": harm_of(checkpoints.records),
            }.items():
                if warning is not None and kind not in warned:
                    progress.note(warning)
                    warned.add(kind)
            if selection.has_stopped:
                break
        if selection.has_stopped:
            progress.note(selection.why_stopped())
        ranks.decided(run.mark_done)
    progress.run_ended(run.path)
    return run


def _recorded(
    engine: Engine,
    run: RunDir,
    split: Split | None,
    trained: dict[str, Any],
    checkpoints: Checkpoints,
    selection: ModelSelection,
) -> dict[str, Any]:
    """The metrics of an epoch with its evaluation, if one is due, written; after the last, all results."""
    machine, epoch = engine.plan.config.machine, engine.loop.next_epoch
    try:
        stop_if_asked()
        metrics = {**trained, **selection.look(epoch - 1)}
        if epoch == engine.plan.config.classifier.epochs or selection.has_stopped:
            with selection.in_place() as found:
                metrics |= found | _evaluate(engine, run, write=True)
                _write_results(engine, run, has_split=split is not None)
        elif machine.eval_interval and epoch % machine.eval_interval == 0:
            metrics |= _evaluate(engine, run, write=False)
    except Stopped:
        checkpoints.write(unevaluated=trained)
        raise
    checkpoints.records.append(metrics)
    engine.loop.ranks.decided(lambda: run.write_metrics(checkpoints.records))
    return metrics


def _report_step(
    loop: TrainingLoop, checkpoints: Checkpoints, progress: Progress, step: int, num_steps: int, loss: float
) -> None:
    heartbeat()
    progress.step_taken(epoch=loop.next_epoch, step=step, num_steps=num_steps, loss=loss)
    checkpoints.step_taken()


def _evaluate(engine: Engine, run: RunDir, *, write: bool) -> dict[str, float]:
    sets = engine.data.test_sets()
    found = predict_tests(engine)
    if (average := engine.loop.average) is not None:
        with average.in_place(engine.classifier.module):
            of_average = predict_tests(engine)
        found |= {f"{name}{AVERAGE_SUFFIX}": predictions for name, predictions in of_average.items()}
        sets |= {f"{name}{AVERAGE_SUFFIX}": sets[name] for name in of_average}
    if write:
        engine.loop.ranks.decided(lambda: write_test_results(found, sets, run.predictions_path))
    return {
        f"{name}/{key}": value
        for name, predictions in found.items()
        for key, value in {**summarize(predictions), **_by_group(predictions)}.items()
    }


def predict_tests(engine: Engine) -> dict[str, Predictions]:
    """On its test sets, the tuning set among them, by its classifier as it is now; all ranks together."""
    ranks, sets = engine.loop.ranks, engine.data.test_sets()
    return predict_sets(engine.classifier, sets, engine.feed_settings, ranks=ranks)


def _by_group(predictions: Predictions) -> dict[str, float]:
    # By number, as all metrics of groups are; `environment.json` has the names.
    if predictions.groups is None:
        return {}
    return {f"group_accuracy_{group}": accuracy for group, accuracy in group_accuracies(predictions).items()}


def _write_results(engine: Engine, run: RunDir, *, has_split: bool) -> None:
    ranks = engine.loop.ranks
    pool = predict_feed(engine.classifier, engine.feed, ranks=ranks)
    ranks.decided(lambda: _write_pool(engine, run, pool, has_split=has_split))


def _write_pool(engine: Engine, run: RunDir, pool: Predictions, *, has_split: bool) -> None:
    in_validation = engine.loop.method.in_validation()
    held_out = None
    if has_split:
        split = read_split(run.split_path)
        held_out = split.aligned(engine.data.pool_indices, source=str(run.split_path)).held_out
    elif in_validation is not None:
        write_split(learned_split(engine, in_validation), run.split_path)
    write_pool_results(engine, pool, in_validation, held_out, run.pool_path)
    if engine.plan.config.machine.thumbnails:
        write_run_thumbnails(run, engine.data.dataset.pool, engine.data.test_sets())
