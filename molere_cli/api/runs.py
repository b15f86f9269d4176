"""`molere.train` and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch
from torch import nn

from molere_cli.api.arrays import as_images
from molere_cli.api.data import Data
from molere_cli.api.logger import LOGGER, LoggedProgress
from molere_cli.api.predictions import prepare_predictions
from molere_cli.api.ranking import MadeSplit
from molere_cli.api.run_schedule import make_schedule, run_schedule
from molere_cli.config.from_flags import swept
from molere_cli.config.recipes import Recipe
from molere_cli.data.feed import batches_in_order, make_feed
from molere_cli.foundation.errors import ConfigError, TrainingError
from molere_cli.registry.registry import load_plugins
from molere_cli.registry.specs import Examples, PretrainedInput
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import RunTable
from molere_cli.training.trained_model import load_alone


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a run's classifier says of N images: class_names (C,), probabilities float32 (N, C), and the paths
    of images that were files."""

    class_names: tuple[str, ...]
    probabilities: npt.NDArray[np.float32]
    paths: tuple[str, ...] | None = None

    def __len__(self) -> int:
        return len(self.probabilities)

    @property
    def labels(self) -> npt.NDArray[np.int64]:
        """The likeliest class of each image, (N,)."""
        found: npt.NDArray[np.int64] = self.probabilities.argmax(axis=1)
        return found

    @property
    def classes(self) -> list[str]:
        """The name of the likeliest class of each image."""
        return [self.class_names[label] for label in self.labels]


@dataclass(frozen=True, eq=False)
class TrainedClassifier:
    """A network from (B, 3, H, W) to the logits of its classes, (B, C), and how a picture becomes its input.

    backbone: the name that it was built by.
    """

    network: nn.Module
    backbone: str
    class_names: tuple[str, ...]
    input: PretrainedInput


@dataclass(frozen=True, eq=False)
class Run:
    """A run on disk, finished or not."""

    path: Path

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    @property
    def config(self) -> dict[str, Any]:
        """The settings in effect."""
        return RunDir(self.path).config()

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """One record an epoch."""
        return RunDir(self.path).metrics()

    @property
    def results(self) -> dict[str, Any]:
        """The record of the last epoch, which has the test results: `results["test/accuracy"]`."""
        return self.metrics[-1]

    @property
    def pool(self) -> pa.Table:
        """What a finished run says of every training example: hardness, weight, prediction..."""
        table = RunTable.pool(RunDir(self.path))
        return table.read(table.columns())

    @property
    def predictions(self) -> pa.Table:
        """What a finished run says of every test example."""
        table = RunTable.predictions(RunDir(self.path))
        return table.read(table.columns())

    def classifier(
        self, *, average: bool = False, note: Callable[[str], None] = LOGGER.info
    ) -> TrainedClassifier:
        """The network as the newest checkpoint has it; the dataset is not needed.

        Args:
            average: whether its weights are the moving average of those that trained.
            note: told if the newest checkpoint is damaged, so that the one before it is read.

        Raises:
            RunError: there is no checkpoint, or no average in it.
        """
        plan, classifier, names, settings = load_alone(
            RunDir(self.path), load_plugins(), average=average, note=note
        )
        input = settings.pretrained or PretrainedInput(
            image_size=settings.image_size,
            mean=settings.mean,
            std=settings.std,
            interpolation="bilinear",
            crop_share=1.0,
            crop_mode=settings.crop_mode,
        )
        return TrainedClassifier(classifier.module, plan.config.classifier.backbone, tuple(names), input)

    def predict(self, images: Any) -> Predicted:
        """The probabilities of all classes for new images.

        Args:
            images: as `molere.dataset` takes them; or paths: a file, a folder, a pattern, or several.

        Raises:
            DataError: images that cannot be read or used.
            RunError: there is no checkpoint.
        """
        if isinstance(images, str | Path):
            images = [images]
        if isinstance(images, Sequence) and images and isinstance(images[0], str | Path):
            return self._predict_files([str(image) for image in images])
        registry, run = load_plugins(), RunDir(self.path)
        _plan, classifier, class_names, settings = load_alone(run, registry, note=LOGGER.info)
        pixels = as_images(images, what="images")
        labels = torch.zeros(len(pixels), dtype=torch.int64)
        feed = make_feed(Examples(images=pixels, labels=labels), settings)
        parts = []
        for batch in feed.evaluation(batches_in_order(feed)):
            parts.append(classifier.predict(batch.images).logits.softmax(dim=1).cpu())
        found = torch.cat(parts)
        if not found.isfinite().all():
            raise TrainingError("the classifier gives no finite probabilities: it has diverged")
        return Predicted(tuple(class_names), found.numpy())

    def _predict_files(self, images: Sequence[str]) -> Predicted:
        made = prepare_predictions(self.path, images, load_plugins(), note=LOGGER.info)
        place = {name: number for number, name in enumerate(made.class_names)}
        found = np.zeros((len(made.paths), len(place)), dtype=np.float32)
        for row, prediction in enumerate(made.predictions(top=len(place))):
            found[row, [place[name] for name in prediction.classes]] = prediction.probabilities
        return Predicted(tuple(made.class_names), found, tuple(made.paths))


def train(
    data: Data,
    *,
    methods: str | Sequence[str] = "lrw",
    split: str | Path | MadeSplit | None = None,
    seeds: int | Iterable[int] = 0,
    runs: str | Path = "runs",
    out: str | Path | None = None,
    recipe: Recipe = "auto",
    resume_unfinished: bool = True,
    **settings: Any,
) -> list[Run]:
    """Train every method for every seed, one after the other: `molere train`.

    Args:
        split: for methods that need one; a strategy by name, a split file, or what `Ranking.split` made.
        runs: the folder that gets a directory for each run; out: the directory of the only one.
        resume_unfinished: whether a run that is there with these settings and data is taken, or gone on with.
        settings: all others, as flags have them: `backbone="resnet18", epochs=20, lr=0.1`. Those that have no
            effect with one of several methods are left out there.

    Raises:
        ConfigError, UnknownNameError: a setting that does not exist or has no effect.
        RunError: some of the runs failed; the others are finished and lie in `runs`.
    """
    flags = settings_of(data, settings)
    flags["method"] = methods if isinstance(methods, str) else ",".join(methods)
    if split is not None:
        flags["split"] = str(split.path if isinstance(split, MadeSplit) else split)
    schedule = make_schedule(
        swept(None, flags, data.registry, recipe=recipe, note=LOGGER.info),
        data.registry,
        seeds=[seeds] if isinstance(seeds, int) else list(seeds),
        runs=Path(runs),
        out=None if out is None else Path(out),
    )
    found = run_schedule(
        schedule, resume_unfinished=resume_unfinished, data=data.loaded, progress=LoggedProgress()
    )
    found.check()
    return [Run(run.path) for run in found.finished]


def settings_of(data: Data, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the data with others beside them.

    Raises:
        ConfigError: one that the data have settled.
    """
    if settled := sorted(set(settings) & (set(data.settings) | {"method", "split", "seed"})):
        raise ConfigError(f"{settled[0]} is settled by data, methods, split or seeds; leave it out")
    return {**data.settings, **settings}


def open_runs(paths: str | Path | Iterable[str | Path]) -> Iterator[Run]:
    """The runs at some paths."""
    for path in [paths] if isinstance(paths, str | Path) else paths:
        yield Run(Path(path))
