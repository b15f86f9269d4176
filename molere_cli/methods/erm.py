"""Empirical risk minimisation."""

from __future__ import annotations

from torch import Tensor

from molere_cli.engine.method import Method
from molere_cli.engine.step import Step


class ERM(Method):
    """Empirical risk minimisation: every example counts the same."""

    resumes_within_epoch = True
    batch_parts = "ranks"
    weights_read = "nothing"

    def weights(self, step: Step) -> Tensor | None:
        return None
