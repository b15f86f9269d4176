"""What a run's classifier says of pictures that belong to no dataset."""

from __future__ import annotations

import csv
import glob
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from molere_cli.data.dataset_summary import HOW_TAKEN
from molere_cli.data.feed import FeedSettings, batches_in_order, make_feed
from molere_cli.data.folder_reader import FolderReader
from molere_cli.data.inspection import inspect_images
from molere_cli.data.walk import Walk
from molere_cli.engine.classifier import Classifier
from molere_cli.foundation.errors import DataError, TrainingError
from molere_cli.foundation.files import replacing
from molere_cli.foundation.locks import Note
from molere_cli.foundation.stopping import stop_if_asked
from molere_cli.registry.registry import Registry
from molere_cli.registry.specs import Examples
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.trained_model import load_alone


@dataclass(frozen=True)
class Prediction:
    """The likeliest classes of a picture with their probabilities, the likeliest first."""

    path: str
    classes: list[str]
    probabilities: list[float]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        likeliest = zip(self.classes, self.probabilities, strict=True)
        return {
            "path": self.path,
            "predictions": [{"class": name, "probability": value} for name, value in likeliest],
        }


@dataclass(frozen=True, eq=False)
class Predicting:
    """Pictures and who is to say what they are.

    remarks: what a user should know of how the pictures were taken.
    """

    classifier: Classifier
    class_names: Sequence[str]
    settings: FeedSettings
    paths: Sequence[str]
    remarks: Sequence[str]

    def predictions(self, *, top: int) -> Iterator[Prediction]:
        """One for each path, in order, as the pictures are decoded; `top` classes each, or all there are.

        Raises:
            DataError: a picture cannot be read; most are found when the pictures are taken.
            TrainingError: the classifier has diverged, and gives no probabilities.
        """
        reader = FolderReader(Path(), list(self.paths))
        feed = make_feed(
            Examples(images=reader, labels=torch.zeros(len(reader), dtype=torch.int64)), self.settings
        )
        for batch in feed.evaluation(batches_in_order(feed)):
            probabilities_BC = self.classifier.predict(batch.images).logits.softmax(dim=1).cpu()
            if not probabilities_BC.isfinite().all():
                raise TrainingError("the classifier gives no finite probabilities: it has diverged")
            values, classes = probabilities_BC.topk(min(top, len(self.class_names)), dim=1)
            for position, likely, of in zip(
                batch.positions.tolist(), values.tolist(), classes.tolist(), strict=True
            ):
                yield Prediction(self.paths[position], [self.class_names[c] for c in of], likely)
            stop_if_asked()


def prepare_predictions(
    run: Path,
    images: Sequence[str],
    registry: Registry,
    *,
    average: bool = False,
    note: Note = lambda _message: None,
) -> Predicting:
    """A run's classifier, and the pictures at `images`: files, folders with all below them, and patterns.

    The run's dataset is not needed, but for runs of versions that did not record how images are read.

    Args:
        average: whether its weights are the moving average of those that trained.

    Raises:
        RunError: no run, no checkpoint, or no average in it.
        DataError: a path leads to nothing, or pictures cannot be read; all of them are named.
    """
    walk = Walk()
    paths = pictures_at(images, walk)
    converted = inspect_images(
        {"images": Examples(images=FolderReader(Path(), paths), labels=torch.zeros(len(paths)))}, whole=False
    )
    _, classifier, class_names, settings = load_alone(RunDir(run), registry, average=average, note=note)
    skipped = ", ".join(f"{why} {number:,}" for why, number in walk.skipped.items())
    remarks = [f"skipped: {skipped}"] if skipped else []
    remarks += [f"{number:,} {HOW_TAKEN.get(what, what)}" for what, number in converted.items()]
    return Predicting(classifier, class_names, settings, paths, remarks)


def pictures_at(images: Sequence[str], walk: Walk) -> list[str]:
    """The pictures of files, folders and patterns in the order given, each once; a folder's by name.

    Raises:
        DataError: a path or pattern leads to nothing, or a folder has no picture.
    """
    found: dict[str, None] = {}
    for image in images:
        path = Path(image).expanduser()
        if path.is_dir():
            pictures = walk.pictures(path, of="pictures")
        elif path.exists():
            pictures = [str(path)]
        else:
            matches = sorted(glob.glob(str(path), recursive=True))
            pictures = [name for name in matches if Path(name).is_file()]
        if not pictures and not any(name.startswith(f"{path}/") for name in found):
            raise DataError(
                f"there is no picture at {image}; give files, folders or patterns such as 'new/*.jpg'"
            )
        found |= dict.fromkeys(pictures)
    return list(found)


def write_predictions_csv(predictions: Iterable[Prediction], path: Path, *, top: int) -> int:
    """A row a picture, `path,prediction,probability`, and for `top` above 1 `prediction_2,probability_2` and
    so on; how many there were.

    Raises:
        WriteError: the system refuses.
    """
    numbers = ["", *(f"_{rank}" for rank in range(2, top + 1))]
    header = ["path", *(f"{name}{number}" for number in numbers for name in ("prediction", "probability"))]
    written = 0
    # Names of files need not be UTF-8.
    with (
        replacing(path) as temporary,
        open(temporary, "w", newline="", encoding="utf-8", errors="surrogateescape") as file,
    ):
        writer = csv.writer(file)
        writer.writerow(header)
        for prediction in predictions:
            pairs = zip(prediction.classes, prediction.probabilities, strict=True)
            cells = [cell for name, value in pairs for cell in (name, f"{value:.6g}")]
            writer.writerow([prediction.path, *cells, *[""] * (len(header) - 1 - len(cells))])
            written += 1
    return written
