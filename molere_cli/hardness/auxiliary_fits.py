"""ERM classifiers beside a run: of folds and halves of a pool, for scores and splits."""

from __future__ import annotations

from dataclasses import replace

from molere_cli.config.plan import Plan
from molere_cli.data.source import LoadedDataset
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.method import AuxiliaryFit, TrainingContext
from molere_cli.foundation.progress import Progress
from molere_cli.methods.auxiliary import fit_epochs
from molere_cli.training.build_engine import training_context
from molere_cli.training.process_group import joined_ranks


def fit_context(plan: Plan, data: LoadedDataset) -> TrainingContext:
    """What they are trained from, as an ERM run is planned; by all processes, where there are several."""
    return replace(training_context(plan, data, None), fit_ranks=joined_ranks())


def fitted(context: TrainingContext, fit: AuxiliaryFit, *, title: str, progress: Progress) -> Classifier:
    """Train one to its end."""
    config = context.config
    progress.run_started(title, seed=config.machine.seed, num_epochs=config.classifier.epochs, path=None)
    for trained, metrics in fit_epochs(context, fit):
        classifier = trained
        progress.epoch_ended(metrics)
    progress.run_ended(None)
    return classifier
