"""From a plan and its data to an engine: classifier, optimizer, method and loop, ready to run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from molere_cli.config.device import set_arithmetic
from molere_cli.config.plan import Plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.feed import FeatureFeed, Feed, FeedSettings, make_feed
from molere_cli.data.source import LoadedDataset, load_other_dataset
from molere_cli.engine.classifier import Classifier, build_backbone, build_classifier
from molere_cli.engine.layers import classification_layer
from molere_cli.engine.loop import TrainingLoop
from molere_cli.engine.method import Method, TrainingContext
from molere_cli.engine.optimizer import build_optimizer
from molere_cli.engine.random_state import isolated_randomness
from molere_cli.engine.start import load_weights
from molere_cli.engine.third_party import checked_method, watch_forward
from molere_cli.foundation.errors import ConfigError, SplitError
from molere_cli.foundation.files import same_fingerprint
from molere_cli.foundation.randomness import derived_seed
from molere_cli.foundation.ranks import ALONE, Ranks
from molere_cli.methods.splitter import FeaturesSplitter, ImageSplitter
from molere_cli.methods.weight_limits import why_nothing_is_learned
from molere_cli.registry.specs import BackboneRequest, Examples, MethodSpec, ReweighterRequest
from molere_cli.splits.split_file import Split, SplitInfo
from molere_cli.training.frozen_features import HeadStart, with_features
from molere_cli.training.input_preprocessing import described, feed_settings, input_of_weights


@dataclass(frozen=True, eq=False)
class Engine:
    """Everything of one run that lives in memory."""

    plan: Plan
    data: LoadedDataset
    feed: Feed
    feed_settings: FeedSettings
    classifier: Classifier
    loop: TrainingLoop
    trains_as_erm: str | None = None
    """Why no weight is learned although the method would learn some; None where it does, or has none."""


def build_engine(
    plan: Plan,
    data: LoadedDataset,
    in_validation: Tensor | None,
    *,
    validation: Examples | None = None,
    split: Split | None = None,
    ranks: Ranks = ALONE,
    note: Callable[[str], None] | None = None,
    blank_features: bool = False,
) -> Engine:
    """Build classifier, optimizer, method and loop; every network starts from a seed of its own.

    Args:
        validation: the validation examples, where they are those of another dataset.
        split: what `in_validation` is of, with its scores and what it represents.
        ranks: the processes that train it together.
        note: told what a user should know of how the classifier starts, and what a method has to say.
        blank_features: where features would be kept, have zeros instead, and look at no image.
    """
    plan = plan.for_pool(len(data.dataset.pool))
    context = training_context(
        plan,
        data,
        in_validation,
        validation=validation,
        split=split,
        ranks=ranks,
        note=note,
        blank_features=blank_features,
    )
    method = make_method(plan.method, context)
    check_chunks(plan.config, method, num_ranks=ranks.size)
    loop = TrainingLoop(
        plan.config.classifier,
        seed=plan.config.machine.seed,
        classifier=context.classifier,
        optimizer=context.optimizer,
        feed=context.feed,
        method=method,
    )
    return Engine(
        plan,
        data,
        context.feed,
        context.feed.settings,
        context.classifier,
        loop,
        trains_as_erm=why_nothing_is_learned(context),
    )


def make_method(spec: MethodSpec, context: TrainingContext) -> Method:
    """The method; a third party's is checked in all it does.

    Raises:
        PluginError: a third party's cannot be built.
    """
    method: Method = spec.expected(spec.build(context), Method, hook="build")
    method.spec = spec
    return method if spec.plugin is None else checked_method(method, spec, context)


def check_chunks(config: RunConfig, method: Method, *, num_ranks: int) -> None:
    """Raise ConfigError if steps cannot be taken in as many chunks as `--accumulate` asks for."""
    num_chunks, batch_size = config.classifier.accumulate, config.classifier.batch_size
    if num_chunks == 1:
        return
    if method.batch_parts == "whole":
        name = config.method.method
        raise ConfigError(f"--method {name} needs each batch as a whole; leave --accumulate out")
    if batch_size < 2 * num_chunks * num_ranks:
        by_all = f" for each of {num_ranks} processes" if num_ranks > 1 else ""
        raise ConfigError(
            f"--accumulate {num_chunks}{by_all} leaves less than two examples a chunk of --batch-size "
            f"{batch_size}; use --accumulate {max(1, batch_size // num_ranks // 2)} or less"
        )


def training_context(
    plan: Plan,
    data: LoadedDataset,
    in_validation: Tensor | None,
    *,
    validation: Examples | None = None,
    split: Split | None = None,
    ranks: Ranks = ALONE,
    note: Callable[[str], None] | None = None,
    blank_features: bool = False,
) -> TrainingContext:
    """What a method is built from: the pool's feed, classifier and optimizer, and how to make the rest."""
    config = plan.config
    if config.machine.threads:
        torch.set_num_threads(config.machine.threads)
    set_arithmetic(plan.device, plan.precision, deterministic=config.machine.deterministic)
    settings = replace(feed_settings(plan, data), ranks=ranks)
    if note is not None and input_of_weights(plan) is not None:
        note(f"images become the input that the weights expect: {described(settings)}")
    classifier = make_classifier(plan, data, settings.image_size, ranks=ranks, note=note)
    note = note or (lambda message: None)
    settings = with_features(plan, classifier, settings, ranks=ranks, note=note, blank=blank_features)
    feed, start = make_feed(data.dataset.pool, settings), None
    if isinstance(feed, FeatureFeed):
        start = HeadStart.of(classifier, _other_classifier(plan, data, settings.image_size), feed.features)
        start.put_into(classifier)
    return TrainingContext(
        config=config,
        options=plan.method_options,
        classifier=classifier,
        optimizer=build_optimizer(config.classifier, classifier.module, scales=classifier.head_scales),
        feed=feed,
        labels=data.dataset.pool.labels,
        groups=data.dataset.pool.groups,
        clean_labels=data.dataset.pool.clean_labels,
        num_classes=data.num_classes,
        in_validation=in_validation if validation is None else None,
        validation_feed=None if validation is None else make_feed(validation, settings),
        split=split,
        reweighter=plan.reweighter,
        make_classifier=partial(make_classifier, plan, data, settings.image_size, head_start=start),
        make_reweighter=partial(_make_reweighter, plan, data, classifier, settings.image_size, split),
        make_splitter=partial(_make_splitter, plan, data, classifier, settings.image_size),
        note=note,
    )


def make_classifier(
    plan: Plan,
    data: LoadedDataset,
    image_size: tuple[int, int],
    *,
    ranks: Ranks = ALONE,
    note: Callable[[str], None] | None = None,
    head_start: HeadStart | None = None,
) -> Classifier:
    """The classifier as it is before training: random, or from the file that the configuration names.

    Raises:
        ConfigError: that file cannot be read, or belongs to another network.
    """
    classifier = make_empty_classifier(plan, data.num_classes, image_size)
    classifier.ranks = ranks
    if plan.config.classifier.init_from is not None:
        found = load_weights(
            classifier.module, plan.config.classifier.init_from, backbone=plan.config.classifier.backbone
        )
        if found is not None and note is not None:
            note(found)
    elif (
        note is not None
        and plan.config.classifier.freeze_backbone
        and _starts_at_random(classifier, plan, data, image_size)
    ):
        note(
            "--freeze-backbone keeps features that are random here; give --init-from, or a backbone with "
            "pretrained ones"
        )
    if head_start is not None:
        classifier.take_features(image_size)
        head_start.put_into(classifier)
    return classifier


def _starts_at_random(
    classifier: Classifier, plan: Plan, data: LoadedDataset, image_size: tuple[int, int]
) -> bool:
    """Whether a fresh classifier's features depend on chance: pretrained ones do not, whoever gave them."""
    other = _other_classifier(plan, data, image_size)
    layer = {id(parameter) for parameter in classification_layer(classifier.module).parameters()}
    return any(
        id(own) not in layer and not torch.equal(own, others)
        for own, others in zip(classifier.module.parameters(), other.module.parameters(), strict=True)
    )


def _other_classifier(plan: Plan, data: LoadedDataset, image_size: tuple[int, int]) -> Classifier:
    """As the classifier before training, but for what is random, which is otherwise."""
    other = make_empty_classifier(plan, data.num_classes, image_size, purpose="another classifier")
    if (path := plan.config.classifier.init_from) is not None:
        load_weights(other.module, path, backbone=plan.config.classifier.backbone)
    return other


def make_empty_classifier(
    plan: Plan, num_classes: int, image_size: tuple[int, int], *, purpose: str = "classifier"
) -> Classifier:
    """The classifier with random parameters, to put a checkpoint's into.

    purpose: what its seed is derived for; another one gives other random parameters.
    """
    request = BackboneRequest(num_classes=num_classes, image_size=image_size, options=plan.backbone_options)
    with isolated_randomness(plan.device):
        torch.manual_seed(derived_seed(plan.config.machine.seed, purpose))
        return build_classifier(
            plan.backbone,
            request,
            device=plan.device,
            precision=torch.bfloat16 if plan.precision == "bf16" else torch.float32,
            freeze_backbone=plan.config.classifier.freeze_backbone,
            accumulate=plan.config.classifier.accumulate,
        )


def _feature_dim(classifier: Classifier, image_size: tuple[int, int]) -> int:
    features = classifier.predict(classifier.blank(image_size), with_features=True).features
    assert features is not None
    return features.shape[1]


def _make_reweighter(
    plan: Plan,
    data: LoadedDataset,
    classifier: Classifier,
    image_size: tuple[int, int],
    split: Split | None,
) -> nn.Module:
    spec = plan.reweighter
    assert spec is not None
    wants_features = spec.needs_features
    request = ReweighterRequest(
        num_examples=len(data.dataset.pool),
        num_classes=data.num_classes,
        feature_dim=_feature_dim(classifier, image_size) if wants_features else None,
        options=plan.reweighter_options,
        hardness=split.hardness if spec.needs_hardness and split is not None else None,
        hardness_is_margin=spec.needs_hardness and split is not None and split.hardness_is_margin,
    )
    with isolated_randomness(plan.device):
        torch.manual_seed(derived_seed(plan.config.machine.seed, "reweighter"))
        reweighter = spec.expected(spec.build(request), nn.Module, hook="build")
    return watch_forward(reweighter.to(plan.device), spec)


def _make_splitter(
    plan: Plan, data: LoadedDataset, classifier: Classifier, image_size: tuple[int, int]
) -> nn.Module:
    feature_dim = _feature_dim(classifier, image_size)
    with isolated_randomness(plan.device):
        torch.manual_seed(derived_seed(plan.config.machine.seed, "splitter"))
        if plan.config.splitter.splitter == "features":
            return FeaturesSplitter(feature_dim, data.num_classes)
        request = BackboneRequest(
            num_classes=data.num_classes, image_size=image_size, options=plan.backbone_options
        )
        backbone = build_backbone(plan.backbone, request).to(memory_format=torch.channels_last)
        return ImageSplitter(backbone, feature_dim, data.num_classes)


def engine_on_split(
    plan: Plan,
    data: LoadedDataset,
    split: Split | None,
    *,
    ranks: Ranks = ALONE,
    note: Callable[[str], None] | None = None,
) -> Engine:
    """The engine with the split's validation examples, of the pool or of another dataset.

    Args:
        ranks: the processes that train it together.
        note: told what a user should know of how the classifier starts.

    Raises:
        SplitError: that other dataset is not what the split was made with.
    """
    if split is None:
        return build_engine(plan, data, None, ranks=ranks, note=note)
    validation = ranks.after_first(lambda: _other_validation(plan, data, split.info))
    return build_engine(
        plan, data, split.in_validation, validation=validation, split=split, ranks=ranks, note=note
    )


def _other_validation(plan: Plan, data: LoadedDataset, info: SplitInfo) -> Examples | None:
    if info.val_dataset is None:
        return None
    other = load_other_dataset(
        plan.config.data, data, plan.registry, info.val_dataset, {}, purpose="validate"
    )
    if not same_fingerprint(other.fingerprint, str(info.val_fingerprint)):
        raise SplitError(
            f"dataset {info.val_dataset!r}, which the split validates on, has changed since it was made: "
            f"fingerprint {other.fingerprint}, recorded {info.val_fingerprint}; make a new split"
        )
    return other.dataset.pool
