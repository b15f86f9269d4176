"""`molere.rank`: how hard each training example is, by a run or by a user's own training loop.

Shapes: E epochs, N examples of the pool, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor
from torch.nn import functional as F

from molere_cli.api.data import Data
from molere_cli.api.logger import LoggedProgress
from molere_cli.api.new_split import NewSplit, write_split_file
from molere_cli.config.config_file import validate_config
from molere_cli.config.paths import with_absolute_paths
from molere_cli.config.run_config import RunConfig
from molere_cli.data.feed import Batch
from molere_cli.engine.pool_record import PoolRecord
from molere_cli.engine.prediction_metrics import probabilistic_margin
from molere_cli.engine.random_state import RandomState
from molere_cli.engine.step import Step
from molere_cli.foundation.errors import ConfigError, DataError
from molere_cli.hardness.hardness_scores import erm_run, read_score
from molere_cli.hardness.make_split import ScoreOf, make_split
from molere_cli.runs.run_directory import RunDir
from molere_cli.runs.run_tables import RunTable
from molere_cli.splits.score_direction import hardness
from molere_cli.splits.split_file import Split


@dataclass(frozen=True, eq=False, repr=False)
class MadeSplit:
    """A split as a file, with what is in it."""

    path: Path
    split: Split

    @property
    def in_validation(self) -> Tensor:
        """bool (N,)."""
        return self.split.in_validation

    @property
    def finding(self) -> str | None:
        """What the strategy has found out about the pool, a sentence; None where it looks for nothing."""
        return self.split.info.finding

    def __repr__(self) -> str:
        chosen, whole = int(self.in_validation.sum()), len(self.in_validation)
        return f"<molere split {str(self.path)!r}: {chosen:,} of {whole:,} in validation>"


@dataclass(frozen=True, eq=False, repr=False)
class Ranking:
    """The pool by hardness.

    score: the name of what it is ranked by. values: that score, float64 (N,). hardness: the same turned so
    that high = hard. run: the ERM run that it is of, None if the user's own loop said so.
    """

    data: Data
    config: RunConfig
    score: str
    values: Tensor
    hardness: Tensor
    run: Path | None
    _score_of: ScoreOf

    def __repr__(self) -> str:
        return f"<molere ranking of {len(self.values):,} examples by {self.score}>"

    @property
    def table(self) -> pa.Table:
        """The examples, hardest first: index, label, class, the score, and of an ERM run what it predicts.

        `.to_pandas()` makes a data frame of it.
        """
        loaded, order = self.data.loaded, self.hardness.argsort(descending=True, stable=True)
        labels = loaded.dataset.pool.labels[order]
        names = np.asarray(loaded.dataset.class_names, dtype=object)
        columns = {
            "index": loaded.pool_indices[order].numpy(),
            "label": labels.numpy(),
            "class": names[labels.numpy()],
            self.score: self.values[order].numpy(),
        }
        if self.run is not None:
            table = RunTable.pool(RunDir(self.run)).read(["prediction", "probability"])
            columns["prediction"] = names[table["prediction"].to_numpy()[order.numpy()]]
            columns["probability"] = table["probability"].to_numpy()[order.numpy()]
        return pa.table(columns)

    def split(
        self, delta: float = 0.1, *, strategy: str = "hard", out: str | Path | None = None
    ) -> MadeSplit:
        """Choose a validation set and write it, by default under `splits/`: `molere split`.

        Raises:
            SplitError: it makes no sense. RunError: `out` exists.
        """
        made = self._made(delta, strategy, None if out is None else Path(out))
        return MadeSplit(made.path, made.split)

    def _made(self, delta: float, strategy: str, out: Path | None) -> NewSplit:
        config, data = self.config.updated(split=strategy, delta=delta, score=self.score), self.data
        split = make_split(
            config,
            data.registry,
            data.loaded,
            erm=None if self.run is None else RunDir(self.run),
            score_of=self._score_of,
            runs=Path(),
            progress=LoggedProgress(),
        )
        return write_split_file(split, config, data.loaded, data.registry, out=out)


def rank(
    data: Data,
    *,
    score: str = "aum",
    logits: Any = None,
    margins: Any = None,
    seed: int = 0,
    runs: str | Path = "runs",
    **settings: Any,
) -> Ranking:
    """Rank the pool by hardness: by an ERM run, found under `runs` or trained, or by your own training loop.

    Args:
        score: `aum`, `early-aum`, `margin`, `loss`, `el2n` or `forgetting`.
        logits: what your loop said of every example of the pool, in its order, after or in each of E epochs:
            floating point (E, N, C).
        margins: in place of logits, p_label - max of the others, (E, N); for `aum`, `early-aum`, `margin`.
        settings: of the ERM run, as flags have them: `backbone="resnet18", epochs=20`.

    Raises:
        ConfigError: a setting, or a score that is not known, or not from margins.
        DataError: logits or margins that do not fit the pool.
    """
    if "score" in settings or {"method", "split"} & settings.keys():
        raise ConfigError("rank takes the settings of an ERM run: neither method nor split")
    config = validate_config({**data.settings, **settings, "seed": seed, "score": score})
    config = with_absolute_paths(config, data.registry)
    if logits is None and margins is None:
        if score == "oof-margin":
            raise ConfigError("rank goes by one run; for oof-margin use `molere split --score oof-margin`")
        run = erm_run(
            config, data.registry, data.loaded, score=score, runs=Path(runs), progress=LoggedProgress()
        )

        def score_of(name: str) -> Tensor:
            return read_score(run, name)

        path: Path | None = run.path
    else:
        if settings:
            raise ConfigError(f"{min(settings)} has no effect on what your own loop has said; leave it out")
        if logits is not None and margins is not None:
            raise ConfigError("give logits or margins, not both")
        labels = data.loaded.dataset.pool.labels
        known = (
            scores_of_logits(logits, labels, num_classes=data.loaded.num_classes)
            if logits is not None
            else scores_of_margins(margins, num_examples=len(labels))
        )

        def score_of(name: str) -> Tensor:
            if name not in known:
                given = "logits" if logits is not None else "margins"
                raise ConfigError(f"{name} cannot be had from {given}; there are {', '.join(sorted(known))}")
            return known[name]

        path = None
    values = score_of(score)
    aum = score_of("aum") if score == "forgetting" else None
    return Ranking(data, config, score, values, hardness(values, score, aum_N=aum), path, score_of)


def scores_of_logits(logits: Any, labels_N: Tensor, *, num_classes: int) -> dict[str, Tensor]:
    """Every score of per-epoch logits (E, N, C), float64 (N,) each, as a run records it."""
    logits_ENC = _floats(logits, "logits", (None, len(labels_N), num_classes))
    record = PoolRecord(len(labels_N), torch.device("cpu"), num_epochs=len(logits_ENC))
    positions_N, none = torch.arange(len(labels_N)), torch.empty(0)
    for epoch, logits_NC in enumerate(logits_ENC):
        losses_N = F.cross_entropy(logits_NC, labels_N, reduction="none")
        batch = Batch(positions_N, none, labels_N)
        record.add(Step(epoch, 0, batch, logits_NC, losses_N, None, RandomState(none, None)), None)
    found = {
        "aum": record.aum,
        "early-aum": record.early_aum,
        "el2n": record.el2n,
        "forgetting": record.forgetting,
        "margin": probabilistic_margin(logits_ENC[-1], labels_N),
        "loss": losses_N,
    }
    return {name: values.double() for name, values in found.items()}


def scores_of_margins(margins: Any, *, num_examples: int) -> dict[str, Tensor]:
    """What can be had of per-epoch margins (E, N), float64 (N,) each."""
    margins_EN = _floats(margins, "margins", (None, num_examples)).double()
    if margins_EN.abs().max() > 1:
        raise DataError("margins must lie in [-1, 1]: they are of probabilities, not of logits")
    early = max(1, len(margins_EN) // 4)
    return {
        "aum": margins_EN.mean(dim=0),
        "early-aum": margins_EN[:early].mean(dim=0),
        "margin": margins_EN[-1],
    }


def _floats(values: Any, what: str, shape: tuple[int | None, ...]) -> Tensor:
    found = values.detach().cpu() if isinstance(values, Tensor) else torch.from_numpy(np.asarray(values))
    fits = found.ndim == len(shape) and all(
        want in (None, size) for want, size in zip(shape, found.shape, strict=True)
    )
    if not fits or not len(found) or not found.is_floating_point():
        wanted = ", ".join("epochs" if size is None else str(size) for size in shape)
        raise DataError(
            f"{what} must be floating point ({wanted}), in the order of the pool, but are {found.dtype} of "
            f"shape {tuple(found.shape)}"
        )
    if not found.isfinite().all():
        raise DataError(f"{what} must be finite")
    return found.float()
