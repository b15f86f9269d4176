"""What a frozen backbone makes of images: each is decoded and passed through once, and then kept.

Shapes: N images, D features.
"""

from __future__ import annotations

import hashlib
import math
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, Self

import torch
from torch import Tensor

from molere_cli.config.plan import Plan
from molere_cli.data.feed import Feed, FeedSettings, make_feed
from molere_cli.data.image_digests import image_digests
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.feature_store import FeatureStore
from molere_cli.foundation.errors import TrainingError, WriteError
from molere_cli.foundation.ranks import ALONE, Ranks
from molere_cli.foundation.stopping import stop_if_asked
from molere_cli.registry.specs import Examples
from molere_cli.training.run_environment import describe_input, versions

AGAIN = "the frozen backbone sees every image again in every epoch"
NORM = 100.0
AT_ONCE = 4096
"""Images whose features are written together: what a stopped command has lost at most."""
_OF_THIS_PROCESS: dict[tuple[str, int], tuple[weakref.ref[Any], Tensor]] = {}
"""Features by how they are made and of which images, as long as those live."""


class FrozenFeatures:
    """Features (N, D), float32, of examples: from this process, from the cache, else by a pass.

    Args:
        about: what they depend on beside the image (`how_made`).
        note: told what was computed, and where it is kept.
        blank: give zeros, and look at no image: for timing what comes after.
    """

    def __init__(
        self,
        classifier: Classifier,
        settings: FeedSettings,
        about: dict[str, Any],
        *,
        ranks: Ranks = ALONE,
        note: Callable[[str], None] = lambda _message: None,
        blank: bool = False,
    ) -> None:
        self._classifier = classifier
        self._settings = replace(settings.plain(), features=None, ranks=ALONE)
        self._name = str(about["backbone"])
        self._store = FeatureStore(about, note)
        self._ranks = ranks
        self._note = note
        self._blank = blank
        self._own: dict[int, tuple[Any, Tensor]] = {}

    def __call__(self, examples: Examples) -> Tensor:
        """Raises ImageError if a picture cannot be read, TrainingError if features are not finite."""
        dim = self._classifier.feature_dim
        assert dim is not None
        if self._blank:
            return torch.zeros(len(examples), dim)
        images = examples.images
        if (own := self._own.get(id(images))) is not None:
            return own[1]
        key = (str(self._store.path), id(images))
        known = None if self._ranks.are_several else _OF_THIS_PROCESS.get(key)
        features = known[1] if known is not None and known[0]() is images else self._found(examples, dim)
        with suppress(TypeError):  # a reader that cannot be referred to
            _OF_THIS_PROCESS[key] = weakref.ref(images, lambda _: _OF_THIS_PROCESS.pop(key, None)), features
        # With what they were made from, or those of images that come later might be taken for theirs.
        self._own[id(images)] = images, features
        return features

    def _found(self, examples: Examples, dim: int) -> Tensor:
        digests = self._ranks.decided(lambda: [digest.hex() for digest in image_digests(examples)])
        names = [bytes.fromhex(digest) for digest in digests]
        found = self._from_first(self._ranks.decided(lambda: _packed(self._store.find(names, dim))))
        missing = {name: position for position, name in enumerate(names) if name not in found}
        if missing:
            self._note(f"{len(missing):,} images pass through {self._name} once")
            found |= self._computed(examples, names, sorted(missing.values()))
        return torch.stack([found[name] for name in names])

    def _computed(self, examples: Examples, names: list[bytes], missing: list[int]) -> dict[bytes, Tensor]:
        found, keeps, feed = dict[bytes, Tensor](), True, self.feed(examples)
        for positions in torch.tensor(missing).split(AT_ONCE):
            features = self.computed(feed, positions)
            of_part = [names[position] for position in positions.tolist()]
            found |= zip(of_part, features, strict=True)
            keeps = keeps and self._kept(of_part, features)
        if keeps:
            size = sum(row.nbytes for row in found.values()) / 2**20
            self._note(f"their features are in {self._store.path}, {size:.1f} MiB; `molere cache` lists all")
        return found

    def _from_first(self, packed: tuple[list[str], Tensor]) -> dict[bytes, Tensor]:
        names, features = packed
        return {bytes.fromhex(name): row for name, row in zip(names, features, strict=True)}

    def feed(self, examples: Examples) -> Feed:
        """The images themselves, as the backbone takes them."""
        return make_feed(examples, self._settings)

    def computed(self, feed: Feed, positions: Tensor) -> Tensor:
        """The features of some images of a feed, by a pass through the backbone.

        Raises:
            TrainingError: they are not finite.
        """
        shared = len(positions) >= self._ranks.size
        own = positions[self._ranks.part(len(positions))] if shared else positions
        parts = []
        for batch in feed.evaluation(list(own.split(self._settings.evaluation_batch_size))):
            features = self._classifier.whole_pass(batch.images).features
            assert features is not None
            parts.append(features.cpu())
            stop_if_asked()
        features_ND = torch.cat(parts).clone()  # out of inference mode
        if shared:
            features_ND = self._ranks.gathered(features_ND, len(positions))
        if len(broken := positions[~features_ND.isfinite().all(dim=1)]):
            raise TrainingError(
                f"backbone {self._name!r} gives features that are not finite for {len(broken):,} of "
                f"{len(feed):,} images, the first of them number {int(broken[0])}: its weights or its "
                "--precision do not fit"
            )
        return features_ND

    def _kept(self, names: list[bytes], features: Tensor) -> bool:
        try:
            self._ranks.decided(lambda: self._store.add(names, features))
        except WriteError as error:
            self._note(f"features are not kept for another command: {error}")
            return False
        return True


def _packed(found: dict[bytes, Tensor]) -> tuple[list[str], Tensor]:
    rows = list(found.values())
    return [name.hex() for name in found], torch.stack(rows) if rows else torch.empty(0, 0)


@dataclass(frozen=True)
class HeadStart:
    """How a classification layer starts on features, whatever their scale.

    scale: what brings the features' mean squared distance from their mean to `NORM`. from_zero: whether the
    layer starts at 0, where it would at random: on large features random logits are large, and take most of
    the training to unlearn.
    """

    scale: float
    from_zero: bool

    @classmethod
    def of(cls, classifier: Classifier, other: Classifier, features_ND: Tensor) -> Self:
        """Of a classifier, by another one whose random parameters are others."""
        pairs = zip(classifier.head.parameters(), other.head.parameters(), strict=True)
        variance = float(features_ND.double().var(dim=0, correction=0).sum())
        scale = math.sqrt(NORM / variance) if variance > 0 else 1.0
        return cls(scale, any(not torch.equal(one, another) for one, another in pairs))

    @torch.no_grad()
    def put_into(self, classifier: Classifier) -> None:
        """Before the optimizer is built."""
        matrices = [parameter for parameter in classifier.head.parameters() if parameter.dim() > 1]
        classifier.head_scales = dict.fromkeys(matrices, self.scale)
        if self.from_zero:
            for parameter in classifier.head.parameters():
                parameter.zero_()


def how_made(plan: Plan, classifier: Classifier, settings: FeedSettings) -> dict[str, Any]:
    """Everything that features depend on beside the image, as plain values."""
    return {
        "backbone": plan.config.classifier.backbone,
        "options": plan.backbone_options.model_dump(mode="json"),
        "weights": _digest_of_body(classifier),
        "input": describe_input(settings),
        "precision": plan.precision,
        "device": plan.device.type,
        "versions": versions() | {"pillow": version("pillow")},
    }


def _digest_of_body(classifier: Classifier) -> str:
    """Of all parameters and buffers but those of the classification layer."""
    head = {id(tensor) for tensor in (*classifier.head.parameters(), *classifier.head.buffers())}
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in (*classifier.module.named_parameters(), *classifier.module.named_buffers()):
        if id(tensor) not in head:
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def with_features(
    plan: Plan,
    classifier: Classifier,
    settings: FeedSettings,
    *,
    ranks: Ranks = ALONE,
    note: Callable[[str], None] = lambda _message: None,
    blank: bool = False,
) -> FeedSettings:
    """Settings whose feeds give features, where the backbone is frozen and features can stand in for images;
    the classifier then takes them.

    Args:
        note: told why not, where they could be expected.
        blank: as for `FrozenFeatures`.
    """
    if not (plan.config.classifier.freeze_backbone and plan.config.classifier.cache_features):
        return settings
    if (reason := _why_images_are_needed(plan, settings)) is not None:
        note(f"{AGAIN}: {reason}")
        return settings
    if not classifier.take_features(settings.image_size):
        note(f"{AGAIN}: more than a classification layer makes its logits of its features")
        return settings
    about = how_made(plan, classifier, settings)
    made = FrozenFeatures(classifier, settings, about, ranks=ranks, note=note, blank=blank)
    return replace(settings, features=made)


def _why_images_are_needed(plan: Plan, settings: FeedSettings) -> str | None:
    config = plan.config
    if settings.is_random:
        return "training images are changed at random; `--augment none` would keep features"
    if plan.reweighter is not None and plan.reweighter.needs_images:
        return f"--reweighter {plan.reweighter.name} looks at images"
    if "splitter" in plan.method.uses and config.splitter.splitter == "image":
        return "--splitter image looks at images; `--splitter features` does without"
    return None
