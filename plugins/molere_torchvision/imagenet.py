"""ImageNet-1K, a hundred of its classes, and other images of its classes to test on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path

from molere_cli import IMAGENET_MEAN, IMAGENET_STD, DataError, Dataset, DatasetRequest, Walk
from molere_torchvision.folder import examples_of, read_folder

# The classes of Tian et al. 2020, "Contrastive Multiview Coding" (arXiv 1906.05849), as published with it.
IMAGENET_100 = tuple((files("molere_torchvision") / "imagenet100.txt").read_text(encoding="utf-8").split())


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Images of ImageNet's classes from elsewhere; `folder` is what its archive unpacks to.

    numbered: its folders are the numbers of the classes, in the order of their WNIDs. among_own_classes: its
    makers count predictions among its own classes alone.
    """

    title: str
    folder: str
    source: str
    numbered: bool = False
    among_own_classes: bool = False

    def load(self, request: DatasetRequest) -> Dataset:
        """Test images by class: the pool and the test set are the same images (`DatasetSpec.test_only`).

        Raises:
            DataError: they are not there; they cannot be downloaded.
        """
        root = request.data_dir / self.folder
        if not root.is_dir():
            raise DataError(
                f"{self.title} is not in {root} and is not downloaded; get it from {self.source}, "
                "unpack it there"
            )
        walk = Walk()
        walk.start(root)
        names = list(walk.class_folders(root))
        if self.numbered:
            if strange := [name for name in names if not name.isdecimal()]:
                raise DataError(f"{root / strange[0]} is no class of {self.title}: its folders are numbers")
            names.sort(key=int)
        names, examples = examples_of(root, walk, class_names=names)
        return Dataset(
            pool=examples,
            tests={"test": examples},
            class_names=tuple(names),
            mean=IMAGENET_MEAN,
            std=IMAGENET_STD,
            augment="crop-flip",
            among_own_classes=self.among_own_classes,
            crop_mode="center",
            skipped=walk.skipped,
        )


IMAGENET_A = Elsewhere(
    title="ImageNet-A",
    folder="imagenet-a",
    source="github.com/hendrycks/natural-adv-examples",
    among_own_classes=True,
)
IMAGENET_R = Elsewhere(
    title="ImageNet-R",
    folder="imagenet-r",
    source="github.com/hendrycks/imagenet-r",
    among_own_classes=True,
)
IMAGENET_SKETCH = Elsewhere(
    title="ImageNet-Sketch", folder="sketch", source="github.com/HaohanWang/ImageNet-Sketch"
)
IMAGENET_V2 = Elsewhere(
    title="ImageNet-V2",
    folder="imagenetv2-matched-frequency-format-val",
    source="huggingface.co/datasets/vaishaal/ImageNetV2",
    numbered=True,
)


def load_imagenet(request: DatasetRequest) -> Dataset:
    """ImageNet-1K from `imagenet/train/WNID/*` and `imagenet/val/WNID/*`; `val` is the test set.

    Raises:
        DataError: the folders are not there; they cannot be downloaded.
    """
    return replace(
        read_folder(_imagenet_root(request), test_fraction=0.0, request=request), crop_mode="center"
    )


def load_imagenet100(request: DatasetRequest) -> Dataset:
    """The hundred classes of `IMAGENET_100` out of the folders of ImageNet-1K.

    Raises:
        DataError: the folders, or one of these classes, are not there.
    """
    root = _imagenet_root(request)
    for part in ("train", "val"):
        if missing := [name for name in IMAGENET_100 if not (root / part / name).is_dir()]:
            raise DataError(
                f"{root / part} has no folder {missing[0]}, one of the hundred classes of ImageNet-100"
            )
    return replace(
        read_folder(root, test_fraction=0.0, request=request, only=IMAGENET_100), crop_mode="center"
    )


def _imagenet_root(request: DatasetRequest) -> Path:
    root = request.data_dir / "imagenet"
    if not ((root / "train").is_dir() and (root / "val").is_dir()):
        raise DataError(
            f"ImageNet-1K is not in {root} and cannot be downloaded; unpack it there as train/WNID/*.JPEG "
            "and val/WNID/*.JPEG, or look elsewhere with --data-dir"
        )
    return root
