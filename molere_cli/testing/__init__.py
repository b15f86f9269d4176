"""What a plugin promises, as checks for its author's tests; a broken promise is one sentence."""

from molere_cli.testing.backbone_contract import check_backbone
from molere_cli.testing.contract import BrokenContract
from molere_cli.testing.dataset_contract import check_dataset
from molere_cli.testing.method_contract import check_method
from molere_cli.testing.reweighter_contract import check_reweighter
from molere_cli.testing.split_contract import check_split

__all__ = [
    "BrokenContract",
    "check_backbone",
    "check_dataset",
    "check_method",
    "check_reweighter",
    "check_split",
]
