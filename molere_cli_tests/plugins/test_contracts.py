"""The checks for plugin authors: ours pass them, and each finds the mistake that it is there for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from molere_cli import (
    BackboneSpec,
    DataError,
    Dataset,
    DatasetSpec,
    Examples,
    Method,
    MethodSpec,
    PluginError,
    ReweighterSpec,
    SplitSpec,
    TargetSet,
    TrainingError,
    select_by_quota,
)
from molere_cli.registry.registry import load_plugins
from molere_cli.testing import (
    BrokenContract,
    check_backbone,
    check_dataset,
    check_method,
    check_reweighter,
    check_split,
)
from molere_cli.testing.tiny_data import tiny_dataset

INSTALLED = load_plugins()

# --- ours


@pytest.mark.parametrize("name", ["small_cnn", "wrn16_2", "resnet20", "timm:test_resnet", "timm:test_vit"])
def test_our_backbones_keep_the_contract(name):
    check_backbone(name)


@pytest.mark.parametrize("name", ["digits", "colour-digits"])
def test_our_embedded_datasets_keep_the_contract(name):
    check_dataset(name)


@pytest.mark.parametrize(
    "name", [entry.spec.name for entry in INSTALLED.splits.entries if not entry.spec.argument]
)
def test_our_strategies_keep_the_contract(name):
    check_split(name)


@pytest.mark.parametrize("name", [entry.spec.name for entry in INSTALLED.reweighters.entries])
def test_our_reweighters_keep_the_contract(name):
    check_reweighter(name)


SETTINGS = {
    "rho": {"split": "random", "train_on": "train"},
    **{
        name: {"freeze_backbone": True}
        for name in ("logreg", "logreg-robust", "logreg-rare", "logreg-balanced", "dfr")
    },
}
OPTIONS = {"oracle": {"by": "clean"}, "mbr": {"warmup_epochs": 1}, "fsr": {"warmup_epochs": 1}}


@pytest.mark.parametrize(
    "spec", [entry.spec for entry in INSTALLED.methods.entries], ids=lambda spec: spec.name
)
def test_our_methods_keep_the_contract(spec):
    settings = SETTINGS.get(spec.name, {"split": "random"} if spec.split == "required" else {})
    check_method(spec, settings=settings, options=OPTIONS.get(spec.name))


# --- backbones


class Flat(nn.Sequential):
    """A linear network; what is wrong with it goes before, or into `forward`."""

    def __init__(self, request, *before):
        height, width = request.image_size
        super().__init__(*before, nn.Flatten(), nn.Linear(3 * height * width, request.num_classes))


class Unseeded(Flat):
    def __init__(self, request):
        super().__init__(request)
        with torch.no_grad():
            self[-1].bias.fill_(float(np.random.default_rng().random()))


class LooksAtOthers(Flat):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class Noisy(Flat):
    def forward(self, x):
        return super().forward(x + torch.randn_like(x))


class Forgetful(Flat):
    scale = 1.0

    def forward(self, x):
        if self.training:
            self.scale += 0.5
        return super().forward(x * (1.0 if self.training else self.scale))


class Scaled(torch.autograd.Function):
    @staticmethod
    def forward(x):
        return 3 * x

    @staticmethod
    def setup_context(ctx, inputs, output):
        return

    @staticmethod
    def backward(ctx, gradient):
        return 3 * gradient


class WronglyScaled(Scaled):
    @staticmethod
    def jvp(ctx, tangent):
        return 2 * tangent


class Through(Flat):
    function: type[torch.autograd.Function]

    def forward(self, x):
        return self.function.apply(super().forward(x))


class NoForwardMode(Through):
    function = Scaled


class WrongForwardMode(Through):
    function = WronglyScaled


class MovesItself(Flat):
    """By hand, past `functional_call`."""

    def __init__(self, request):
        super().__init__(request)
        self.own = [self[-1].bias]

    def forward(self, x):
        logits = super().forward(x)
        with torch.no_grad():
            self.own[0].data += 0.1 * self.training
        return logits


@pytest.mark.parametrize(
    ("build", "contract"),
    [
        (Unseeded, "start from the same tensors"),
        (LooksAtOthers, "must not depend on the others of its batch"),
        (Noisy, "must be the same each time"),
        (Forgetful, "must be in its state_dict"),
        (NoForwardMode, "must have a forward-mode derivative"),
        (WrongForwardMode, "must be those of reverse mode"),
        (MovesItself, "must leave its parameters and buffers as they were"),
    ],
)
def test_a_backbone_that_breaks_the_contract_is_found(build, contract):
    with pytest.raises(BrokenContract, match=contract) as caught:
        check_backbone(BackboneSpec(name="mine", description="", build=build), image_size=(8, 8))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("backbone 'mine': ")


def test_a_linear_backbone_keeps_the_contract():
    """Or the test above would pass on anything."""
    check_backbone(BackboneSpec(name="mine", description="", build=Flat), image_size=(8, 8))


def test_a_backbone_of_another_shape_is_found():
    spec = BackboneSpec(
        name="mine", description="", build=lambda _: nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    )
    with pytest.raises(TrainingError, match="gives outputs of shape"):
        check_backbone(spec, image_size=(8, 8))


# --- datasets


def unseeded_dataset(request):
    data = tiny_dataset()
    noise = torch.randint(0, 2, data.pool.images.shape, dtype=torch.uint8)
    return replace(data, pool=replace(data.pool, images=data.pool.images // 2 + noise))


def classes_by_seed(request):
    data = tiny_dataset()
    names = data.class_names if request.data_seed == 0 else data.class_names[::-1]
    return replace(data, class_names=names)


class Unpicklable:
    """A reader that has a function in it."""

    def __init__(self, images):
        self.images, self.read = images, lambda position: images[position]

    def __len__(self):
        return len(self.images)

    def identities(self):
        return (bytes([number]) for number in range(len(self)))


def reading(reader):
    def load(request):
        data = tiny_dataset()
        return replace(data, pool=replace(data.pool, images=reader(data.pool.images)))

    return load


@pytest.mark.parametrize(
    ("load", "error", "contract"),
    [
        (unseeded_dataset, BrokenContract, "must give the same examples, whatever the global random state"),
        (classes_by_seed, BrokenContract, "must not depend on data_seed"),
        (reading(Unpicklable), PluginError, "pickling its reader"),
    ],
)
def test_a_dataset_that_breaks_the_contract_is_found(load, error, contract):
    with pytest.raises(error, match=contract):
        check_dataset(DatasetSpec(name="mine", description="", load=load))


def test_a_dataset_without_a_pool_is_found():
    empty = Examples(images=torch.zeros(0, 3, 8, 8, dtype=torch.uint8), labels=torch.zeros(0).long())
    data = Dataset(pool=empty, tests={"test": empty}, class_names=("a", "b"))
    with pytest.raises(DataError, match="mine"):
        check_dataset(DatasetSpec(name="mine", description="", load=lambda _: data))


# --- split strategies


def unseeded_choice(request):
    return select_by_quota(request.labels, torch.rand(len(request.labels)), delta=request.delta)


def in_place(request):
    request.hardness.neg_()
    return select_by_quota(request.labels, request.hardness, delta=request.delta)


def too_many(request):
    return select_by_quota(request.labels, request.hardness, delta=2 * request.delta)


def first_ones(request):
    return torch.arange(len(request.labels)) < request.delta * len(request.labels)


def of_one_class(request):
    chosen = (request.labels == 0).nonzero().squeeze(1)[:8]
    return torch.zeros(len(request.labels), dtype=torch.bool).index_fill(0, chosen, True)


def whole_class(request):
    return request.labels == 0


def small_share(request):
    chosen = select_by_quota(request.labels, request.hardness, delta=request.delta)
    return TargetSet(in_validation=chosen, represented_fraction=0.01)


@pytest.mark.parametrize(
    ("choose", "contract"),
    [
        (unseeded_choice, "must follow the request's generator alone"),
        (in_place, "must leave labels and hardness of its request as they are"),
        (too_many, "no more than delta must go to validation"),
        (of_one_class, "every class must give the same share"),
        (whole_class, "every class must keep an example that trains"),
        (lambda request: request.labels < 0, "validation must not be empty"),
        (small_share, "must lie between its own"),
    ],
)
def test_a_strategy_that_breaks_the_contract_is_found(choose, contract):
    with pytest.raises(BrokenContract, match=contract):
        check_split(SplitSpec(name="mine", description="", choose=choose, needs_score=True))


def test_a_strategy_may_say_that_it_is_not_stratified():
    check_split(SplitSpec(name="mine", description="", choose=of_one_class), stratified=False)


# --- reweighters


class ByClass(nn.Module):
    def __init__(self, request):
        super().__init__()
        self.log_weights = nn.Parameter(torch.zeros(request.num_classes))

    def forward(self, batch):
        return self.log_weights[batch.labels]


class StartsElsewhere(ByClass):
    def forward(self, batch):
        return super().forward(batch) + 0.1


class UnseededWeights(ByClass):
    def __init__(self, request):
        super().__init__(request)
        self.register_buffer("unused", torch.tensor(float(np.random.default_rng().random())))


class NeverLearns(nn.Module):
    """Two layers that both start at 0."""

    def __init__(self, request):
        super().__init__()
        self.one, self.other = nn.Parameter(torch.zeros(1, 4)), nn.Parameter(torch.zeros(4, 1))

    def forward(self, batch):
        return (batch.losses.nan_to_num()[:, None] @ self.one @ self.other).squeeze(1)


class Counts(ByClass):
    calls = 0

    def forward(self, batch):
        self.calls += 1
        return super().forward(batch) * self.calls


class Keeps(ByClass):
    """What it has met first, outside of its state."""

    first = None

    def forward(self, batch):
        given = super().forward(batch)
        if self.first is None and given.any():
            self.first = float(given.detach().abs().max())
        return given * (self.first or 1.0)


@pytest.mark.parametrize(
    ("fields", "contract"),
    [
        ({"build": StartsElsewhere}, "must be exactly 0 at the start"),
        ({"build": UnseededWeights}, "built under one seed"),
        ({"build": NeverLearns}, "must move once their parameters do"),
        ({"build": Counts}, "must be the same each time"),
        ({"build": Keeps}, "must be in its state_dict"),
        ({"build": ByClass, "lr": 0.0}, "must be a positive learning rate"),
    ],
)
def test_a_reweighter_that_breaks_the_contract_is_found(fields, contract):
    with pytest.raises(BrokenContract, match=contract):
        check_reweighter(ReweighterSpec(**{"name": "mine", "description": "", "lr": 0.05, **fields}))


def test_a_reweighter_that_looks_at_losses_it_has_not_asked_for_is_found():
    def build(request):
        network = ByClass(request)
        network.forward = lambda batch: network.log_weights[batch.labels] * batch.losses
        return network

    with pytest.raises(BrokenContract, match="must be finite, and go by what the record says it needs"):
        check_reweighter(
            ReweighterSpec(name="mine", description="", build=build, lr=0.05, needs_losses=False)
        )


# --- methods


class Plain(Method):
    def weights(self, step):
        return None


class UnseededMethod(Plain):
    def before_epoch(self, epoch):
        return self.positions[torch.randperm(len(self.positions), generator=UNSEEDED)]


UNSEEDED = torch.Generator().manual_seed(0)


class Remembers(Plain):
    """A weight that grows with every epoch, and is lost in a resume."""

    number = 0

    def before_epoch(self, epoch):
        self.number += 1
        return super().before_epoch(epoch)

    def weights(self, step):
        return torch.full_like(step.losses.detach(), 1.0 + self.number)


class PromisesTooMuch(Plain):
    """What it remembers of an epoch is kept between epochs alone."""

    resumes_within_epoch = True
    number = 0

    def before_epoch(self, epoch):
        self.number = 0
        return super().before_epoch(epoch)

    def weights(self, step):
        self.number += 1
        return torch.full_like(step.losses.detach(), float(self.number))


class Touches(Plain):
    def weights(self, step):
        with torch.no_grad():
            next(iter(self.context.classifier.module.parameters())).mul_(0.9)


class SumsUp(Plain):
    batch_parts = "chunks"

    def loss(self, step, weights):
        return F.cross_entropy(step.logits, step.batch.labels, reduction="sum") / 16


class ReadsNothing(Plain):
    batch_parts, weights_read = "chunks", "nothing"

    def weights(self, step):
        return step.losses.detach()


class NotFinite(Plain):
    def weights(self, step):
        return torch.full_like(step.losses.detach(), torch.nan)


@pytest.mark.parametrize(
    ("build", "error", "contract"),
    [
        (UnseededMethod, BrokenContract, "two runs with one seed must be the same"),
        (Remembers, BrokenContract, "goes on between epochs must be the uninterrupted one"),
        (PromisesTooMuch, BrokenContract, "goes on after any step must be the uninterrupted one"),
        (Touches, BrokenContract, "must leave the classifier's parameters and buffers as they are"),
        (SumsUp, BrokenContract, "whose batches come in two chunks must be the one whose batches come whole"),
        (ReadsNothing, PluginError, "gave weights that are not finite"),
        (NotFinite, PluginError, "gave weights that are not finite"),
    ],
)
def test_a_method_that_breaks_the_contract_is_found(build, error, contract):
    with pytest.raises(error, match=contract):
        check_method(MethodSpec(name="mine", description="", build=build, label="Mine"))


def test_a_plain_method_keeps_the_contract():
    """Or the test above would pass on anything."""
    check_method(MethodSpec(name="mine", description="", build=Plain, label="Mine"))
