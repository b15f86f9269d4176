"""What crosses the plugin line: the records that a plugin registers and the requests it gets.

Nothing here imports torch, so that a plugin can register at no cost. It gives what needs torch as a string,
`package.module:attribute` (`Reference`), or imports torch inside its function.
Shapes: N examples of a pool, B of a batch, C classes, D features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict

from molere_cli.registry.references import Call, Reference, Spec

if TYPE_CHECKING:
    from torch import BoolTensor, Generator, Tensor, nn


class Options(BaseModel):
    """Base of a plugin's own options, given as `KEY=VALUE` flags; an unknown key is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


# --- backbones


@dataclass(frozen=True, kw_only=True)
class BackboneRequest:
    """What a backbone is built for: `image_size` is (height, width) in pixels, 3 channels."""

    num_classes: int
    image_size: tuple[int, int]
    options: Any


@dataclass(frozen=True, kw_only=True)
class PretrainedInput:
    """How an image becomes what pretrained weights were trained on, as timm's data configuration has it.

    image_size: (height, width) in pixels. mean, std: of pixels in [0, 1], per channel. interpolation: timm's
    name of it. crop_share: the part of a resized image's side that is kept, its middle. crop_mode: center,
    the shorter side resized; squash, both, each by itself; border, the longer side resized, with a border.
    """

    image_size: tuple[int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    interpolation: str
    crop_share: float
    crop_mode: Literal["center", "squash", "border"]


def _no_pretrained_input(_options: Any, *, from_file: bool) -> PretrainedInput | None:
    return None


def _no_pretrained_inputs(_name: str, _options: Any, *, from_file: bool) -> PretrainedInput | None:
    return None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BackboneSpec(Spec):
    """One backbone: `build` returns an `nn.Module` from (B, 3, H, W) float32 to (B, C) logits.

    Its penultimate features are the input of its last `nn.Linear`, or of what its `get_classifier()`
    (timm's convention) returns.
    pretrained_input: from the options, how images become the input of the pretrained weights that it starts
    from; None where it starts at random. `from_file` says that weights come from a file, and None then that
    nothing is known of their input.
    """

    kind = "backbone"

    build: Call[Callable[[BackboneRequest], nn.Module]] = Call()
    options: Reference[type[Options]] = Reference(Options)
    pretrained_input: Call[Callable[..., PretrainedInput | None]] = Call(_no_pretrained_input)


def _lists_all(_name: str) -> bool:
    return False


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class BackboneFamily(Spec):
    """Many backbones behind one prefix (`timm:resnet18`), listed and built only when asked for.

    build, pretrained_input: as of a `BackboneSpec`, with the name before the rest.
    has_also: whether a name that is not listed is a member's too, as `resnet18.a1_in1k` is in timm.
    plain_names: whether a member may be asked for without the prefix too. A family whose names another one
    has already does better without: a name that two families offer is an error.
    """

    kind = "backbone family"

    prefix: str
    name: str = field(init=False)
    list_names: Call[Callable[[], Sequence[str]]] = Call()
    build: Call[Callable[[str, BackboneRequest], nn.Module]] = Call()
    has_also: Call[Callable[[str], bool]] = Call(_lists_all)
    options: Reference[type[Options]] = Reference(Options)
    pretrained_input: Call[Callable[..., PretrainedInput | None]] = Call(_no_pretrained_inputs)
    plain_names: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.prefix)

    def members(self) -> Sequence[str]:
        """The names that it lists.

        Raises:
            PluginError: a third party's list fails, or is none.
        """
        return self.expected(self.list_names(), Sequence, hook="list_names")

    def member(self, name: str) -> BackboneSpec:
        """One of them, as if it had been registered singly."""
        unwatched = self.of(None)  # as the member is watched itself

        def build(request: BackboneRequest) -> nn.Module:
            return unwatched.build(name, request)

        def pretrained_input(options: Any, *, from_file: bool) -> PretrainedInput | None:
            return unwatched.pretrained_input(name, options, from_file=from_file)

        member = BackboneSpec(
            name=name,
            description=self.description,
            build=build,
            options=self.options,
            pretrained_input=pretrained_input,
        )
        return member.of(self.plugin)


# --- datasets

# Of the pixels of photographs, in [0, 1], per channel.
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class ImageReader(Protocol):
    """Images too many for memory: decoded one at a time, in worker processes (so: picklable)."""

    def __len__(self) -> int: ...

    def read(self, position: int) -> Tensor:
        """The decoded image, uint8 (3, H, W); raises DataError naming the file if it cannot be read."""

    def identities(self) -> Iterator[bytes]:
        """What the fingerprint covers in place of pixels, in order: say each path and its size.

        A reader whose identities say nothing of what is in its files may have `sample(position)` too, some of
        an image's bytes, as `FolderReader` has: the fingerprint then covers those.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Labelled images.

    images: uint8 (N, 3, H, W) in memory, or an ImageReader of N; labels: int64 (N,);
    groups: int64 (N,) where the dataset has them; in a test or tuning set, -1 is no group and does not count
    for the worst. indices: int64 (N,), the stable index of each example in the full pool (0..N-1 unless
    sub-sampled); clean_labels: int64 (N,), the labels before label noise, None where there is none: for
    analysis, never seen by training.
    """

    images: Tensor | ImageReader
    labels: Tensor
    groups: Tensor | None = None
    indices: Tensor | None = None
    clean_labels: Tensor | None = None

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A training pool, one or more test sets, and what is needed to read them.

    tuning: a set for choosing hyper-parameters, disjoint from pool and tests, where there is one.
    mean, std: of the pixels in [0, 1], per channel. augment: what training does to images by default.
    crop_mode: how one that is not of the network's shape becomes so by default (`DataSettings.crop_mode`).
    among_own_classes: whether predictions of a run that knows more classes count among these alone.
    skipped: how many files or rows were, by why. converted: how many of the images in memory could have
    been read in more than one way, by what they are (`read_picture`). notes: sentences on how the data were
    taken that a user should read.
    """

    pool: Examples
    tests: Mapping[str, Examples]
    class_names: tuple[str, ...]
    tuning: Examples | None = None
    group_names: tuple[str, ...] = ()
    mean: tuple[float, float, float] = (0.5, 0.5, 0.5)
    std: tuple[float, float, float] = (0.25, 0.25, 0.25)
    augment: Literal["none", "crop", "crop-flip"] = "none"
    crop_mode: Literal["squash", "center"] = "squash"
    among_own_classes: bool = False
    skipped: Mapping[str, int] = field(default_factory=dict)
    converted: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class DatasetRequest:
    """`argument` is what follows the colon in `--dataset NAME:ARGUMENT`, None without one; an absolute path
    where the dataset says that it is one.

    for_test: whether only the test sets are wanted. A dataset without a test set of its own then gives all of
    its images as one, instead of holding a part of them out, and needs nothing to train on.
    """

    argument: str | None
    options: Any
    data_seed: int
    data_dir: Path
    download: bool
    for_test: bool = False


@dataclass(frozen=True, kw_only=True)
class DatasetCard:
    """What a page about datasets says of one, in words.

    task: what is told apart. sizes: examples of each part, and pixels. source: how to get it. licence: as its
    makers state it. groups: what its groups are, empty without any. paper: the figure or table it serves.
    """

    task: str
    sizes: str
    source: str = "`--download`"
    licence: str = "none stated"
    groups: str = ""
    paper: str = ""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class DatasetSpec(Spec):
    """One dataset. `argument` names what must follow the colon (`DIR`), None if nothing may;
    `argument_is_path`: it is a path, the same dataset however it is spelled and from wherever.

    `load` raises DataError for what a user can put right. Random choices in it (colours, hold-outs)
    follow `data_seed` alone. card: for documentation; a dataset of the user's own files has none. test_only:
    its pool is its test set, so that nobody trains on it.
    """

    kind = "dataset"

    load: Call[Callable[[DatasetRequest], Dataset]] = Call()
    options: Reference[type[Options]] = Reference(Options)
    argument: str | None = None
    argument_is_path: bool = False
    card: DatasetCard | None = None
    test_only: bool = False


# --- transforms


@dataclass(frozen=True, kw_only=True)
class TransformRequest:
    """What a transform is asked for.

    dataset: its name. seed: of its random choices, the `data_seed`. value: a number, of no meaning where
    none is asked for. argument: a text, such as `gaussian_noise:3`, None without one. num_full: how many
    examples the stable indices of the full pool count.
    """

    dataset: str
    seed: int
    value: float = 0.0
    argument: str | None = None
    num_full: int = 0


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TransformSpec(Spec):
    """A change of a dataset: of its pool, of its test sets, or of both.

    Settings ask for `class-skew`, `colour-patch` and `label-noise` by these names; `molere eval --on
    NAME:ARGUMENT` applies any to a run's test set. `apply` raises ConfigError or DataError for
    what a user can put right.
    """

    kind = "transform"

    apply: Call[Callable[[Dataset, TransformRequest], Dataset]] = Call()


# --- splits


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitRequest:
    """What a strategy chooses by.

    labels: int64 (N,); indices: int64 (N,), the stable index of each example in the full pool.
    clean_labels: int64 (N,), the labels before label noise, None where there is none.
    hardness: float64 (N,), high = hard, None if the strategy needs no score.
    delta: the fraction that goes to validation, of no meaning if the strategy does without it.
    generator: the only source of randomness. argument: what follows the colon in `--split NAME:ARGUMENT`.
    hardness_by: the same by another score that the ERM run has recorded, for a strategy with a score of its
    own. training: the engine's TrainingContext of an ERM run on the pool, for `erm_epochs`; None if the
    strategy needs no training. note: tells the user how it is getting on, one sentence at a time.
    """

    labels: Tensor
    indices: Tensor
    hardness: Tensor | None
    delta: float
    generator: Generator
    clean_labels: Tensor | None = None
    argument: str | None = None
    hardness_by: Callable[[str], Tensor] | None = None
    training: Any = None
    note: Callable[[str], None] = lambda message: None


@dataclass(frozen=True, kw_only=True, eq=False)
class TargetSet:
    """What a strategy has chosen, where there is more to say than which examples are validation.

    in_validation: bool (N,). represented_fraction: of the pool, in (0, 1], that validation represents,
    which may be more than itself: all of it where it was drawn at random (default: its own fraction).
    keeps_base_weight: whether the rest of the pool is to count beside it, as where validation is hard
    (default); not where the rest is suspect. score: by which examples are ranked from now on, where that is
    not the one that `SplitRequest.hardness` is of. finding: one sentence, where the strategy has found
    something out, for the user.
    """

    in_validation: Tensor
    represented_fraction: float | None = None
    keeps_base_weight: bool = True
    score: str | None = None
    finding: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SplitSpec(Spec):
    """A strategy that chooses the validation set: `choose` returns a bool (N,), True = validation, or a
    TargetSet.

    It raises SplitError for what a user can put right. score: the one score that it ranks by, None if
    `--score` says which. needs_delta: whether `--delta` says how many it chooses. needs_training: whether
    `training` of the request is filled. argument: what must follow the colon (`FILE.csv`), None if nothing
    may. argument_is_path: whether that is one, which the request then has absolute. argument_is_dataset:
    whether that names a dataset of the same classes, whose pool is the validation set; `choose` then leaves
    the run's own pool whole.
    """

    kind = "split strategy"

    choose: Call[Callable[[SplitRequest], BoolTensor | Tensor | TargetSet]] = Call()
    needs_score: bool = False
    score: str | None = None
    needs_delta: bool = True
    needs_training: bool = False
    argument: str | None = None
    argument_is_path: bool = False
    argument_is_dataset: bool = False

    @property
    def needs(self) -> frozenset[Literal["delta", "score"]]:
        """Which groups of settings have an effect on it."""
        delta: set[Literal["delta", "score"]] = {"delta"} if self.needs_delta else set()
        takes_score = self.needs_score and self.score is None
        return frozenset(delta | ({"score"} if takes_score else set()))


# --- reweighters


@dataclass(frozen=True, kw_only=True)
class ReweighterRequest:
    """The size of what a reweighter will see; feature_dim is None if it did not ask for features.

    hardness: float64 (num_examples,), high = hard, by the scores that the split was made by; None if the
    reweighter did not ask for it, or the split was made without scores. hardness_is_margin: whether it is
    minus a margin, in [-1, 1].
    """

    num_examples: int
    num_classes: int
    feature_dim: int | None
    options: Any
    hardness: Tensor | None = None
    hardness_is_margin: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class ReweighterInput:
    """A batch as the reweighter sees it; all detached from the classifier.

    positions: int64 (B,) in the pool; images: float32 (B, 3, H, W), normalised and augmented, or None where
    a frozen backbone's features are kept in their place and the spec has no `needs_images`;
    labels: int64 (B,); features: float32 (B, D) or None; losses: float32 (B,), nan under `--accumulate` if
    the spec needs none. hardness_rank: float32 (B,) or None, the place in the class by hardness, in (0, 1),
    0 = hardest: by the split's scores, or by the run so far where it was made without.
    hardness_margin: float32 (B,) in [-1, 1], negative where another class was preferred; None also where the
    scores are no margins.
    """

    positions: Tensor
    images: Tensor | None
    labels: Tensor
    features: Tensor | None
    losses: Tensor
    hardness_rank: Tensor | None = None
    hardness_margin: Tensor | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ReweighterSpec(Spec):
    """`build` returns an `nn.Module` (and may be its class) from a ReweighterInput to log-weights (B,), zero
    at the start, so that training starts at ERM. lr: the Adam learning rate that suits it, or a function that
    gives it from the number of batches that a pass over the pool takes. weight_bound: the `--weight-bound`
    that it needs, None if it does without. limits_weights: whether, unless told otherwise, no example counts
    more than it would in a pool of nothing but what the validation set represents
    (`TargetSet.represented_fraction`).
    needs_warmup: whether it starts from nothing, and so does well to wait for the network's first epochs.
    needs_images: whether `ReweighterInput.images` is looked at. needs_losses: whether `losses` is; else, and
    without features, a step under `--accumulate` costs a forward pass less.
    """

    kind = "reweighter"

    build: Call[Callable[[ReweighterRequest], nn.Module]] = Call()
    lr: Call[float | Callable[[int], float]] = Call()
    weight_bound: float | None = None
    needs_warmup: bool = True
    options: Reference[type[Options]] = Reference(Options)
    needs_images: bool = False
    needs_features: bool = False
    needs_losses: bool = True
    needs_hardness: bool = False
    limits_weights: bool = False


# --- methods


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class MethodSpec(Spec):
    """A way to weight or choose training examples.

    build: from the engine's TrainingContext (and the method's options on it) to a Method: often its class.
    label: how tables call it; `{split}` becomes the split's strategy.
    split: whether it trains against a split that was made beforehand (`optional`: only to leave the
    validation part out of training; `start`: where `--split` was given, to learn its own from there).
    takes_other_validation: whether the validation examples may be those of another dataset
    (`TrainingContext.validation_feed`).
    uses: which groups of settings have an effect; a setting outside them is refused.
    hint: what else to try where the loss is no longer finite, behind `lower --lr or set --clip-grad 1`.
    """

    kind = "method"

    build: Call[Callable[[Any], Any]] = Call()
    label: str
    split: Literal["required", "optional", "start", "none"] = "none"
    takes_other_validation: bool = False
    uses: frozenset[Literal["reweighter", "splitter"]] = field(default_factory=frozenset)
    hint: str = ""
    options: Reference[type[Options]] = Reference(Options)


# --- trackers


@dataclass(frozen=True, kw_only=True)
class TrackerRequest:
    """A run that is to be shown somewhere.

    run: its directory. name: what it is called there. settings: as in `config.json`. out: a folder for
    trackers that write files.
    """

    run: Path
    name: str
    settings: Mapping[str, Any]
    out: Path


class Tracker(Protocol):
    """Takes the records of one run."""

    def log(self, record: Mapping[str, float], *, epoch: int) -> None:
        """The metrics of an epoch, by their names in `metrics.jsonl`; from 0."""

    def close(self) -> None:
        """There are no more."""


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class TrackerSpec(Spec):
    """A place where the metrics of runs are shown; `start` is called once a run."""

    kind = "tracker"

    start: Call[Callable[[TrackerRequest], Tracker]] = Call()
