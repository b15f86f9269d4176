"""Logit adjustment (Menon et al., ICLR 2021, arXiv 2007.07314), after training."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from molere_heads.linear_head import Floats, Ints
from molere_heads.plain import PlainHead
from molere_heads.solved_head import Solution


class BalancedHead(PlainHead):
    """The plain head, its logits less the logs of class frequencies: right for classes that count alike."""

    def solve(self, x_NA: Floats, labels_N: Ints, folds_N: Ints) -> Solution:
        found = super().solve(x_NA, labels_N, folds_N)
        counts_C = np.bincount(labels_N, minlength=self.context.num_classes)
        # A class without an example stays as unlikely as it was.
        prior_C = np.log(np.where(counts_C > 0, counts_C, len(labels_N)) / len(labels_N)).astype(np.float32)
        found.head = replace(found.head, bias_C=found.head.bias_C - prior_C)
        return found
