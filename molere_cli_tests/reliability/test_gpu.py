"""What only a GPU can show: `make test-gpu`. Everything here skips, visibly, where there is none."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from molere_cli.config.device import resolve_device, resolve_precision, set_arithmetic
from molere_cli.config.plan import make_plan
from molere_cli.data.source import load_dataset
from molere_cli.engine.classifier import Classifier
from molere_cli.engine.forward_mode import fast_forward_mode
from molere_cli.engine.hypergradient import alignment
from molere_cli.engine.layer_rule import StepTrace
from molere_cli.engine.random_state import RandomState
from molere_cli.foundation.errors import TrainingError
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.make_split import split_for
from molere_cli.splits.quota import random_split
from molere_cli.training.build_engine import engine_on_split
from molere_cli.training.resume_run import resume_run
from molere_cli_tests.training import (
    INSTANCE,
    KilledAfter,
    assert_same_tensors,
    engine_for,
    tensors_of,
    tiny_config,
    train_one,
    without_times,
)
from molere_cli_tests.unit.test_hypergradient import NETWORKS, OPTIMIZERS, WAYS, Problem
from molere_cli_tests.unit.test_layer_rule import FOLLOWED, Followed
from molere_cli_tests.unit.test_training import METHODS

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]

CUDA = torch.device("cuda")
# Weights that move from the first step on, without a split that is made beforehand.
LEARNING = {
    "erm": {},
    "lrw": {**INSTANCE, "split": "random", "warmup_epochs": 0},
    "molere": {**INSTANCE, "split": "none", "warmup_epochs": 0},
}


@pytest.fixture(autouse=True)
def float32_as_such():
    """As a run sets it, and whatever a test has set besides is gone after it."""
    set_arithmetic(CUDA, "fp32", deterministic=False)
    yield
    torch.use_deterministic_algorithms(False)


def on_gpu(**settings):
    """A network with dropout whose every operation has a deterministic kernel."""
    network = {"backbone": "wrn16_2", "backbone_option": {"dropout": "0.3"}}
    return tiny_config(**{"device": "cuda", "deterministic": True, **network, **settings})


@pytest.mark.parametrize("clip", [None, 0.05], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("network", NETWORKS)
def test_hypergradient_equals_second_order_autograd(network, optimizer, clip):
    problem = Problem(network, optimizer, clip, "foreach", "cuda")
    twin, randomness = copy.deepcopy(problem), RandomState.capture(CUDA)
    ours = problem.forward_mode()
    with randomness.replayed(CUDA):
        theirs = twin.second_order()
    assert theirs.abs().max() > 1e-8
    assert (ours - theirs).norm() <= 1e-8 * theirs.norm()


@pytest.mark.parametrize("clip", [None, 0.05], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("way", WAYS)
def test_hypergradient_is_that_of_the_cpu_however_torch_goes_over_the_parameters(way, optimizer, clip):
    if way == "capturable" and not optimizer.startswith("adam"):
        pytest.skip("torch's SGD has no capturable")
    expected = Problem("conv", optimizer, clip).forward_mode()
    found = Problem("conv", optimizer, clip, way, "cuda").forward_mode().cpu()
    # Capturable, torch's own step takes its bias correction in float32.
    tolerance = 1e-5 if way == "capturable" else 1e-8
    assert (found - expected).norm() <= tolerance * expected.norm()


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format], ids=["last", "first"])
@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_fast_forward_derivative_of_batch_norm_is_torchs_own(dtype, affine, layout):
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, affine=affine), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.Flatten()
    )
    network = network.to(CUDA, dtype).to(memory_format=layout)
    images = torch.randn(16, 3, 10, 10, device=CUDA, dtype=dtype).to(memory_format=layout)
    parameters = dict(network.named_parameters())
    directions = {name: torch.randn_like(parameter) for name, parameter in parameters.items()}

    def outputs(values):
        return torch.func.functional_call(network, {**values, **buffers()}, (images,)).square().sum(dim=1)

    def buffers():
        return {name: buffer.clone() for name, buffer in network.named_buffers()}

    def fast(values):
        with fast_forward_mode():
            return outputs(values)

    found_B, expected_B = alignment(fast, parameters, directions), alignment(outputs, parameters, directions)
    assert expected_B.norm() > 0
    assert (found_B - expected_B).norm() <= (1e-10 if dtype == torch.float64 else 1e-4) * expected_B.norm()


@pytest.mark.parametrize("name", ["resnet18", "vit_tiny_patch16_224"])
def test_under_autocast_the_alignment_points_where_it_does_in_float64(name):
    import timm

    size = 64
    torch.manual_seed(0)
    how = {"img_size": size} if name.startswith("vit") else {}
    network = timm.create_model(name, num_classes=10, **how)
    images, labels = torch.randn(32, 3, size, size, device=CUDA), torch.arange(32, device=CUDA) % 10
    found = []
    for dtype, precision in ((torch.float64, torch.float64), (torch.float32, torch.bfloat16)):
        classifier = Classifier(copy.deepcopy(network).to(dtype), device=CUDA, precision=precision)
        classifier.train()
        _, gradient = classifier.validation_gradient(images.flip(0).to(dtype), labels.flip(0))
        direction = {n: gradient[p] for n, p in classifier.parameters.items()}
        losses = classifier.step_losses(images.to(dtype), labels, RandomState.capture(CUDA))
        found.append(alignment(losses, classifier.parameters, direction).double())
    assert F.cosine_similarity(*found, dim=0) > 0.99


@pytest.mark.parametrize("clip", [None, 0.05], ids=["unclipped", "clipped"])
@pytest.mark.parametrize("network", FOLLOWED)
def test_the_layer_rule_is_the_dual_pass(network, clip, monkeypatch):
    monkeypatch.setitem(NETWORKS, "followed", FOLLOWED[network])
    problem = Followed("followed", "nesterov", clip, "foreach", "cuda")
    twin, randomness = copy.deepcopy(problem), RandomState.capture(CUDA)
    ours = problem.by_layer_rule()
    with randomness.replayed(CUDA):
        theirs = twin.forward_mode()
    assert theirs.abs().max() > 1e-8
    assert (ours - theirs).norm() <= 1e-8 * theirs.norm()


def test_under_autocast_the_layer_rule_points_where_it_does_in_float64():
    import timm

    torch.manual_seed(0)
    network = timm.create_model("vit_tiny_patch16_224", num_classes=10, img_size=64)
    images, labels = torch.randn(32, 3, 64, 64, device=CUDA), torch.arange(32, device=CUDA) % 10
    found = []
    for dtype, precision in ((torch.float64, torch.float64), (torch.float32, torch.bfloat16)):
        classifier = Classifier(copy.deepcopy(network).to(dtype), device=CUDA, precision=precision)
        classifier.train()
        _, gradient = classifier.validation_gradient(images.flip(0).to(dtype), labels.flip(0))
        direction = {name: gradient[p] for name, p in classifier.parameters.items()}
        trace = StepTrace()
        logits = classifier.forward(images.to(dtype), trace=trace).logits
        F.cross_entropy(logits, labels).backward()
        found.append(classifier.followed_alignment(trace, direction, logits.new_zeros(32)).double())
    assert F.cosine_similarity(*found, dim=0) > 0.99


def test_the_dual_pass_replays_the_dropout_masks_of_the_step():
    problem = Problem("dropout", "sgd", None, device="cuda")
    randomness = RandomState.capture(CUDA)
    losses_B = problem.losses().detach()
    torch.rand(5, device=CUDA)
    before = torch.cuda.get_rng_state(CUDA)
    with torch.no_grad():
        replayed_B = problem.classifier.step_losses(problem.images, problem.labels, randomness)(
            problem.classifier.parameters
        )
    torch.testing.assert_close(replayed_B, losses_B, rtol=0, atol=0)
    assert torch.equal(torch.cuda.get_rng_state(CUDA), before)


@pytest.mark.parametrize("name", METHODS)
def test_a_resumed_run_ends_like_the_uninterrupted_one(name, registry, tmp_path):
    settings = METHODS[name]
    if settings.get("reweighter") == "image":  # adaptive pooling has no deterministic kernel
        settings = {**settings, "reweighter": "features"}
    config = on_gpu(**settings)
    whole = train_one(config, registry, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_one(config, registry, tmp_path / "cut", progress=KilledAfter(2, label_part=name))
    (unfinished,) = [p for p in (tmp_path / "cut").iterdir() if not (p / "DONE").exists()]
    resumed = resume_run(unfinished, registry, progress=NoProgress())
    assert_same_tensors(tensors_of(resumed), tensors_of(whole))
    assert without_times(resumed.metrics()) == without_times(whole.metrics())


@pytest.mark.parametrize("method", ["erm", "lrw", "molere"])
def test_training_follows_that_of_the_cpu(method, registry):
    """The classifier in float64, since rounding grows with every step; the reweighter is in float32."""
    finals = []
    for device in ("cpu", "cuda"):
        settings = LEARNING[method]
        # Without dropout, whose masks differ between devices.
        config = on_gpu(method=method, epochs=2, device=device, backbone_option={}, **settings)
        data = load_dataset(config.data, registry)
        mask = random_split(data.dataset.pool.labels, delta=0.25, seed=0) if method == "lrw" else None
        engine = engine_for(config, registry, mask)
        engine.classifier.module.double()
        engine.classifier.module.register_forward_pre_hook(lambda _module, inputs: (inputs[0].double(),))
        list(engine.loop.epochs())
        finals.append(torch.cat([p.detach().cpu().flatten() for p in engine.classifier.module.parameters()]))
    on_cpu, found = finals
    assert found.dtype == torch.float64
    assert (found - on_cpu).norm() <= (1e-10 if method == "erm" else 1e-6) * on_cpu.norm()


def test_what_has_no_deterministic_kernel_is_one_sentence(registry, tmp_path):
    config = on_gpu(**METHODS["molere-image"], epochs=1, warmup_epochs=0)
    sentence = (
        r"^--deterministic: adaptive_avg_pool2d_backward_cuda has no deterministic kernel; leave it out"
    )
    with pytest.raises(TrainingError, match=sentence):
        train_one(config, registry, tmp_path)


# What else a step may be.
MORE = {
    "lrw-followed": {
        **LEARNING["lrw"],
        "method": "lrw",
        "backbone": "timm:vit_tiny_patch16_224",
        "image_size": 32,
    }
}


@pytest.mark.filterwarnings("ignore:Synchronization debug mode is a prototype:UserWarning")
@pytest.mark.parametrize("settings", [*METHODS.values(), *MORE.values()], ids=[*METHODS, *MORE])
def test_no_step_makes_the_host_wait(settings, registry, tmp_path):
    """But for the look at whether all is finite, which comes later than this epoch has steps."""
    config = tiny_config(**{"device": "cuda", "epochs": 3, "warmup_epochs": 0, **settings})
    if settings["method"] == "erm":
        config = tiny_config(device="cuda", epochs=3)
    plan, data = make_plan(config, registry), load_dataset(config.data, registry)
    split = split_for(plan, data, runs=tmp_path, progress=NoProgress()) if plan.needs_split else None
    engine = engine_on_split(plan, data, split)
    steps = []

    def on_step(step: int, num_steps: int, loss: float) -> None:
        # From the end of the first step, which may set something up, to that of the last.
        torch.cuda.set_sync_debug_mode("default" if step == num_steps else "error")
        steps.append(step)

    try:
        list(engine.loop.epochs(on_step))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert len(steps) == 3 * max(steps) > 6


@pytest.mark.parametrize("method", ["lrw", "molere"])
def test_learned_weights_need_little_more_memory_than_erm(method, registry):
    peaks = {}
    for name in ("erm", method):
        settings = LEARNING[name]
        config = on_gpu(method=name, epochs=1, image_size=64, batch_size=64, precision="bf16", **settings)
        data = load_dataset(config.data, registry)
        mask = random_split(data.dataset.pool.labels, delta=0.25, seed=0) if name == "lrw" else None
        engine = engine_for(config, registry, mask)
        torch.cuda.reset_peak_memory_stats()
        list(engine.loop.epochs())
        peaks[name] = torch.cuda.max_memory_allocated()
        del engine
    assert peaks[method] <= 1.5 * peaks["erm"]


def test_auto_takes_the_gpu_and_what_it_has_units_for():
    device = resolve_device("auto")
    assert device.type == "cuda"
    expected = "bf16" if torch.cuda.get_device_capability() >= (8, 0) else "fp32"
    assert resolve_precision("auto", device) == expected


@pytest.mark.parametrize(("precision", "rounds"), [("fp32", False), ("tf32", True)])
def test_fp32_is_float32_and_tf32_is_asked_for(precision, rounds):
    set_arithmetic(CUDA, precision, deterministic=False)
    torch.manual_seed(0)
    images, weight = torch.randn(8, 64, 16, 16, device=CUDA), torch.randn(64, 64, 3, 3, device=CUDA)
    exact = F.conv2d(images.double(), weight.double())
    error = (F.conv2d(images, weight).double() - exact).norm() / exact.norm()
    assert (error > 1e-5) == rounds


def test_a_run_says_what_it_ran_on(registry, tmp_path):
    environment = train_one(on_gpu(epochs=1), registry, tmp_path).environment()
    gpu = environment["gpu"]
    assert gpu["name"] == torch.cuda.get_device_name()
    assert gpu["cuda"] == torch.version.cuda
    assert (gpu["tf32"], gpu["deterministic"]) == (False, True)
