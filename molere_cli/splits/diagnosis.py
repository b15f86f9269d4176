"""What `molere split --diagnose` has found out of a hard set, and what it advises."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Advice = Literal["reweight", "do not reweight", "unclear"]

Share = Annotated[float, Field(ge=0, le=1)]

MULTIPLICITY = 5
LEARNABLE, NOT_LEARNABLE = 0.4, 0.2


class Accuracies(BaseModel):
    """Accuracy on held-out examples, in [0, 1], of the plain and of the up-weighted classifier."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    plain: Share
    upweighted: Share


class Diagnosis(BaseModel):
    """What became of held-out examples.

    hard: of the hard set, num_held_out in all. others: as many that are not in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    num_held_out: int = Field(ge=0)
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
        return {**self.model_dump(mode="json"), "advice": self.advice, "sentence": self.sentence}


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
