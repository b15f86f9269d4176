"""The configuration of one run: defaults < file < flags, validated once, saved with the run.

Every field is a flag of `molere train` and a key of `--config run.toml`; its description is the help text.
A field's `needs` names what must be in play for it to have an effect; `effective()` drops the others, and
a setting that was given but has no effect is an error.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    field_validator,
)
from pydantic.fields import FieldInfo

from molere_cli.errors import ConfigError

SPLIT_SUFFIX = ".parquet"
NOISE_SUFFIX = ".csv"
DEFAULT_SPLIT_NEEDS = frozenset({"delta", "score"})
NOISE_KINDS = ("none", "uniform", "flip", "pair", "instance")


def _as_text(options: Any) -> Any:
    """`rho = 0.9` in a file means what `rho=0.9` means as a flag."""
    if not isinstance(options, Mapping):
        return options
    return {
        key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in options.items()
    }


KeyValues = Annotated[dict[str, str], BeforeValidator(_as_text)]


def setting(default: Any, description: str, *, panel: str, needs: str | None = None, **kwargs: Any) -> Any:
    """A field of the configuration, with the help panel it is shown in and what it needs to matter."""
    extra: dict[str, JsonValue] = {"panel": panel, "needs": needs}
    return Field(default, description=description, json_schema_extra=extra, **kwargs)


class RunConfig(BaseModel):
    """All settings of one training run. Unknown keys are errors; instances are immutable."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    dataset: str = setting("digits", "Dataset: NAME or NAME:ARGUMENT (see `molere plugins`).", panel="Data")
    dataset_option: KeyValues = setting({}, "Option of the dataset.", panel="Data")
    data_seed: int = setting(0, "Seed of colours, hold-outs and sub-samples.", panel="Data", ge=0)
    data_dir: Path = setting(Path("data"), "Where downloaded datasets live.", panel="Data")
    download: bool = setting(False, "Download the dataset if it is missing.", panel="Data")
    limit_train: int | None = setting(
        None, "Train on a stratified sub-sample of this many examples in all.", panel="Data", ge=2
    )
    class_skew: float = setting(
        1.0,
        "Thin out the pool to an exponential long tail: the first class has so many times the last one's.",
        panel="Data",
        ge=1,
    )
    colour_patch: float | None = setting(
        None,
        "Put a patch on every image whose colour tells the label for this share (rho) of every class of the "
        "pool, and not in tests.",
        panel="Data",
        ge=0,
        le=1,
    )
    label_noise: str = setting(
        "none",
        "Label noise of the pool: none, uniform, flip, pair, instance, or a CSV file of index,label.",
        panel="Data",
    )
    noise_rate: float = setting(
        0.4,
        "Share of every class that label noise draws anew.",
        panel="Data",
        needs="noise",
        ge=0,
        le=1,
    )
    image_size: int | None = setting(
        None, "Resize images to this many pixels a side (default: as they are).", panel="Data", ge=4
    )
    augment: Literal["auto", "none", "crop", "crop-flip"] = setting(
        "auto", "Training augmentation; auto: what the dataset recommends.", panel="Data"
    )
    workers: int = setting(2, "Decoding processes for datasets that stream.", panel="Data", ge=0)

    backbone: str = setting("small_cnn", "Backbone: NAME or FAMILY:NAME.", panel="Classifier")
    backbone_option: KeyValues = setting({}, "Option of the backbone.", panel="Classifier")
    weights: Path | None = setting(
        None, "Start the classifier from this .safetensors file.", panel="Classifier"
    )
    freeze_backbone: bool = setting(
        False, "Train the classification layer alone (linear probing).", panel="Classifier"
    )
    epochs: int = setting(40, "Passes over the training examples.", panel="Classifier", ge=1)
    batch_size: int = setting(64, "Training examples a step.", panel="Classifier", ge=2)
    optimizer: str = setting(
        "momentum", "timm optimizer; momentum: SGD without Nesterov, sgd: with.", panel="Classifier"
    )
    lr: float = setting(0.05, "Peak learning rate.", panel="Classifier", gt=0)
    momentum: float = setting(0.9, "Momentum of SGD.", panel="Classifier", ge=0, lt=1)
    weight_decay: float = setting(5e-4, "Weight decay.", panel="Classifier", ge=0)
    weight_decay_filter: bool = setting(
        False, "Spare biases and norms from weight decay (timm's default).", panel="Classifier"
    )
    clip_grad: float | None = setting(None, "Clip gradients to this norm.", panel="Classifier", gt=0)
    schedule: Literal["cosine", "step", "constant"] = setting(
        "cosine", "Learning-rate schedule, stepped once an epoch.", panel="Classifier"
    )
    lr_decay_epochs: int = setting(
        50, "Epochs between divisions by ten under --schedule step.", panel="Classifier", needs="step", ge=1
    )
    lr_warmup_epochs: int = setting(
        0, "Epochs in which the learning rate rises linearly.", panel="Classifier", ge=0
    )

    # The defaults from here to the splitter are what docs/results.md measured on colour-digits, where learned
    # reweighting gains: hardness by AUM, validation examples kept in training, early meta-updates, scale-free
    # hypergradients, softmax weights. Learning rates and warm-up came out best or within noise of the best on
    # the tuning set.
    method: str = setting(
        "lrw", "Method: erm, lrw, molere, or a plugin's; several with commas between.", panel="Method"
    )
    method_option: KeyValues = setting({}, "Option of the method.", panel="Method")
    split: str = setting(
        "hard",
        "Split: a strategy (NAME or NAME:ARGUMENT), or a split file (.parquet).",
        panel="Method",
        needs="split",
    )
    delta: float = setting(
        0.1, "Fraction of the pool that goes to validation.", panel="Method", needs="delta", gt=0, le=0.5
    )
    score: Literal["aum", "margin", "oof-margin", "loss", "el2n", "forgetting"] = setting(
        "aum", "Hardness score that strategies rank by.", panel="Method", needs="score"
    )
    folds: int = setting(5, "Folds of oof-margin.", panel="Method", needs="folds", ge=2)
    train_on: Literal["all", "train"] = setting(
        "all",
        "Train on the whole pool, or on the split's training part alone.",
        panel="Method",
        needs="train_on",
    )

    reweighter: str = setting("instance", "Reweighter.", panel="Reweighting", needs="reweighter")
    reweighter_option: KeyValues = setting(
        {}, "Option of the reweighter.", panel="Reweighting", needs="reweighter"
    )
    reweighter_lr: float | None = setting(
        None,
        "Adam learning rate of the reweighter (default: the reweighter's own; `instance`: 0.05, less if the "
        "pool has more than 16 batches).",
        panel="Reweighting",
        needs="reweighter",
        gt=0,
    )
    reweighter_weight_decay: float = setting(
        0.0,
        "Decoupled weight decay of the reweighter, which pulls weights towards 1.",
        panel="Reweighting",
        needs="reweighter",
        ge=0,
    )
    reweighter_interval: int = setting(
        1, "Classifier steps between meta-updates (Q).", panel="Reweighting", needs="reweighter", ge=1
    )
    warmup_epochs: int | None = setting(
        None,
        "Epochs before the first meta-update (default: a twentieth of all).",
        panel="Reweighting",
        needs="reweighter",
        ge=0,
    )
    meta_batch_size: int | None = setting(
        None,
        "Validation examples a meta-update (default: the batch size).",
        panel="Reweighting",
        needs="reweighter",
        ge=2,
    )
    hypergradient_scale: Literal["batch", "none"] = setting(
        "batch",
        "Divide the hypergradient by its mean absolute value over the batch, or leave it.",
        panel="Reweighting",
        needs="reweighter",
    )
    weight_normalization: Literal["mean", "none"] = setting(
        "mean",
        "exp(log-weight) over its batch mean, or a plain sigmoid of it.",
        panel="Reweighting",
        needs="reweighter",
    )
    weight_bound: float | None = setting(
        None,
        "Keep exp(log-weight) within [1/b, b] before normalisation (default: the reweighter's own; none but "
        "for loss).",
        panel="Reweighting",
        needs="reweighter",
        gt=1,
    )

    splitter: Literal["features", "image"] = setting(
        "features", "What the splitter sees, beside the label.", panel="Splitter", needs="splitter"
    )
    splitter_lr: float = setting(
        1e-3, "Adam learning rate of the splitter.", panel="Splitter", needs="splitter", gt=0
    )
    splitter_interval: int = setting(
        1, "Epochs between splitter updates (K).", panel="Splitter", needs="splitter", ge=1
    )
    membership: Literal["quota", "threshold"] = setting(
        "quota",
        "The hardest delta of each class, or P(validation) > 0.5 capped at delta.",
        panel="Splitter",
        needs="splitter",
    )
    val_loss_factor: float = setting(
        1.0, "Factor of the splitter's validation-loss term.", panel="Splitter", needs="splitter", ge=0
    )

    seed: int = setting(0, "Seed of everything but the data.", panel="Machine", ge=0)
    device: str = setting("auto", "auto, cpu, cuda, cuda:1, mps...", panel="Machine")
    precision: Literal["auto", "fp32", "bf16"] = setting(
        "auto", "auto: bf16 where the hardware has units for it.", panel="Machine"
    )
    threads: int | None = setting(None, "CPU threads (default: torch's choice).", panel="Machine", ge=1)
    eval_interval: int = setting(
        0, "Epochs between evaluations on the test sets; 0: at the end alone.", panel="Machine", ge=0
    )

    @field_validator("label_noise")
    @classmethod
    def _known_noise(cls, value: str) -> str:
        if value in NOISE_KINDS or value.endswith(NOISE_SUFFIX):
            return value
        raise ValueError(f"must be one of {', '.join(NOISE_KINDS)}, or a {NOISE_SUFFIX} file")

    @property
    def dataset_name(self) -> str:
        """The dataset without its argument."""
        return self.dataset.partition(":")[0]

    @property
    def noise_is_file(self) -> bool:
        return self.label_noise.endswith(NOISE_SUFFIX)

    @property
    def split_is_file(self) -> bool:
        return self.split.endswith(SPLIT_SUFFIX)

    def groups_in_play(
        self, *, split: str, uses: Collection[str], split_needs: Collection[str] = DEFAULT_SPLIT_NEEDS
    ) -> set[str]:
        """Which `needs` are met, for a method that declares `split` and `uses` (see MethodSpec).

        Args:
            split_needs: what the split strategy says of `delta` and `score` (see SplitSpec).
        """
        groups = set(uses)
        if self.schedule == "step":
            groups.add("step")
        if self.label_noise != "none" and not self.noise_is_file:
            groups.add("noise")
        if split != "none" or "reweighter" in uses:
            groups.add("train_on")
        if split == "required" or (split == "optional" and self.train_on == "train"):
            groups.add("split")
            if not self.split_is_file:
                groups.update(split_needs)
        if "splitter" in uses:
            groups.add("delta")
        if "score" in groups and self.score == "oof-margin":
            groups.add("folds")
        return groups

    def effective(
        self, *, split: str, uses: Collection[str], split_needs: Collection[str] = DEFAULT_SPLIT_NEEDS
    ) -> dict[str, Any]:
        """The settings that have an effect, JSON-ready; raises ConfigError if another was given."""
        groups = self.groups_in_play(split=split, uses=uses, split_needs=split_needs)
        idle = {name for name, info in RunConfig.model_fields.items() if needs(info) not in {None, *groups}}
        if given := sorted(idle & self.model_fields_set):
            flags = ", ".join(flag_name(name) for name in given)
            raise ConfigError(
                f"{flags} has no effect with method {self.method!r}{self._idle_hint(given, split)}"
            )
        return self.model_dump(mode="json", exclude=idle)

    def _idle_hint(self, given: Collection[str], split: str) -> str:
        if {"delta", "score", "folds"} & set(given) and self.split_is_file:
            return f": the split file {self.split!r} has settled it; leave it out"
        if "noise_rate" in given:
            return (
                f" and --label-noise {self.label_noise}; use uniform, flip, pair or instance, or leave it out"
            )
        if given == ["folds"] and self.score != "oof-margin":
            return f" and --score {self.score}; use --score oof-margin or leave it out"
        if {"delta", "score", "folds"} & set(given) and (split == "required" or self.train_on == "train"):
            return f" and --split {self.split}; leave it out"
        if "lr_decay_epochs" in given:
            return f" and --schedule {self.schedule}; use --schedule step or leave it out"
        if "split" in given:
            return " on the whole pool; add --train-on train, or leave it out"
        return "; leave it out or choose another method"

    def updated(self, **changes: Any) -> Self:
        """A validated copy with `changes`; what was given before still counts as given."""
        given = self.model_dump(include=self.model_fields_set)
        return type(self).model_validate({**given, **changes})

    def restricted(self, *, split: str, uses: Collection[str], **changes: Any) -> Self:
        """The same run under another method: settings that it would not use are dropped."""
        changed = self.updated(**changes)
        groups = changed.groups_in_play(split=split, uses=uses)
        kept = {
            name: value
            for name, value in changed.model_dump(include=changed.model_fields_set).items()
            if needs(type(self).model_fields[name]) in {None, *groups}
        }
        return type(self).model_validate(kept)


def completed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a saved run, with those at their defaults that came after it was written."""
    defaults, fields = RunConfig().model_dump(mode="json"), RunConfig.model_fields
    in_play = {None, *(needs(fields[name]) for name in settings if name in fields)}
    return {**{name: defaults[name] for name in fields if needs(fields[name]) in in_play}, **settings}


def needs(info: FieldInfo) -> str | None:
    """What a field needs to have an effect."""
    extra = info.json_schema_extra
    assert isinstance(extra, dict)
    needed = extra["needs"]
    assert needed is None or isinstance(needed, str)
    return needed


def flag_name(field: str) -> str:
    """`train_on` -> `--train-on`."""
    return "--" + field.replace("_", "-")
