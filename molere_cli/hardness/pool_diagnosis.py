"""What hard means in a pool: rare but learnable, or ambiguous and mislabelled.

Half of the hard set is held out, with as many of the others; an ERM classifier is trained on the rest twice,
once as it is and once with the other half of the hard set up-weighted. Where held-out hard examples are right
then, and the others stay right, hard is rare but learnable, and learning to do well on it can pay. Where they
stay wrong, a classifier that tries harder at hard examples fits what does not generalise. No test or tuning
data is used.

Shapes: N examples of the pool.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset
from molere_cli.engine.method import Fit
from molere_cli.engine.prediction import predict_feed
from molere_cli.foundation.progress import Progress
from molere_cli.foundation.randomness import derived_generator
from molere_cli.hardness.auxiliary_fits import fitted
from molere_cli.hardness.hardness_scores import erm_context
from molere_cli.registry.registry import Registry
from molere_cli.splits.diagnosis import MULTIPLICITY, Accuracies, Diagnosis
from molere_cli.splits.split_file import Split


def diagnose(
    config: RunConfig, registry: Registry, data: LoadedDataset, split: Split, *, progress: Progress
) -> Diagnosis:
    """Train four ERM classifiers as `config` has it, and see what the validation part of `split` needs.

    Raises:
        ConfigError: `config` names something that no plugin offers.
    """
    context = erm_context(config, registry, data)
    hard_N = split.in_validation
    right: dict[tuple[str, int], list[Tensor]] = {}
    for number, (hard_out, others_out) in enumerate(held_out_halves(split, seed=config.machine.seed)):
        kept_N = torch.ones_like(hard_N)
        kept_N[hard_out] = kept_N[others_out] = False
        kept = kept_N.nonzero().squeeze(1)
        hard_kept = (kept_N & hard_N).nonzero().squeeze(1)
        for multiplicity in (1, MULTIPLICITY):
            title = f"diagnosis {2 * number + (multiplicity > 1) + 1} of 4"
            positions = torch.cat([kept, *[hard_kept] * (multiplicity - 1)])
            classifier = fitted(context, Fit(positions), title=title, progress=progress)
            predictions = predict_feed(classifier, context.feed)
            right_N = predictions.predicted == predictions.labels
            right.setdefault(("hard", multiplicity), []).append(right_N[hard_out])
            right.setdefault(("others", multiplicity), []).append(right_N[others_out])
    accuracy = {key: float(torch.cat(parts).double().mean()) for key, parts in right.items()}
    return Diagnosis(
        num_held_out=int(hard_N.sum()),
        hard=Accuracies(plain=accuracy["hard", 1], upweighted=accuracy["hard", MULTIPLICITY]),
        others=Accuracies(plain=accuracy["others", 1], upweighted=accuracy["others", MULTIPLICITY]),
    )


def held_out_halves(split: Split, *, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Twice: half of every class's hard examples, and as many others of that class (fewer where there are
    not enough); the two halves are disjoint, and the hard ones together are the whole hard set."""
    generator = derived_generator(seed, "diagnosis")
    hard_halves: tuple[list[Tensor], list[Tensor]] = ([], [])
    other_halves: tuple[list[Tensor], list[Tensor]] = ([], [])
    for label in split.labels.unique().tolist():
        of_class_N = split.labels == label
        hard = _shuffled((of_class_N & split.in_validation).nonzero().squeeze(1), generator)
        # At least a third of a class's other examples stays in training.
        others = _shuffled((of_class_N & ~split.in_validation).nonzero().squeeze(1), generator)
        others = others[: min(len(hard), 2 * len(others) // 3)]
        for half in (0, 1):
            hard_halves[half].append(hard[half::2])
            other_halves[half].append(others[half::2])
    for half in (0, 1):
        yield torch.cat(hard_halves[half]), torch.cat(other_halves[half])


def _shuffled(positions: Tensor, generator: torch.Generator) -> Tensor:
    return positions[torch.randperm(len(positions), generator=generator)]
