"""Deep feature reweighting (Kirichenko et al., ICLR 2023, arXiv 2204.02937): a head on groups in balance.

Shapes: N examples, C classes.
"""

from __future__ import annotations

import numpy as np

from molere_cli import ConfigError
from molere_heads.linear_head import L2S, Floats, Ints, fit, out_of_fold
from molere_heads.solved_head import HeadOptions, Solution, SolvedHead


class BalancedGroupsHead(SolvedHead):
    """The head on weights by which every group of every class counts alike; it knows the groups of the pool.

    The paper draws balanced subsets and averages; here every example counts, by the size of its group. L2 is
    that of the highest accuracy out of fold in the worst group.
    """

    options: HeadOptions

    def solve(self, x_NA: Floats, labels_N: Ints, folds_N: Ints) -> Solution:
        num_classes, groups = self.context.num_classes, self.context.groups
        if groups is None:
            raise ConfigError(
                "--method dfr weighs by groups, which this pool has not; a column of a csv: or parquet: "
                "dataset says them"
            )
        groups_N = groups[self.positions].numpy()
        cell_N = np.unique(labels_N * (groups_N.max() + 2) + groups_N, return_inverse=True)[1]
        sizes_G = np.bincount(cell_N)
        weights_N = (len(cell_N) / len(sizes_G) / sizes_G[cell_N]).astype(np.float32)

        def worst_group(l2: float) -> float:
            logits_NC = out_of_fold(x_NA, labels_N, num_classes, folds_N, l2=l2, weights_N=weights_N)
            right_N = logits_NC.argmax(axis=1) == labels_N
            return float((np.bincount(cell_N, weights=right_N) / sizes_G).min())

        l2 = self.options.l2 or max(L2S, key=worst_group)
        head = fit(x_NA, labels_N, num_classes, l2=l2, weights_N=weights_N)
        return Solution(head, weights_N, l2=l2, num_groups=float(len(sizes_G)))
