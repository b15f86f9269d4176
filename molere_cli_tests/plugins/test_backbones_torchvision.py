"""The family `torchvision`: names, shapes, forward derivatives, and one sentence for what cannot be built."""

from __future__ import annotations

import subprocess
import sys

import molere_timm
import molere_torchvision
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torchvision import models

from molere_cli.api.run_schedule import train_runs
from molere_cli.config.run_config import RunConfig
from molere_cli.engine.classifier import Classifier, build_classifier
from molere_cli.engine.hypergradient import alignment
from molere_cli.engine.layers import classification_layer
from molere_cli.engine.random_state import RandomState
from molere_cli.foundation.errors import ConfigError, MolereError, TrainingError, UnknownNameError
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry.option_errors import validate_options
from molere_cli.registry.registry import empty_registry
from molere_cli.registry.specs import BackboneRequest
from molere_cli_tests.training import INSTANCE

# A few at a size that each takes; those of over five seconds are slow.
SMALL = [("resnet18", 32), ("shufflenet_v2_x0_5", 32), ("mobilenet_v3_small", 32), ("googlenet", 32)]
LARGE = [
    ("vit_b_32", 32),
    ("swin_t", 32),
    ("swin_v2_t", 32),
    ("densenet121", 32),
    ("convnext_tiny", 32),
    ("efficientnet_b0", 32),
    ("regnet_y_400mf", 32),
    ("mnasnet0_5", 32),
    ("inception_v3", 75),
    ("vgg11_bn", 32),
    ("alexnet", 63),
    ("maxvit_t", 224),
]
LONG = {"vit_b_32", "vgg11_bn", "maxvit_t"}
NETWORKS = [
    *SMALL,
    *(pytest.param(*network, marks=pytest.mark.slow) for network in LARGE if network[0] not in LONG),
    *(
        pytest.param(*network, marks=[pytest.mark.slow, pytest.mark.long])
        for network in LARGE
        if network[0] in LONG
    ),
]


@pytest.fixture(scope="module")
def installed():
    registry = empty_registry()
    for plugin in (molere_torchvision, molere_timm):
        registry.add(plugin, plugin.__name__)
    assert registry.problems == []
    return registry


def request_for(spec, *, size=32, num_classes=7, **options) -> BackboneRequest:
    height, width = size if isinstance(size, tuple) else (size, size)
    return BackboneRequest(
        num_classes=num_classes,
        image_size=(height, width),
        options=validate_options(spec.options, options, owner="backbone"),
    )


def build(installed, name: str, **request) -> nn.Module:
    torch.manual_seed(0)
    spec = installed.backbone(f"torchvision:{name}")
    return spec.build(request_for(spec, **request))


def test_every_classification_network_of_torchvision_is_a_member(installed):
    names = set(installed.families.get("torchvision").list_names())
    assert names == set(models.list_models(module=models))
    assert {"resnet18", "vit_b_16", "squeezenet1_0"} <= names
    assert not any(name.startswith("quantized") or "r3d" in name or "rcnn" in name for name in names)


def test_torchvision_is_not_imported_to_register():
    code = (
        "import sys\nfrom molere_cli.registry.registry import load_plugins\n"
        "assert load_plugins().families.get('torchvision')\n"
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_plain_name_is_timms(installed):
    network = installed.backbone("resnet18")
    assert type(network.build(request_for(network))).__module__.startswith("timm.")
    assert type(build(installed, "resnet18")) is models.ResNet


def test_a_name_that_torchvision_alone_has_wants_its_prefix(installed):
    with pytest.raises(UnknownNameError, match="did you mean 'torchvision:squeezenet1_0'"):
        installed.backbone("squeezenet1_0")


@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_networks_map_images_to_logits_by_a_linear_layer(installed, name, size):
    network = build(installed, name, size=size)
    assert classification_layer(network).out_features == 7
    images = torch.rand(2, 3, size, size)
    for mode in (True, False):
        with torch.no_grad():
            logits = network.train(mode)(images)
        assert isinstance(logits, torch.Tensor)
        assert logits.shape == (2, 7)
        assert logits.isfinite().all()


@pytest.mark.parametrize(("name", "size"), NETWORKS)
def test_alignment_is_exact_through_a_training_step(installed, name, size):
    """Forward mode against one backward pass an example, both with the step's dropout and drop-path masks."""
    network = build(installed, name, size=size).double().train()
    classifier = Classifier(network, device=torch.device("cpu"), precision=torch.float32)
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(3, 3, size, size, generator=generator, dtype=torch.float64)
    labels = torch.tensor([0, 3, 6])
    direction = {
        key: torch.randn(value.shape, generator=generator, dtype=torch.float64)
        for key, value in classifier.parameters.items()
    }
    randomness = RandomState.capture(classifier.device)
    found = alignment(classifier.step_losses(images, labels, randomness), classifier.parameters, direction)
    with randomness.replayed(classifier.device):
        losses = F.cross_entropy(classifier.forward(images).logits, labels, reduction="none")
    for position, loss in enumerate(losses):
        gradients = torch.autograd.grad(
            loss, list(classifier.parameters.values()), retain_graph=True, materialize_grads=True
        )
        wanted = sum((g * d).sum() for g, d in zip(gradients, direction.values(), strict=True))
        torch.testing.assert_close(found[position], wanted, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("name", ["googlenet", "inception_v3"])
def test_inception_networks_have_no_auxiliary_classifier(installed, name):
    network = build(installed, name, size=96)
    assert not [key for key, _ in network.named_modules() if "aux" in key.lower()]
    assert network.transform_input is False


def test_squeezenet_has_no_features_and_says_so(installed):
    spec = installed.backbone("torchvision:squeezenet1_1")
    with pytest.raises(TrainingError, match=r"SqueezeNet has no nn\.Linear"):
        build_classifier(spec, request_for(spec), device=torch.device("cpu"), precision=torch.float32)


@pytest.mark.parametrize(
    ("name", "size", "what"),
    [
        ("vit_b_16", (32, 48), "takes square images, not 32 x 48; give --image-size"),
        ("vit_b_16", 33, "cannot be built for images of 33 x 33 pixels: "),
        ("maxvit_t", 64, "cannot be built for images of 64 x 64 pixels: "),
    ],
)
def test_an_image_size_that_does_not_fit_is_one_sentence(installed, name, size, what):
    with pytest.raises(MolereError) as caught:
        build(installed, name, size=size)
    assert str(caught.value).startswith(f"backbone 'torchvision:{name}' {what}")
    assert "\n" not in str(caught.value)


def test_images_too_small_for_a_network_are_one_sentence(installed):
    spec = installed.backbone("torchvision:alexnet")
    with pytest.raises(TrainingError, match="cannot take images of 16 x 16 pixels"):
        build_classifier(
            spec, request_for(spec, size=16), device=torch.device("cpu"), precision=torch.float32
        )


def test_an_option_is_refused(installed):
    with pytest.raises(ConfigError, match="unknown key 'pretrained'"):
        build(installed, "resnet18", pretrained="true")


def test_it_trains_from_end_to_end(registry, tmp_path):
    config = RunConfig.of(
        dataset="tiny",
        backbone="torchvision:shufflenet_v2_x0_5",
        method="lrw",
        split="random",
        **INSTANCE,
        epochs=2,
        warmup_epochs=1,
        batch_size=16,
        delta=0.25,
        device="cpu",
        precision="fp32",
    )
    (run,) = train_runs(config, [0], registry, runs=tmp_path, progress=NoProgress())
    assert run.is_done
    assert run.metrics()[-1]["reweighter/updates"] == 4
