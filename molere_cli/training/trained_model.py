"""A run's classifier from its directory: with the dataset it was trained on, or alone."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from molere_cli.config.config_file import saved_config
from molere_cli.config.plan import Plan, make_plan
from molere_cli.data.feed import FeedSettings
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.engine.checkpoint import load_averaged, load_classifier
from molere_cli.engine.classifier import Classifier
from molere_cli.foundation.errors import RunError
from molere_cli.foundation.locks import Note
from molere_cli.registry.registry import Registry
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.build_engine import make_empty_classifier
from molere_cli.training.frozen_features import with_features
from molere_cli.training.input_preprocessing import feed_settings, recorded_settings
from molere_cli.training.run_identity import check_fingerprint


def load_for_evaluation(
    run: RunDir, registry: Registry, *, average: bool = False, note: Note = lambda _message: None
) -> tuple[Plan, LoadedDataset, Classifier, FeedSettings]:
    """A run's classifier from its checkpoint alone, with the dataset it was trained on.

    Args:
        average: whether its weights are the moving average of those that trained.

    Raises:
        RunError: no checkpoint, no average in it, or settings or dataset have changed.
    """
    plan = plan_of(run, registry)
    data = load_dataset(plan.config.data, registry, purpose="test")
    check_fingerprint(run, data)
    settings = _settings_of(run, plan) or feed_settings(plan, data)
    classifier = make_empty_classifier(plan, data.num_classes, settings.image_size)
    run.read_checkpoint(partial(load_averaged if average else load_classifier, classifier.module), note=note)
    return plan, data, classifier, with_features(plan, classifier, settings, note=note)


def plan_of(run: RunDir, registry: Registry) -> Plan:
    """The plan of a run that has a checkpoint.

    Raises:
        RunError: it has none, or its settings have changed.
    """
    config = saved_config(run.config(), source=str(run.path / "config.json"))
    if run.checkpoint() is None:
        raise RunError(f"{run.path} has no checkpoint yet; go on with `molere train --resume {run.path}`")
    return make_plan(config, registry, precision=run.environment()["precision"])


def load_alone(
    run: RunDir, registry: Registry, *, average: bool = False, note: Note = lambda _message: None
) -> tuple[Plan, Classifier, Sequence[str], FeedSettings]:
    """A run's classifier from its checkpoint, the names of its classes, and how images become its input.

    Its dataset is not needed, but for runs of versions that did not record how images are read.

    Args:
        average: whether its weights are the moving average of those that trained.

    Raises:
        RunError: no checkpoint, no average in it, or settings have changed.
    """
    environment = run.environment()
    plan = plan_of(run, registry)
    if (settings := _settings_of(run, plan)) is None:
        plan, data, classifier, settings = load_for_evaluation(run, registry, average=average, note=note)
        return plan, classifier, data.dataset.class_names, settings
    class_names = environment["class_names"]
    classifier = make_empty_classifier(plan, len(class_names), settings.image_size)
    run.read_checkpoint(partial(load_averaged if average else load_classifier, classifier.module), note=note)
    return plan, classifier, class_names, with_features(plan, classifier, settings, note=note)


def _settings_of(run: RunDir, plan: Plan) -> FeedSettings | None:
    """As the run recorded them; None for one of a version that did not."""
    recorded = run.environment().get("input")
    if recorded is None:
        return None
    return recorded_settings(recorded, device=plan.device, workers=plan.config.data.workers)
