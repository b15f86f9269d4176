"""Logistic regression, all examples alike."""

from __future__ import annotations

import numpy as np

from molere_heads.linear_head import Floats, Ints, fit, tuned_l2
from molere_heads.solved_head import HeadOptions, Solution, SolvedHead


class PlainHead(SolvedHead):
    """The L2 of the lowest out-of-fold loss, then the head on all examples."""

    options: HeadOptions

    def solve(self, x_NA: Floats, labels_N: Ints, folds_N: Ints) -> Solution:
        num_classes = self.context.num_classes
        l2s = {} if self.options.l2 is None else {"l2s": [self.options.l2]}
        l2, logits_NC = tuned_l2(x_NA, labels_N, num_classes, folds_N, **l2s)
        accuracy = float(np.mean(logits_NC.argmax(axis=1) == labels_N))
        head = fit(x_NA, labels_N, num_classes, l2=l2)
        return Solution(head, l2=l2, out_of_fold_accuracy=accuracy)
