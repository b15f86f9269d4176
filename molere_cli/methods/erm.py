"""Empirical risk minimisation."""

from __future__ import annotations

from torch import Tensor

from molere_cli.engine.method import Method
from molere_cli.engine.step import Step


class ERM(Method):
    """Empirical risk minimisation: every example counts the same."""

    resumes_within_epoch = True
    shares_batches = True
    takes_chunks = True
    needs_losses = False

    def weights(self, step: Step) -> Tensor | None:
        return None
