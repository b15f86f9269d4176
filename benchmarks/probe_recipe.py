"""What the recipe `probe` was chosen by: accuracy and loss on tuning sets, of features at several scales.

Frozen tf_efficientnet_lite0, a pool less a fifth of it for tuning; no test set is looked at. `as they are`
has the features' own scale, and a head that starts at random, as before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from unittest.mock import patch

import harness
from frozen_heads import WEIGHTS, cifar100, people

import molere_cli as molere
from molere_cli.training import frozen_features
from molere_cli.training.frozen_features import HeadStart

DECAYS = (0.0, 0.3, 1.0, 3.0)


@contextmanager
def scaled(norm: float | None) -> Iterator[None]:
    """Training with features at another mean squared norm; None: as they are, from a random head."""
    if norm is None:
        with patch.object(HeadStart, "put_into", lambda _self, _classifier: None):
            yield
    else:
        with patch.object(frozen_features, "NORM", norm):
            yield


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=1)
    parser.add_argument("--number", type=int, default=5000, help="images of a pool, tuning set included")
    parser.add_argument("--norms", type=float, nargs="+", default=[33, 100, 300])
    parser.add_argument("--epochs", type=int, nargs="+", default=[15, 30])
    options = harness.parse(parser, quick={"number": 300, "norms": [100.0], "epochs": [2]})
    harness.print_header(
        "The recipe of a frozen backbone", "tuning accuracy, % / loss, by weight decay; ERM, seed 0"
    )
    train, test = cifar100("train"), cifar100("test")
    tasks = {
        "people's labels": people(7, train, test, options.number, clean=False, tuning=0.2).data,
        "clean": people(7, train, test, options.number, clean=True, tuning=0.2).data,
        "clean, 600": people(8, train, test, min(600, options.number), clean=True, tuning=0.2).data,
        "clothing": molere.dataset(
            f"parquet:{harness.DATA / 'clothing'}", limit_train=3000, data_seed=7, tuning=0.2
        ),
    }
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, task) in enumerate(tasks.items()):
            for norm, epochs in product([None, *options.norms], options.epochs):
                cells = []
                for decay in DECAYS:
                    with scaled(norm):
                        (run,) = molere.train(
                            task,
                            methods="erm",
                            out=Path(folder) / f"{number}-{norm}-{epochs}-{decay}",
                            recipe="probe",
                            backbone="timm:tf_efficientnet_lite0",
                            init_from=WEIGHTS,
                            image_size=96 if name == "clothing" else 64,
                            epochs=epochs,
                            weight_decay=decay,
                            device="cpu",
                            precision="fp32",
                            thumbnails=False,
                        )
                    found = run.results
                    cells.append(f"{100 * found['tuning/accuracy']:.1f} / {found['tuning/nll']:.2f}")
                rows.append([name, "as they are" if norm is None else f"{norm:g}", str(epochs), *cells])
    harness.print_table(["pool", "norm", "epochs", *(f"{decay:g}" for decay in DECAYS)], rows)


if __name__ == "__main__":
    main()
