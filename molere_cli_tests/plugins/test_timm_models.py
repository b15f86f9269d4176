"""Thirty families of timm: a step, a meta-update checked by finite differences, a checkpoint."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.nn import functional as F

from molere_cli.engine.checkpoint import load_classifier, save_state
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.hypergradient import hypergradient
from molere_cli.engine.random_state import RandomState
from molere_cli.engine.response import optimizer_response
from molere_cli.methods.reweighting import scale_hypergradient
from molere_cli.methods.weight_limits import weights_from_log
from molere_cli.registry.registry import load_plugins
from molere_cli.registry.specs import BackboneRequest

# The smallest images, of 8 pixels on, that each can train on.
SIZES = {
    "resnet18": 8,
    "wide_resnet50_2": 8,
    "resnetv2_50": 8,
    "vit_tiny_patch16_224": 16,
    "deit_tiny_patch16_224": 16,
    "swin_tiny_patch4_window7_224": 8,
    "convnext_atto": 32,
    "efficientnet_b0": 8,
    "mobilenetv3_small_050": 8,
    "mixer_s32_224": 32,
    "regnetx_002": 8,
    "densenet121": 29,
    "vgg11": 32,
    "resmlp_12_224": 16,
    "maxvit_rmlp_pico_rw_256": 32,
    "poolformer_s12": 8,
    "xcit_nano_12_p16_224": 16,
    "coat_tiny": 32,
    "edgenext_xx_small": 32,
    "inception_v4": 75,
    "hrnet_w18_small": 29,
    "ghostnet_050": 8,
    "repvgg_a0": 8,
    "levit_128s": 16,
    "mobilevit_xxs": 8,
    "crossvit_tiny_240": 18,
    "dla34": 31,
    "eva02_tiny_patch14_224": 14,
    "pvt_v2_b0": 29,
    "fastvit_t8": 8,
}
# As they are, a hundred million parameters are those of two layers of the one, and the other has 67 million.
THINNED = {"vgg11": {"mlp_ratio": 1 / 16}, "wide_resnet50_2": {"base_width": 16}}
NUM_CLASSES, TRAIN, VAL = 3, 4, 4
LR = 0.01
# Small, so that ReLU's kinks stay out of it: with batch norm over four 1 x 1 maps, 1e-7 crosses some.
STEP = 3e-8
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def registry():
    return load_plugins()


def build(registry, name: str) -> torch.nn.Module:
    backbone = registry.backbone(f"timm:{name}")
    size = (SIZES[name], SIZES[name])
    return backbone.build(
        BackboneRequest(
            num_classes=NUM_CLASSES, image_size=size, options=backbone.options(**THINNED.get(name, {}))
        )
    )


class Problem:
    """A classifier in float64, one ERM step into training, and what its next step needs."""

    def __init__(self, module: torch.nn.Module, size: int) -> None:
        self.classifier = Classifier(module.double(), device=CPU, precision=torch.float64)
        self.classifier.train()
        self.optimizer = torch.optim.SGD(module.parameters(), lr=LR, momentum=0.9)
        self.images = torch.randn(TRAIN, 3, size, size, dtype=torch.float64)
        self.labels = torch.arange(TRAIN) % NUM_CLASSES
        self.val_images = torch.randn(VAL, 3, size, size, dtype=torch.float64)
        self.val_labels = torch.arange(VAL).flip(0) % NUM_CLASSES
        self.step(torch.ones(TRAIN, dtype=torch.float64))
        self.start = copy.deepcopy((module.state_dict(), self.optimizer.state_dict()))

    def step(self, weights_B: torch.Tensor) -> None:
        logits_BC = self.classifier.forward(self.images).logits
        losses_B = F.cross_entropy(logits_BC, self.labels, reduction="none")
        self.optimizer.zero_grad()
        (weights_B * losses_B).mean().backward()
        self.optimizer.step()

    def forward_mode(self, weights_B: torch.Tensor) -> torch.Tensor:
        """d L_val(theta') / d w through the step, by one forward-mode pass."""
        before = {name: p.detach().clone() for name, p in self.classifier.parameters.items()}
        randomness = RandomState.capture(CPU)
        self.step(weights_B)
        _, gradient = self.classifier.validation_gradient(self.val_images, self.val_labels)
        parameters = self.classifier.parameters
        response = optimizer_response(
            self.optimizer, gradient, before={p: before[n] for n, p in parameters.items()}, clipping=None
        )
        losses = self.classifier.step_losses(self.images, self.labels, randomness)
        return hypergradient(losses, before, {n: response[p] for n, p in parameters.items()})

    def val_loss_behind(self, weights_B: torch.Tensor) -> float:
        """L_val(theta') after the step with these weights, taken from the same place with the same masks."""
        module_state, optimizer_state = copy.deepcopy(self.start)
        self.classifier.module.load_state_dict(module_state)
        self.optimizer.load_state_dict(optimizer_state)
        torch.manual_seed(1)
        self.step(weights_B)
        loss, _ = self.classifier.validation_gradient(self.val_images, self.val_labels)
        return float(loss)


QUICK = {"resnet18", "mobilenetv3_small_050", "resmlp_12_224"}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            name,
            marks=[pytest.mark.slow] * (name not in QUICK) + [pytest.mark.long] * (name == "inception_v4"),
        )
        for name in SIZES
    ],
)
def test_a_network_of_timm_takes_a_step_a_meta_update_and_a_checkpoint(name, registry, tmp_path):
    torch.manual_seed(0)
    problem = Problem(build(registry, name), SIZES[name])
    log_weights_B = torch.zeros(TRAIN, dtype=torch.float64, requires_grad=True)
    weights_B = weights_from_log(log_weights_B)
    torch.manual_seed(1)
    ours_B = problem.forward_mode(weights_B.detach())

    direction_B = torch.tensor([1.0, -0.5, 0.25, 0.8], dtype=torch.float64)
    behind = [problem.val_loss_behind(weights_B.detach() + h * direction_B) for h in (STEP, -STEP)]
    differences = (behind[0] - behind[1]) / (2 * STEP)
    assert abs(differences) > 1e-7
    assert float(ours_B @ direction_B) == pytest.approx(differences, rel=1e-4)

    optimizer = torch.optim.AdamW([log_weights_B], lr=0.05)
    weights_B.backward(scale_hypergradient(ours_B, "batch"))
    optimizer.step()
    # A weight grows where the validation loss falls with it, against the mean over the batch.
    centred_B = ours_B - ours_B.mean()
    assert torch.equal(log_weights_B.detach().sign(), -centred_B.sign())

    classifier = problem.classifier
    save_state({}, classifier.module, tmp_path)
    again = build(registry, name).double()
    load_classifier(again, tmp_path)
    reloaded = Classifier(again, device=CPU, precision=torch.float64)
    assert torch.equal(reloaded.predict(problem.images).logits, classifier.predict(problem.images).logits)
