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
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor

from molere_cli.config.plan import Plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset
from molere_cli.engine.method import TrainingContext
from molere_cli.engine.predict import predict_feed
from molere_cli.methods.erm import ERM
from molere_cli.progress import Progress
from molere_cli.randomness import derived_generator
from molere_cli.registry.registry import Registry
from molere_cli.registry.specs import MethodSpec
from molere_cli.splits.artefact import Split
from molere_cli.tasks.build import build_engine
from molere_cli.tasks.scores import erm_plan

Advice = Literal["reweight", "do not reweight", "unclear"]

MULTIPLICITY = 5
LEARNABLE, NOT_LEARNABLE = 0.4, 0.2


@dataclass(frozen=True)
class Accuracies:
    """Accuracy on held-out examples, in [0, 1], of the plain and of the up-weighted classifier."""

    plain: float
    upweighted: float


@dataclass(frozen=True)
class Diagnosis:
    """What became of held-out examples.

    hard: of the hard set, num_held_out in all. others: as many that are not in it.
    """

    num_held_out: int
    hard: Accuracies
    others: Accuracies

    @property
    def advice(self) -> Advice:
        """By how many held-out hard examples the up-weighted classifier gets right: from 40% on they are
        taken to be learnable, up to 20% not. The bounds were set on colour-digits, digits and CIFAR-10;
        docs/results-history.md says how often they were right elsewhere."""
        if self.hard.upweighted >= LEARNABLE:
            return "reweight"
        return "do not reweight" if self.hard.upweighted <= NOT_LEARNABLE else "unclear"

    @property
    def sentence(self) -> str:
        """The advice with its evidence."""
        evidence = (
            f"of the hard examples held out, {_percent(self.hard.upweighted)} are right once the other "
            f"hard ones count {MULTIPLICITY} times ({_percent(self.hard.plain)} before), of the others "
            f"{_percent(self.others.upweighted)} ({_percent(self.others.plain)} before)"
        )
        return f"{evidence}: {_MEANING[self.advice]}"

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "advice": self.advice, "sentence": self.sentence}


_MEANING: dict[Advice, str] = {
    "reweight": "hard is rare but learnable here; learned reweighting on the hard split is worth trying",
    "do not reweight": (
        "hard is ambiguous or mislabelled here; learned reweighting on the hard split is likely to cost "
        "accuracy"
    ),
    "unclear": "hard is partly learnable here; compare with ERM over several seeds",
}


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.0f}%"


class _Repeating(ERM):
    """ERM on the positions given, of which one may occur more than once."""

    def __init__(self, context: TrainingContext, positions: Tensor) -> None:
        super().__init__(context)
        self.positions = positions


def diagnose(
    config: RunConfig, registry: Registry, data: LoadedDataset, split: Split, *, progress: Progress
) -> Diagnosis:
    """Train four ERM classifiers as `config` has it, and see what the validation part of `split` needs.

    Raises:
        ConfigError: `config` names something that no plugin offers.
    """
    plan = erm_plan(config, registry)
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
            right_N = _train(plan, data, positions, title=title, progress=progress)
            right.setdefault(("hard", multiplicity), []).append(right_N[hard_out])
            right.setdefault(("others", multiplicity), []).append(right_N[others_out])
    accuracy = {key: float(torch.cat(parts).double().mean()) for key, parts in right.items()}
    return Diagnosis(
        num_held_out=int(hard_N.sum()),
        hard=Accuracies(accuracy["hard", 1], accuracy["hard", MULTIPLICITY]),
        others=Accuracies(accuracy["others", 1], accuracy["others", MULTIPLICITY]),
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


def _train(plan: Plan, data: LoadedDataset, positions: Tensor, *, title: str, progress: Progress) -> Tensor:
    """Which examples of the pool a classifier trained on `positions` gets right, bool (N,)."""

    def build(context: TrainingContext) -> _Repeating:
        return _Repeating(context, positions)

    method = MethodSpec(name="erm", description=title, build=build, label=title)
    engine = build_engine(replace(plan, method=method), data, None)
    progress.run_started(
        title, seed=plan.config.machine.seed, num_epochs=plan.config.classifier.epochs, path=None
    )
    for metrics in engine.loop.epochs():
        progress.epoch_ended(metrics)
    progress.run_ended(None)
    predictions = predict_feed(engine.classifier, engine.feed)
    return predictions.predicted == predictions.labels
