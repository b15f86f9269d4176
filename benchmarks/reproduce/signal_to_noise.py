"""How much of the hypergradient is signal, and whom it favours, as training goes on.

    python benchmarks/reproduce/signal_to_noise.py

Along an ERM run, at the end of some epochs: the alignments of all pool examples with the validation gradient
of many batches of the hard set. Signal to noise of an example: its mean over batches by its standard
deviation. A line a pool in results/signal.jsonl.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch
from cells import Cell, results_of
from evidence import unmeasured
from lines import write_line
from measure import kinds_of, rounded
from torch import Tensor

from molere_cli.config.plan import make_plan
from molere_cli.data.source import load_dataset
from molere_cli.engine.hypergradient import alignment
from molere_cli.engine.random_state import RandomState
from molere_cli.foundation.randomness import derived_generator
from molere_cli.hardness.hardness_scores import erm_config
from molere_cli.registry.registry import load_plugins
from molere_cli.splits.quota import select_by_quota
from molere_cli.training.build_engine import build_engine

POOLS = ("shortcut", "oracle-clean", "shortcut-natural", "biased", "natural")
EPOCHS = (1, 2, 4, 8, 12, 20, 30, 40)
BATCH, SAMPLE = 64, 512


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("experiments", nargs="*", default=POOLS)
    parser.add_argument("--draws", type=int, default=16, help="validation batches an epoch")
    given = parser.parse_args()
    for cell in unmeasured("signal", given.experiments, seeds=[0]):
        write_line(results_of("signal"), {"cell": cell.name, "epochs": follow(cell, given.draws)})
        print(cell.name, flush=True)
    return 0


def follow(cell: Cell, num_draws: int) -> list[dict[str, Any]]:
    """Train ERM twice: once for the AUM that says which examples are hard, once to look at alignments."""
    config, registry = cell.config(), load_plugins()
    data = load_dataset(config.data, registry)
    plan = make_plan(erm_config(config), registry)
    first = build_engine(plan, data, None)
    for _ in first.loop.epochs():
        pass
    labels, aum_N = data.dataset.pool.labels, first.loop.pool_record.aum.double().cpu()
    hard_N = select_by_quota(labels, -aum_N, delta=config.split.delta)
    easy_N = select_by_quota(labels, aum_N, delta=config.split.delta)
    kinds = {"hard": hard_N, "easy": easy_N, "other": ~hard_N & ~easy_N}
    kinds |= {kind: torch.from_numpy(mask) for kind, mask in kinds_of(data).items()}
    generator = derived_generator(config.machine.seed, "signal")
    sample = torch.randperm(len(labels), generator=generator)[:SAMPLE].sort().values
    hard = hard_N.nonzero().squeeze(1)
    engine = build_engine(plan, data, None)
    found = []
    for record in engine.loop.epochs():
        if record["epoch"] + 1 not in EPOCHS:
            continue
        draws = [hard[torch.randperm(len(hard), generator=generator)[:BATCH]] for _ in range(num_draws)]
        alignment_RN = torch.stack([alignments(engine, sample, draw) for draw in draws]).double()
        mean_N, deviation_N = alignment_RN.mean(0), alignment_RN.std(0)
        scale = mean_N.abs().mean()
        found.append(
            {
                "epoch": record["epoch"] + 1,
                "train_accuracy": rounded(record["train/accuracy"]),
                "mean_absolute_alignment": rounded(float(scale)),
                "signal_to_noise": rounded(float((mean_N.abs() / deviation_N).median())),
                "alignment_by_kind": {
                    kind: rounded(float(mean_N[mask[sample]].mean() / scale))
                    for kind, mask in kinds.items()
                    if mask[sample].any()
                },
            }
        )
    return found


def alignments(engine: Any, sample: Tensor, draw: Tensor) -> Tensor:
    """< grad l_i, grad L_val > for the sample, with the validation batch `draw`; parameters stay."""
    classifier = engine.classifier
    (val,) = engine.feed.evaluation([draw])
    _, gradient = classifier.validation_gradient(val.images, val.labels)
    direction = {name: gradient[parameter] for name, parameter in classifier.parameters.items()}
    classifier.module.train()
    found = []
    for batch in engine.feed.evaluation(list(sample.split(BATCH))):
        losses = classifier.step_losses(batch.images, batch.labels, RandomState.capture(classifier.device))
        found.append(alignment(losses, classifier.parameters, direction))
    return torch.cat(found)


if __name__ == "__main__":
    sys.exit(main())
