"""Labels that look wrong, beside cleanlab: how many of the first 100 are, on digits with a fifth drawn anew.

Both sides get the out-of-fold probabilities of the same classifiers; "in training" needs none. The rule was
chosen on seeds 0 to 4; others are reported, each with a draw of the noise of its own.

Exits with 1 if the first 100 of MOLERE's hold fewer wrong labels than cleanlab's, all seeds together.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

import harness
import numpy as np
import pyarrow as pa
import torch
from molere_report.suspects import COLUMNS, HELD_OUT, suspects_of
from numpy.typing import NDArray

from molere_cli.api.run_schedule import train_runs
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.engine.prediction import predict_batches
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.hardness_scores import folds
from molere_cli.registry.registry import Registry, load_plugins
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import RunTable

FIRST = 100
RANKINGS = ("self_confidence", "normalized_margin")

Places = NDArray[np.int64]
Probabilities = NDArray[np.float64]


def config_of(seed: int) -> RunConfig:
    return RunConfig.of(
        dataset="digits",
        label_noise="uniform",
        noise_rate=0.2,
        method="erm",
        seed=seed,
        data_seed=seed,
        device="cpu",
        precision="fp32",
        threads=1,
    )


def probabilities_out_of_fold(config: RunConfig, registry: Registry, data: LoadedDataset) -> Probabilities:
    found = np.zeros((len(data.dataset.pool), data.num_classes))
    for in_fold_N, classifier, feed in folds(config, registry, data, progress=NoProgress()):
        logits = [logits_BC for logits_BC, _ in predict_batches(classifier, feed)]
        found[in_fold_N.numpy()] = torch.cat(logits).double().softmax(dim=1).numpy()[in_fold_N.numpy()]
    return found


def ours(run: RunDir, probabilities: Probabilities | None) -> Places:
    """Places in the pool, the most suspect first."""
    table, held_out = RunTable.pool(run).read(COLUMNS), None
    if probabilities is not None:
        predicted, labels = probabilities.argmax(axis=1), table["label"].to_numpy()
        own = probabilities[np.arange(len(labels)), labels]
        columns = dict(zip(HELD_OUT, (predicted, probabilities.max(axis=1), own), strict=True))
        held_out = pa.table(columns)
    names = [str(name) for name in run.environment()["class_names"]]
    places = {index: place for place, index in enumerate(table["index"].to_pylist())}
    found = suspects_of(table, held_out, names)
    return np.array([places[example.index] for example in found.examples])


def found_by_all(seed: int, registry: Registry, folder: Path) -> tuple[dict[str, Places], NDArray[np.bool_]]:
    """What each way finds, and which labels are wrong."""
    from cleanlab.filter import find_label_issues

    config = config_of(seed)
    data = load_dataset(config.data, registry)
    probabilities = probabilities_out_of_fold(config, registry, data)
    (run,) = train_runs(config, [seed], registry, runs=folder, progress=NoProgress())
    labels = data.dataset.pool.labels.numpy()
    assert data.dataset.pool.clean_labels is not None
    found = {"MOLERE, in training": ours(run, None), "MOLERE, out of fold": ours(run, probabilities)}
    for ranking in RANKINGS:
        found[f"cleanlab, {ranking}"] = find_label_issues(
            labels, probabilities, return_indices_ranked_by=ranking
        )
    return found, labels != data.dataset.pool.clean_labels.numpy()


def main() -> int:
    parser = harness.option_parser(__doc__, repetitions=1)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(5, 10)))
    options = harness.parse(parser, quick={"seeds": [5]})
    notes = (
        f"seeds {', '.join(map(str, options.seeds))}; of each the number of wrong labels in the first {FIRST}"
    )
    harness.print_header("Labels that look wrong", notes, packages=["cleanlab"])
    first: dict[str, list[int]] = {}
    shares: dict[str, list[tuple[float, float]]] = {}
    with TemporaryDirectory() as folder:
        for seed in options.seeds:
            found, wrong = found_by_all(seed, load_plugins(), Path(folder))
            for way, places in found.items():
                first.setdefault(way, []).append(int(wrong[places[:FIRST]].sum()))
                share = float(wrong[places].mean()), float(wrong[places].sum() / wrong.sum())
                shares.setdefault(way, []).append(share)
            harness.progress(f"seed {seed} is done")
    rows = [
        [
            way,
            f"{fmean(numbers):.1f}",
            ", ".join(map(str, numbers)),
            *(f"{100 * fmean(values):.1f}%" for values in zip(*shares[way], strict=True)),
        ]
        for way, numbers in first.items()
    ]
    headings = [f"wrong of the first {FIRST}", "of each seed", "wrong of all named", "named of all wrong"]
    harness.print_table(["way", *headings], rows)
    best = max(sum(first[f"cleanlab, {ranking}"]) for ranking in RANKINGS)
    return 1 if sum(first["MOLERE, out of fold"]) < best else 0


if __name__ == "__main__":
    sys.exit(main())
