"""The settings of a run by owner: each section goes to who acts on it, and says which of it has no effect.

Every field is a flag of `molere train` and a key of `--config run.toml` under its own name, whatever its
section; its description is the help text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

SPLIT_SUFFIX = ".parquet"
NOISE_SUFFIX = ".csv"
NO_START = "none"
NOISE_KINDS = ("none", "uniform", "flip", "pair", "instance")
# Far above what anyone trains with, and below what a machine or a library ends in silence or for hours with.
MAX_SEED = 2**63 - 1
MAX_EPOCHS = 1_000_000
MAX_BATCH_SIZE = 2**20
MAX_IMAGE_SIZE = 4096
MAX_WORKERS = 256
MAX_THREADS = 1024
MAX_FOLDS = 1000
NEEDS_OF_A_SPLIT = frozenset({"delta", "score"})


def _as_text(options: Any) -> Any:
    """`rho = 0.9` in a file means what `rho=0.9` means as a flag."""
    if not isinstance(options, Mapping):
        return options
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in options.items()
    }


SideOptimizer = Literal["adamw", "adam", "sgd"]
"""Of the reweighter and of the splitter; sgd is without Nesterov."""
KeyValues = Annotated[dict[str, str], BeforeValidator(_as_text)]


@dataclass(frozen=True, kw_only=True)
class InPlay:
    """What a run is made of, as far as it decides which settings have an effect.

    split, uses: as the method declares them (MethodSpec). split_needs: what the split strategy says of
    `delta` and `score` (SplitSpec). makes_split: whether a split is all that is made, by that strategy.
    """

    split: str
    uses: frozenset[str] = frozenset()
    split_needs: frozenset[str] = NEEDS_OF_A_SPLIT
    makes_split: bool = False


class Section(BaseModel):
    """Settings of one owner. Unknown keys are errors; instances are immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    panel: ClassVar[str]
    """The heading of its flags."""

    def without_effect(self, in_play: InPlay) -> dict[str, str]:
        """The settings of this section that change nothing, each with what to say behind "has no effect"."""
        return {}


class DataSettings(Section):
    """Which data: for `data/source.py`, and how images become batches."""

    panel: ClassVar[str] = "Data"

    dataset: str = Field("digits", description="Dataset: NAME or NAME:ARGUMENT (see `molere plugins`).")
    dataset_option: KeyValues = Field({}, description="Option of the dataset.")
    data_seed: int = Field(0, description="Seed of colours, hold-outs and sub-samples.", ge=0, le=MAX_SEED)
    data_dir: Path = Field(Path("data"), description="Where downloaded datasets live.")
    download: bool = Field(False, description="Download the dataset if it is missing.")
    limit_train: int | None = Field(
        None, description="Train on a stratified sub-sample of this many examples in all.", ge=2
    )
    class_skew: float = Field(
        1.0,
        description=(
            "Thin out the pool to an exponential long tail: the first class has so many times the last one's."
        ),
        ge=1,
    )
    colour_patch: float | None = Field(
        None,
        description=(
            "Put a patch on every image whose colour tells the label for this share (rho) of every "
            "class of the pool, and not in tests."
        ),
        ge=0,
        le=1,
    )
    label_noise: str = Field(
        "none",
        description=(
            "Label noise of the pool: none, uniform, flip, pair, instance, or a CSV file of index,label."
        ),
    )
    noise_rate: float = Field(
        0.4, description="Share of every class that label noise draws anew.", ge=0, le=1
    )
    tuning: float | None = Field(
        None,
        description=(
            "Hold out this share of every class of the pool as a tuning set, where the dataset has none."
        ),
        gt=0,
        le=0.5,
    )
    image_size: int | None = Field(
        None,
        description="Resize images to this many pixels a side (default: as they are).",
        ge=4,
        le=MAX_IMAGE_SIZE,
    )
    crop_mode: Literal["auto", "squash", "center"] = Field(
        "auto",
        description=(
            "How an image gets to --image-size, in training and in testing: squash, all of it with its sides "
            "stretched, or center, its middle with sides as they are; auto: what the dataset recommends."
        ),
    )
    preprocessing: Literal["auto", "dataset"] = Field(
        "auto",
        description=(
            "auto: where the classifier starts from pretrained weights, images are sized, cropped and "
            "normalised as these expect it; dataset: as the dataset recommends in any case."
        ),
    )
    augment: Literal["auto", "none", "crop", "crop-flip"] = Field(
        "auto", description="Training augmentation; auto: what the dataset recommends."
    )
    rand_augment: int | None = Field(
        None,
        description="Also change training images by two operations of this magnitude, say 9 (RandAugment).",
        ge=0,
        le=30,
    )
    random_erasing: float = Field(
        0.0,
        description="Also blank a random rectangle of a training image, with this probability.",
        ge=0,
        le=1,
    )
    check: Literal["headers", "full", "none"] = Field(
        "headers",
        description=(
            "Look at every image file before training: its header, and the rest where its end looks cut off; "
            "full decodes all of them."
        ),
    )
    workers: int = Field(2, description="Decoding processes for datasets that stream.", ge=0, le=MAX_WORKERS)

    @field_validator("label_noise")
    @classmethod
    def _known_noise(cls, value: str) -> str:
        if value in NOISE_KINDS or value.endswith(NOISE_SUFFIX):
            return value
        raise ValueError(f"must be one of {', '.join(NOISE_KINDS)}, or a {NOISE_SUFFIX} file")

    @field_validator("augment", mode="before")
    @classmethod
    def _one_image_an_example(cls, value: Any) -> Any:
        if str(value).lower() in {"mixup", "cutmix"}:
            raise ValueError(
                f"cannot be {value}: its images are of two examples each, and a weight belongs to one; use "
                "crop-flip, rand_augment = 9 or random_erasing = 0.25"
            )
        return value

    @property
    def dataset_name(self) -> str:
        """The dataset without its argument."""
        return self.dataset.partition(":")[0]

    @property
    def noise_is_file(self) -> bool:
        return self.label_noise.endswith(NOISE_SUFFIX)

    def without_effect(self, in_play: InPlay) -> dict[str, str]:
        idle = {}
        if self.image_size is None:
            idle["crop_mode"] = " without --image-size, where images stay as they are"
        if self.label_noise == "none" or self.noise_is_file:
            instead = "use uniform, flip, pair or instance, or leave it out"
            idle["noise_rate"] = f" and --label-noise {self.label_noise}; {instead}"
        return idle


class ClassifierSettings(Section):
    """The network and how it is trained: for the loop, the optimizer and the schedule."""

    panel: ClassVar[str] = "Classifier"

    backbone: str = Field("small_cnn", description="Backbone: NAME or FAMILY:NAME.")
    backbone_option: KeyValues = Field({}, description="Option of the backbone.")
    init_from: Path | None = Field(None, description="Start the classifier from this .safetensors file.")
    freeze_backbone: bool = Field(False, description="Train the classification layer alone (linear probing).")
    cache_features: bool = Field(
        True,
        description=(
            "Under --freeze-backbone, pass each image through the backbone once, unaugmented, and keep its "
            "features, also for later commands."
        ),
    )
    epochs: int = Field(40, description="Passes over the training examples.", ge=1, le=MAX_EPOCHS)
    batch_size: int = Field(64, description="Training examples a step.", ge=2, le=MAX_BATCH_SIZE)
    accumulate: int = Field(
        1,
        description=(
            "Take each step's examples in so many chunks, one after another, for a fraction of the memory."
        ),
        ge=1,
        le=MAX_BATCH_SIZE // 2,
    )
    optimizer: str = Field(
        "momentum", description="timm optimizer; momentum: SGD without Nesterov, sgd: with."
    )
    lr: float = Field(0.05, description="Peak learning rate.", gt=0)
    momentum: float = Field(0.9, description="Momentum of SGD.", ge=0, lt=1)
    weight_decay: float = Field(0.0005, description="Weight decay.", ge=0)
    weight_decay_filter: bool = Field(
        False, description="Spare biases and norms from weight decay (timm's default)."
    )
    layer_decay: float | None = Field(
        None,
        description="Learning rate of a layer as a share of that of the next one, towards the input.",
        gt=0,
        le=1,
    )
    clip_grad: float | None = Field(None, description="Clip gradients to this norm.", gt=0)
    ema: float | None = Field(
        None,
        description=(
            "Keep an exponential moving average of the weights with this decay, say 0.999, tested beside the "
            "weights themselves."
        ),
        gt=0,
        lt=1,
    )
    schedule: Literal["cosine", "step", "constant"] = Field(
        "cosine", description="Learning-rate schedule, stepped once an epoch."
    )
    lr_decay_epochs: int = Field(
        50, description="Epochs between divisions by ten under --schedule step.", ge=1, le=MAX_EPOCHS
    )
    lr_warmup_epochs: int = Field(
        0, description="Epochs in which the learning rate rises linearly.", ge=0, le=MAX_EPOCHS
    )

    def without_effect(self, in_play: InPlay) -> dict[str, str]:
        idle = {} if self.freeze_backbone else {"cache_features": " without --freeze-backbone"}
        if self.schedule == "step":
            return idle
        return idle | {
            "lr_decay_epochs": f" and --schedule {self.schedule}; use --schedule step or leave it out"
        }


class SelectionSettings(Section):
    """Which epoch's classifier counts, and when training stops: for `training/model_selection.py`."""

    panel: ClassVar[str] = "Selection"

    select: Literal["last", "best"] = Field(
        "last",
        description="The classifier that counts: of the last epoch, or of the best one on the tuning set.",
    )
    select_by: Literal["accuracy", "worst_class", "worst_group"] = Field(
        "accuracy", description="What best means, for --select and --patience."
    )
    patience: int | None = Field(
        None,
        description="Stop once so many epochs in a row were no better on the tuning set (default: never).",
        ge=1,
        le=MAX_EPOCHS,
    )

    @property
    def needs_tuning(self) -> bool:
        """Whether the tuning set is looked at after every epoch."""
        return self.select == "best" or self.patience is not None

    def without_effect(self, in_play: InPlay) -> dict[str, str]:
        if self.needs_tuning:
            return {}
        return {"select_by": f" and --select {self.select}; use --select best or --patience, or leave it out"}


# What docs/concepts/results.md measured, at one setting for all data: the split, the reweighter and its
# interval. Of the others from here to the splitter docs/dev/results-history.md has the measurements, on
# colour-digits: validation examples kept in training, scale-free hypergradients, softmax weights. Learning
# rates came out best or within noise of the best on the tuning set.


class MethodSettings(Section):
    """Which method."""

    panel: ClassVar[str] = "Method"

    method: str = Field(
        "lrw", description="Method: erm, lrw, molere, or a plugin's; several with commas between."
    )
    method_option: KeyValues = Field({}, description="Option of the method.")


class SplitSettings(Section):
    """Which examples are validation, and whether they train too: for `hardness/make_split.py` and methods."""

    panel: ClassVar[str] = "Split"

    split: str = Field(
        "auto",
        description=(
            "Split: a strategy (NAME or NAME:ARGUMENT), or a split file (.parquet); for molere the one that "
            "its splitter starts from, or none."
        ),
    )
    delta: float = Field(0.1, description="Fraction of the pool that goes to validation.", gt=0, le=0.5)
    score: Literal["aum", "early-aum", "margin", "oof-margin", "loss", "el2n", "forgetting"] = Field(
        "aum", description="Hardness score that strategies rank by."
    )
    folds: int = Field(5, description="Folds of oof-margin.", ge=2, le=MAX_FOLDS)
    train_on: Literal["all", "train"] = Field(
        "all", description="Train on the whole pool, or on the split's training part alone."
    )

    @property
    def split_is_file(self) -> bool:
        return self.split.endswith(SPLIT_SUFFIX)

    def is_needed(self, in_play: InPlay) -> bool:
        """Whether a split must be made or read before training."""
        return (
            in_play.split == "required"
            or (in_play.split == "optional" and self.train_on == "train")
            or (in_play.split == "start" and self.split != NO_START)
        )

    def without_effect(self, in_play: InPlay) -> dict[str, str]:
        idle = {}
        if in_play.split == "none" and "reweighter" not in in_play.uses:
            idle["train_on"] = ""
        if not self.is_needed(in_play) and in_play.split != "start":
            idle["split"] = (
                " on the whole pool; add --train-on train, or leave it out"
                if in_play.split == "optional"
                else ""
            )
        return idle | self._idle_choice(in_play)

    def _idle_choice(self, in_play: InPlay) -> dict[str, str]:
        """Of what says which examples are chosen, and by what."""
        needs = in_play.split_needs
        reason = "; leave it out" if in_play.makes_split else f" and --split {self.split}; leave it out"
        if not self.is_needed(in_play):
            needs, reason = frozenset(), ""
        elif self.split_is_file:
            needs, reason = frozenset(), f": the split file {self.split!r} has settled it; leave it out"
        idle = {name: reason for name in ("delta", "score") if name not in needs}
        if "splitter" in in_play.uses:
            idle.pop("delta", None)
        if "score" in idle:
            idle["folds"] = reason
        elif self.score != "oof-margin":
            idle["folds"] = f" and --score {self.score}; use --score oof-margin or leave it out"
        return idle


class ReweightingSettings(Section):
    """How weights are learned: for `methods/reweighting.py`."""

    panel: ClassVar[str] = "Reweighting"

    reweighter: str = Field("hardness", description="Reweighter.")
    reweighter_option: KeyValues = Field({}, description="Option of the reweighter.")
    reweighter_lr: float | None = Field(
        None,
        description=(
            "Learning rate of the reweighter (default: the reweighter's own; `instance`: 0.05, "
            "less if the pool has more than 16 batches)."
        ),
        gt=0,
    )
    reweighter_optimizer: SideOptimizer = Field(
        "adamw", description="Optimizer of the reweighter; the paper: sgd."
    )
    reweighter_momentum: float = Field(0.0, description="Momentum of --reweighter-optimizer sgd.", ge=0, lt=1)
    reweighter_weight_decay: float = Field(
        0.0, description="Weight decay of the reweighter, which pulls weights towards 1.", ge=0
    )
    reweighter_interval: int = Field(
        5, description="Classifier steps between meta-updates (Q).", ge=1, le=2**31
    )
    warmup_epochs: int | None = Field(
        None,
        description=(
            "Epochs before the first meta-update (default: a twentieth of all; none for `hardness` with a "
            "split made beforehand)."
        ),
        ge=0,
        le=MAX_EPOCHS,
    )
    meta_batch_size: int | None = Field(
        None,
        description="Validation examples a meta-update (default: the batch size).",
        ge=2,
        le=MAX_BATCH_SIZE,
    )
    hypergradient: Literal["auto", "dual"] = Field(
        "auto",
        description=(
            "How single examples' gradients are met: auto, by what the layers saw in the step where examples "
            "do not mix (faster, more memory), else by a dual pass."
        ),
    )
    hypergradient_scale: Literal["batch", "none"] = Field(
        "batch",
        description="Divide the hypergradient by its mean absolute value over the batch, or leave it.",
    )
    weight_normalization: Literal["mean", "none"] = Field(
        "mean", description="exp(log-weight) over its batch mean, or a plain sigmoid of it."
    )
    weight_bound: float | None = Field(
        None,
        description=(
            "Keep exp(log-weight) within [1/b, b] before normalisation (default: the reweighter's own; "
            "none but for loss)."
        ),
        gt=1,
    )
    weight_cap: float | None = Field(
        None,
        description=(
            "Largest learned weight, 1 being the mean (default: none; for `hardness`, what an example counts "
            "in a pool of nothing but what validation represents)."
        ),
        ge=1,
    )
    weight_floor: float | None = Field(
        None,
        description=(
            "Share of every weight that is 1 and not learned (default: 0; for `hardness`, a half where the "
            "split leaves the rest of the pool in its rights, as the hard ones do)."
        ),
        ge=0,
        lt=1,
    )

    weight_spread: float | None = Field(
        None,
        description=(
            "Scale the log-weights of every batch to this standard deviation: for experiments on what "
            "weights do, not for gains."
        ),
        ge=0,
    )

    def without_effect(self, in_play: InPlay) -> dict[str, str]:
        if "reweighter" not in in_play.uses:
            return dict.fromkeys(type(self).model_fields, "")
        idle = _idle_momentum("reweighter", self.reweighter_optimizer)
        if self.weight_normalization == "none":
            # They hold a mean of 1, which a sigmoid has not.
            reason = " and --weight-normalization none; leave it out"
            idle |= {"weight_cap": reason, "weight_floor": reason}
        return idle


class SplitterSettings(Section):
    """How the split is learned: for `methods/splitter.py`."""

    panel: ClassVar[str] = "Splitter"

    splitter: Literal["features", "image"] = Field(
        "features", description="What the splitter sees, beside the label."
    )
    splitter_lr: float = Field(0.001, description="Learning rate of the splitter.", gt=0)
    splitter_optimizer: SideOptimizer = Field(
        "adam", description="Optimizer of the splitter; the paper: sgd."
    )
    splitter_momentum: float = Field(0.0, description="Momentum of --splitter-optimizer sgd.", ge=0, lt=1)
    splitter_interval: int = Field(1, description="Epochs between splitter updates (K).", ge=1, le=MAX_EPOCHS)
    membership: Literal["quota", "threshold"] = Field(
        "quota", description="The hardest delta of each class, or P(validation) > 0.5 capped at delta."
    )
    val_loss_factor: float = Field(1.0, description="Factor of the splitter's validation-loss term.", ge=0)

    def without_effect(self, in_play: InPlay) -> dict[str, str]:
        if "splitter" not in in_play.uses:
            return dict.fromkeys(type(self).model_fields, "")
        return _idle_momentum("splitter", self.splitter_optimizer)


def _idle_momentum(whose: str, optimizer: str) -> dict[str, str]:
    if optimizer == "sgd":
        return {}
    reason = f" and --{whose}-optimizer {optimizer}; use --{whose}-optimizer sgd or leave it out"
    return {f"{whose}_momentum": reason}


class Interval(NamedTuple):
    """A number of steps, or of seconds; the other is None."""

    steps: int | None
    seconds: int | None


INTERVAL = re.compile(r"([1-9][0-9]{0,8})(steps|s|m|h)")
SECONDS = {"s": 1, "m": 60, "h": 3600}


class MachineSettings(Section):
    """Chance, device and how often to look."""

    panel: ClassVar[str] = "Machine"

    seed: int = Field(0, description="Seed of everything but the data.", ge=0, le=MAX_SEED)
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1...")
    precision: Literal["auto", "fp32", "tf32", "bf16"] = Field(
        "auto", description="auto: bf16 where the hardware has units for it."
    )
    deterministic: bool = Field(
        False, description="The same bits in every run on a GPU, at some cost in time (a CPU does so anyway)."
    )
    threads: int | None = Field(
        None, description="CPU threads (default: torch's choice).", ge=1, le=MAX_THREADS
    )
    eval_interval: int = Field(
        0,
        description="Epochs between evaluations on the test sets; 0: at the end alone.",
        ge=0,
        le=MAX_EPOCHS,
    )
    checkpoint_every: str = Field(
        "10m",
        description=(
            "Time or steps between checkpoints within an epoch, as in 90s, 10m, 2h or 200steps; there is one "
            "at the end of every epoch, too."
        ),
    )

    thumbnails: bool = Field(
        True, description="Keep small pictures of up to a thousand images in the run, for reports."
    )

    @field_validator("checkpoint_every")
    @classmethod
    def _is_interval(cls, value: str) -> str:
        if INTERVAL.fullmatch(value):
            return value
        raise ValueError("must be a number with a unit, as in 90s, 10m, 2h or 200steps")

    @property
    def checkpoint_interval(self) -> Interval:
        found = INTERVAL.fullmatch(self.checkpoint_every)
        assert found is not None
        number, unit = int(found[1]), found[2]
        return Interval(number, None) if unit == "steps" else Interval(None, number * SECONDS[unit])
