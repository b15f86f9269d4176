"""The backbones of molere_timm."""

from __future__ import annotations

import subprocess
import sys
import warnings

import molere_timm
import pytest
import torch
from molere_timm.cifar_resnet import cifar_resnet
from molere_timm.small_cnn import SmallCNN
from molere_timm.timm_networks import REFUSED, parse_value
from molere_timm.wide_resnet import wide_resnet
from torch import nn
from torch.func import functional_call, jvp
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from molere_cli import BackboneRequest, DataError, MolereError
from molere_cli.foundation.errors import ConfigError, UnknownNameError
from molere_cli.registry.option_errors import validate_options
from molere_cli.registry.registry import empty_registry

SINGLE_NAMES = ("small_cnn", "wrn16_2", "wrn16_4", "wrn28_10", "resnet20", "resnet32")


@pytest.fixture(scope="module")
def installed():
    registry = empty_registry()
    registry.add(molere_timm, "molere_timm")
    assert registry.problems == []
    return registry


def build(
    installed, name: str, *, num_classes: int = 7, size: int = 32, options=None, **more: str
) -> nn.Module:
    spec = installed.backbone(name)
    request = BackboneRequest(
        num_classes=num_classes,
        image_size=(size, size),
        options=validate_options(spec.options, {**(options or {}), **more}, owner=f"backbone {name!r}"),
    )
    return spec.build(request)


def num_parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def logits(module: nn.Module, *, size: int = 32) -> torch.Tensor:
    with torch.no_grad():
        return module.eval()(torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0)))


# --- single names


@pytest.mark.parametrize("name", [name for name in SINGLE_NAMES if name != "wrn28_10"])
@pytest.mark.parametrize("size", [8, 32])
def test_single_backbones_map_images_to_logits(installed, name, size):
    output = logits(build(installed, name, size=size), size=size)
    assert output.shape == (2, 7)
    assert output.isfinite().all()
    assert not torch.equal(output[0], output[1])


def test_wrn28_10_with_100_classes_has_36_54_million_parameters(installed):
    assert num_parameters(build(installed, "wrn28_10", num_classes=100)) == 36_536_884


@pytest.mark.parametrize(("width", "millions"), [(2, 0.69), (4, 2.75)])
def test_wrn16_has_the_papers_number_of_parameters(width, millions):
    assert num_parameters(wide_resnet(16, width)) / 1e6 == pytest.approx(millions, abs=0.005)


@pytest.mark.parametrize(("depth", "paper"), [(20, 269_722), (32, 464_154)])
def test_cifar_resnets_have_the_papers_parameters_and_projections(depth, paper):
    assert num_parameters(cifar_resnet(depth)) == paper + 2_752


@pytest.mark.parametrize("network", [wide_resnet, cifar_resnet])
def test_three_stages_halve_the_resolution_twice(network):
    features = network().forward_features(torch.zeros(1, 3, 32, 32))
    assert features.shape[2:] == (8, 8)


@pytest.mark.parametrize("network", [wide_resnet, cifar_resnet])
def test_the_classification_layer_is_linear(network):
    assert isinstance(network(num_classes=5).get_classifier(), nn.Linear)


@pytest.mark.parametrize(("network", "depth"), [(wide_resnet, 20), (wide_resnet, 4), (cifar_resnet, 28)])
def test_depths_that_do_not_exist_are_refused(network, depth):
    with pytest.raises(ValueError, match=rf"not {depth}"):
        network(depth)


def test_dropout_acts_in_training_alone_and_renames_no_parameter():
    plain, dropping = wide_resnet(16, 2), wide_resnet(16, 2, dropout=0.3)
    dropping.load_state_dict(plain.state_dict())
    torch.testing.assert_close(logits(dropping), logits(plain))
    assert sum(isinstance(layer, nn.Dropout) and layer.p == 0.3 for layer in dropping.modules()) == 6
    images = torch.rand(4, 3, 32, 32)
    assert not torch.equal(dropping.train()(images), dropping(images))
    assert torch.equal(plain.train()(images), plain(images))


def test_dropout_falls_between_the_convolutions_after_the_relu():
    block = wide_resnet(16, 2, dropout=0.5).stages[0].blocks[1].train()
    inputs = []
    block.conv2.register_forward_pre_hook(lambda _layer, args: inputs.append(args[0]))
    block(torch.rand(8, 32, 8, 8))
    (conv2_input,) = inputs
    assert (conv2_input >= 0).all()
    # The ReLU alone leaves about half; the mask halves that.
    assert 0.2 < (conv2_input > 0).float().mean() < 0.3


def test_the_dropout_option_reaches_the_network_and_is_bounded(installed):
    network = build(installed, "wrn16_2", dropout="0.25")
    assert {layer.p for layer in network.modules() if isinstance(layer, nn.Dropout) and layer.p} == {0.25}
    with pytest.raises(ConfigError, match="dropout = '1'"):
        build(installed, "wrn16_2", dropout="1")


@pytest.mark.parametrize(
    ("name", "again"),
    [
        ("wrn16_2", lambda: wide_resnet(16, 2, num_classes=7)),
        ("resnet20", lambda: cifar_resnet(20, num_classes=7)),
        ("small_cnn", lambda: SmallCNN(num_classes=7)),
    ],
)
def test_a_checkpoint_loads_into_the_documented_constructor(installed, name, again):
    trained, fresh = build(installed, name), again()
    fresh.load_state_dict(trained.state_dict())
    torch.testing.assert_close(logits(fresh), logits(trained))


@pytest.mark.parametrize("name", ["small_cnn", "wrn16_2", "resnet20", "timm:test_vit"])
def test_per_example_losses_have_a_forward_derivative(installed, name):
    """Which the hypergradient takes, and which an operation in place can break."""
    network = build(installed, name).train()
    parameters = {key: parameter.detach() for key, parameter in network.named_parameters()}
    images, labels = torch.rand(4, 3, 32, 32), torch.arange(4)

    def losses(values):
        buffers = {key: buffer.clone() for key, buffer in network.named_buffers()}
        output = functional_call(network, {**values, **buffers}, (images,))
        return F.cross_entropy(output, labels, reduction="none")

    directions = {key: torch.randn_like(value) for key, value in parameters.items()}
    with sdpa_kernel(SDPBackend.MATH):
        _, derivative_B = jvp(losses, (parameters,), (directions,))
    assert derivative_B.shape == (4,)
    assert derivative_B.isfinite().all()
    assert (derivative_B != 0).all()


def test_small_cnn_has_no_norm():
    kinds = {type(layer) for layer in SmallCNN().modules()}
    assert kinds == {
        SmallCNN,
        nn.Sequential,
        nn.Conv2d,
        nn.ReLU,
        nn.MaxPool2d,
        nn.AdaptiveAvgPool2d,
        nn.Flatten,
        nn.Linear,
    }
    assert num_parameters(SmallCNN()) == 896 + 18_496 + 36_928 + 2_570


# --- the timm family


@pytest.mark.parametrize("name", ["timm:test_resnet", "test_resnet"])
def test_a_timm_network_is_found_with_and_without_prefix(installed, name):
    assert logits(build(installed, name), size=32).shape == (2, 7)


def test_a_timm_network_of_one_image_size_is_built_for_the_datasets(installed):
    network = build(installed, "timm:test_vit", size=64)
    assert network.patch_embed.img_size == (64, 64)
    assert logits(network, size=64).shape == (2, 7)


def test_an_image_size_that_is_asked_for_wins(installed):
    assert build(installed, "timm:test_vit", size=64, img_size="32").patch_embed.img_size == (32, 32)


def test_timm_options_arrive_with_their_types(installed):
    network = build(installed, "timm:test_resnet", drop_rate="0.25", global_pool="max")
    assert network.drop_rate == 0.25
    assert network.global_pool.pool_type == "max"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("False", False),
        ("1", 1),
        ("-3", -3),
        ("0.5", 0.5),
        ("1e-3", 1e-3),
        ("avg", "avg"),
        ("[1]", "[1]"),
        ("", ""),
    ],
)
def test_option_values_are_bool_then_int_then_float_then_text(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_an_option_that_a_timm_network_lacks_is_named(installed):
    with pytest.raises(MolereError, match=r"'timm:test_resnet' has no option widht; leave it out"):
        build(installed, "timm:test_resnet", drop_rate="0.1", widht="2")


def test_a_wrong_option_value_is_one_sentence(installed):
    with pytest.raises(MolereError, match=r"cannot be built with .*act_layer=nope") as caught:
        build(installed, "timm:test_resnet", act_layer="nope")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", sorted(REFUSED))
def test_options_that_break_the_contract_are_refused(installed, key):
    with pytest.raises(MolereError, match=f"does not take {key}"):
        build(installed, "timm:test_resnet", options={key: "1"})


def test_a_checkpoint_path_is_never_read(installed, tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(MolereError, match="may hold a pickle"):
        build(installed, "timm:test_resnet", checkpoint_path=str(path))


@pytest.mark.parametrize("name", ["test_resnet.r160_in1k", "timm:test_resnet.r160_in1k"])
def test_a_name_with_the_tag_of_its_weights_is_known(installed, name):
    network = build(installed, name)
    assert network.pretrained_cfg["tag"] == "r160_in1k"
    # The tag says which weights pretrained=true would load; without it they are not looked for.
    assert network.num_classes == build(installed, "test_resnet").num_classes


@pytest.mark.parametrize("name", ["test_resnet.nope", "nope.r160_in1k", "timm:test_resnet.nope"])
def test_a_tag_that_timm_does_not_have_is_unknown(installed, name):
    with pytest.raises(UnknownNameError, match="unknown backbone"):
        build(installed, name)


def test_pretrained_weights_out_of_reach_are_one_sentence(installed, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="pretrained weights of 'timm:test_resnet'") as caught:
        build(installed, "timm:test_resnet", pretrained="true", cache_dir=str(tmp_path))
    assert "\n" not in str(caught.value)
    assert "leave out pretrained=true" in str(caught.value)
    assert "start from a file with --init-from" in str(caught.value)


def test_a_hub_out_of_reach_is_not_waited_for(installed, tmp_path, monkeypatch):
    """The hub's client alone would try six times for each of two files, with pauses of 46 seconds in all."""
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail(f"it waits for {seconds} s"))
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9 is out of reach\); "):
        build(installed, "timm:test_resnet", pretrained="true", cache_dir=str(tmp_path))


def test_pretrained_weights_within_reach_are_loaded(installed, tmp_path, monkeypatch):
    from molere_timm.quiet_timm import timm

    source = timm.create_model("test_resnet", num_classes=1000)

    def weights(*_args, **_kwargs):
        return source.state_dict()

    monkeypatch.setattr("timm.models._builder.load_state_dict_from_hf", weights)
    network = build(installed, "timm:test_resnet", pretrained="true")
    torch.testing.assert_close(network.conv1[0].weight, source.conv1[0].weight)
    assert network.get_classifier().out_features == 7


def test_an_unknown_option_beside_pretrained_is_no_download_problem(installed):
    with pytest.raises(MolereError, match="has no option widht") as caught:
        build(installed, "timm:test_resnet", pretrained="true", widht="2")
    assert not isinstance(caught.value, DataError)


def test_importing_timm_through_the_plugin_hides_the_deprecation_of_torch_jit(tmp_path):
    """With a stand-in timm that warns as older releases do."""
    modules = {
        "timm/__init__.py": "import warnings\n"
        "warnings.warn('`torch.jit.script` is deprecated. Please use `torch.compile`.', FutureWarning)\n"
        "warnings.warn('`torch.jit.script` is deprecated.', DeprecationWarning)\n",
        "timm/layers/__init__.py": "",
        "timm/layers/classifier.py": "ClassifierHead = None",
        "timm/layers/create_conv2d.py": "create_conv2d = None",
        "timm/layers/norm_act.py": "BatchNormAct2d = None",
        "timm/models/__init__.py": "",
        "timm/models/resnet.py": "BasicBlock = ResNet = None",
        "timm/models/resnetv2.py": "PreActBasic = ResNetV2 = None",
    }
    for name, text in modules.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "import molere_timm.quiet_timm as quiet\n"
        f"assert quiet.timm.__file__.startswith({str(tmp_path)!r})"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_building_a_backbone_warns_of_nothing(installed):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(installed, "wrn16_2")
        build(installed, "timm:test_vit", size=32)
