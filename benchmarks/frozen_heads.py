"""Methods on the features of a frozen backbone, on real images: accuracy, the worst group, classes alike.

    python benchmarks/frozen_heads.py --draws 5

Each draw takes other training examples; test sets are whole, and their labels clean. Tasks:

- people's labels: 25 classes of CIFAR-100 as people labelled them (CIFAR-100N), a quarter wrong; and the
  same, clean. Accuracy.
- rho: two classes of CIFAR-100, another pair in each draw. Of the one class a fraction rho of the images stay
  as they are and the others become negatives (255 less the pixel), of the other class the other way round; in
  the test set half and half. Accuracy in the worst of the four groups.
- clothing: 17 classes of photographs, the largest 40 times the smallest. Recall, averaged over classes.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import harness
import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from PIL import Image
from scipy.stats import t

import molere_cli as molere

WEIGHTS = harness.DATA / "weights" / "tf_efficientnet_lite0.safetensors"
METHODS = {
    "erm": "ERM (AdamW)",
    "jtt": "JTT",
    "logreg": "LogReg",
    "logreg-robust": "LogReg-Robust",
    "logreg-rare": "LogReg-Rare",
    "logreg-balanced": "LogReg-Balanced",
    "dfr": "DFR, knows the groups",
}
Array = NDArray[Any]


class Task(NamedTuple):
    """What a draw trains and is tested on, and the measure that counts."""

    data: molere.dataset
    measure: str


def cifar100(part: str) -> tuple[Array, Array]:
    """All images, uint8 (N, 32, 32, 3), and labels."""
    table = pq.read_table(harness.DATA / "cifar100" / f"{part}.parquet")
    images = [np.array(Image.open(io.BytesIO(row["bytes"]))) for row in table["image"].to_pylist()]
    return np.stack(images), table["label"].to_numpy()


def people(
    draw: int,
    train: tuple[Array, Array],
    test: tuple[Array, Array],
    number: int,
    *,
    clean: bool,
    **settings: Any,
) -> Task:
    """`number` images with the labels that people gave them, or with the right ones."""
    with (harness.DATA / "cifar100n25" / "human_labels.csv").open(newline="") as file:
        rows = [tuple(map(int, row.values())) for row in csv.DictReader(file)]
    position, human, right = np.array(rows).T
    classes = np.unique(right)
    chosen = np.random.default_rng(draw).permutation(len(rows))[:number]
    labels = np.searchsorted(classes, (right if clean else human)[chosen])
    of_classes = np.isin(test[1], classes)
    tested = (test[0][of_classes], np.searchsorted(classes, test[1][of_classes]))
    name = f"{'clean' if clean else 'people'}-{draw}"
    images = train[0][position[chosen]]
    return Task(molere.dataset(images, labels, test=tested, name=name, **settings), "accuracy")


def shortcut(draw: int, train: tuple[Array, Array], test: tuple[Array, Array], rho: float) -> Task:
    """Two classes; whether an image is a negative tells them apart in a fraction rho of the pool."""
    generator = np.random.default_rng(draw)
    pair = generator.choice(100, 2, replace=False)

    def part(images: Array, labels: Array, fraction: float) -> tuple[Array, Array, Array]:
        pixels, own, groups = [], [], []
        for label, of in enumerate(pair):
            found = images[labels == of]
            usual = np.arange(len(found)) < round(fraction * len(found))
            negative = ~usual if label == 0 else usual
            pixels.append(np.where(negative[:, None, None, None], 255 - found, found))
            own.append(np.full(len(found), label))
            groups.append(2 * label + negative)
        return np.concatenate(pixels), np.concatenate(own), np.concatenate(groups)

    images, labels, groups = part(*train, rho)
    order = generator.permutation(len(images))
    name = f"rho{round(100 * rho)}-{draw}"
    return Task(
        molere.dataset(images[order], labels[order], groups=groups[order], test=part(*test, 0.5), name=name),
        "worst_group",
    )


def clothing(draw: int) -> Task:
    """3,000 of the photographs."""
    place = f"parquet:{harness.DATA / 'clothing'}"
    return Task(molere.dataset(place, limit_train=3000, data_seed=draw), "balanced_accuracy")


def results(task: Task, draw: int, folder: Path) -> Mapping[str, tuple[float, float]]:
    """By method, the measure in percent and the seconds of the run, features aside."""
    found = {}
    for method in METHODS:
        if method == "dfr" and task.measure != "worst_group":
            continue
        (run,) = molere.train(
            task.data,
            methods=method,
            seeds=draw,
            runs=folder,
            recipe="probe",
            backbone="timm:tf_efficientnet_lite0",
            init_from=WEIGHTS,
            image_size=64 if task.measure != "balanced_accuracy" else 96,
            device="cpu",
            precision="fp32",
            thumbnails=False,
        )
        seconds = sum(record["time/seconds"] for record in run.metrics)
        found[method] = 100 * run.results[f"test/{task.measure}"], seconds
    return found


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=1)
    parser.add_argument("--draws", type=int, default=5)
    parser.add_argument("--number", type=int, default=5000, help="images with people's labels")
    options = harness.parse(parser, quick={"draws": 2, "number": 300})
    harness.print_header(
        "Heads on frozen features",
        f"tf_efficientnet_lite0 (ImageNet) at 64 px, clothing at 96; mean over {options.draws} draws, and "
        "less ERM, paired by draw with its 95% interval (Student's t)",
    )
    train, test = cifar100("train"), cifar100("test")
    scores: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for draw in range(options.draws):
            tasks = {
                "people's labels": people(draw, train, test, options.number, clean=False),
                "clean": people(draw, train, test, options.number, clean=True),
                **{f"rho {rho}": shortcut(draw, train, test, rho) for rho in (0.9, 0.95, 0.99)},
                "clothing": clothing(draw),
            }
            for name, task in tasks.items():
                for method, (score, took) in results(task, draw, Path(folder) / f"{name}-{draw}").items():
                    scores[name][method].append(score)
                    seconds[method].append(took)
    rows = []
    for method, label in METHODS.items():
        cells = [
            f"{np.mean(each[method]):.1f}{gain(each, method)}" if each[method] else harness.NOTHING
            for each in scores.values()
        ]
        rows.append([label, *cells, f"{np.mean(seconds[method]):.1f}"])
    harness.print_table(["", *scores, "s a run"], rows)


def gain(scores: Mapping[str, list[float]], method: str) -> str:
    """Less ERM, in points, with its interval."""
    differences = np.subtract(scores[method], scores["erm"])
    if method == "erm" or len(differences) < 2:
        return ""
    half = t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    mean = differences.mean()
    return f" ({mean:+.1f} [{mean - half:+.1f}, {mean + half:+.1f}])"


if __name__ == "__main__":
    main()
