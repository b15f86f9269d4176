"""Recipes: which one, what it settles, what counts for more; and settings as TOML that is taken back."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
import timm
from torch import nn

from molere_cli.config.from_flags import configured, swept
from molere_cli.config.plan import make_plan
from molere_cli.config.recipes import LR_KEY, recipe_settings, recipe_text
from molere_cli.config.run_config import OWNERS, RunConfig
from molere_cli.config.sections import ClassifierSettings
from molere_cli.engine.optimizer import build_optimizer, build_scheduler
from molere_cli.registry.registry import load_plugins

REGISTRY = load_plugins()
NAMES = ("scratch", "finetune", "probe")


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_documented_and_of_settings_that_there_are(name):
    text = recipe_text(name)
    assert text.startswith("# For networks that start")
    settings = tomllib.loads(text)
    assert settings.keys() - {LR_KEY} <= OWNERS.keys()
    RunConfig.of(**{key: value for key, value in settings.items() if key != LR_KEY})
    assert (Path(__file__).parents[2] / "configs" / "recipes" / f"{name}.toml").read_text() == text


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({}, "scratch"),
        ({"backbone_option": {"pretrained": "false"}}, "scratch"),
        ({"backbone_option": {"pretrained": "True"}}, "finetune"),
        ({"init_from": "x.safetensors"}, "finetune"),
        ({"init_from": "x.safetensors", "freeze_backbone": True}, "probe"),
    ],
)
def test_auto_goes_by_whether_there_are_pretrained_weights(given, name):
    assert recipe_settings("auto", given) == recipe_settings(name, given)
    assert bool(recipe_settings("auto", given)) == (name != "scratch")


def test_the_rate_goes_with_the_batch_size():
    one = recipe_settings("finetune", {})["lr"]
    assert recipe_settings("finetune", {"batch_size": 128})["lr"] == pytest.approx(2 * one)
    assert "lr" not in recipe_settings("finetune", {"lr": 0.1, "batch_size": 128})


def test_scratch_is_the_defaults():
    assert configured(None, {}, REGISTRY, recipe="scratch") == RunConfig.of()
    assert configured(None, {}, REGISTRY, recipe="auto") == RunConfig.of()


def test_a_file_and_flags_count_for_more(tmp_path):
    (tmp_path / "mine.toml").write_text('epochs = 3\nweights = "x.safetensors"\n')
    config = configured(tmp_path / "mine.toml", {"optimizer": "sgd"}, REGISTRY, recipe="auto")
    found = config.classifier
    assert (found.epochs, found.optimizer, found.layer_decay) == (3, "sgd", 0.75)
    several = swept(tmp_path / "mine.toml", {"method": "erm,lrw"}, REGISTRY, recipe="auto")
    assert [each.classifier.layer_decay for each in several] == [0.75, 0.75]
    assert [each.classifier.epochs for each in several] == [3, 3]


# --- layers with rates of their own


def test_layers_towards_the_input_learn_more_slowly():
    network = timm.create_model("vit_tiny_patch16_224", num_classes=3, img_size=32, depth=3)
    settings = ClassifierSettings(optimizer="adamw", lr=0.1, layer_decay=0.5, epochs=4)
    optimizer = build_optimizer(settings, network)
    build_scheduler(settings, optimizer).step(0)
    rates = {
        name: group["lr"]
        for group in optimizer.param_groups
        for name, parameter in network.named_parameters()
        if any(parameter is member for member in group["params"])
    }
    assert len(rates) == len(list(network.parameters()))
    # The head is the last of five layers, the patches are the first.
    assert rates["head.weight"] == pytest.approx(0.1)
    for number, depth in ((2, 1), (1, 2), (0, 3)):
        assert rates[f"blocks.{number}.attn.qkv.weight"] == pytest.approx(0.1 * 0.5**depth)
    assert rates["patch_embed.proj.weight"] == pytest.approx(0.1 * 0.5**4)


@pytest.mark.parametrize("backbone", ["small_cnn", "resnet20", "torchvision:resnet18"])
def test_every_network_has_layers(backbone, molere, in_tmp):
    line = f"train --method lrw --split random --dataset digits --backbone {backbone} --image-size 32"
    done = molere(f"{line} --limit-train 40 --epochs 1 --layer-decay 0.5 --batch-size 16 --quiet")
    assert done.code == 0, done.err


def test_frozen_layers_have_no_rate():
    network = timm.create_model("resnet18", num_classes=3)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name.startswith("fc"))
    optimizer = build_optimizer(ClassifierSettings(optimizer="adamw", layer_decay=0.5), network)
    members = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    assert {id(member) for member in members} == {id(network.fc.weight), id(network.fc.bias)}


# --- settings as TOML


@pytest.mark.parametrize(
    "flags",
    [
        "--method erm",
        "--method lrw --split hard --delta 0.2 --reweighter-option mode=x",
        "--method molere --backbone resnet18 --image-size 32 --clip-grad 1",
        "--method jtt --dataset colour-digits --dataset-option rho=0.8 --limit-train 100",
        "--method erm --recipe finetune --batch-size 128",
        "--method erm --recipe probe --no-freeze-backbone",
    ],
)
def test_what_is_printed_is_taken_back(flags, molere, in_tmp):
    flags = flags.replace(" --reweighter-option mode=x", "")
    done = molere(f"train {flags} --print-config")
    assert done.code == 0, done.err
    (in_tmp / "run.toml").write_text(done.out)
    again = molere("train --config run.toml --print-config")
    assert (again.code, again.out) == (0, done.out)
    assert not (in_tmp / "runs").exists()
    settings = tomllib.loads(done.out)
    config = RunConfig.of(**settings)
    shown = make_plan(config, REGISTRY).settings
    assert {name: value for name, value in shown.items() if value is not None} == settings


def test_settings_of_several_methods_are_refused(molere, in_tmp):
    done = molere("train --method erm,lrw --print-config")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert "shows the settings of one method" in done.err


def test_a_recipe_is_no_matter_of_a_resume(molere, in_tmp):
    done = molere("train --resume runs/x --recipe probe")
    assert (done.code, done.err.count("\n")) == (1, 1) and "leave the other flags out" in done.err


def test_fine_tuning_from_a_run_is_the_recipe(molere, in_tmp):
    small = "--dataset digits --limit-train 60 --quiet"
    assert molere(f"train --method erm {small} --epochs 1 --out first").code == 0
    done = molere(
        f"train --method erm {small} --init-from first/checkpoint/classifier.safetensors --out second"
    )
    assert done.code == 0, done.err
    from molere_cli.runs.run_directory import RunDir

    config = RunDir(in_tmp / "second").config()
    assert (config["optimizer"], config["layer_decay"], config["epochs"]) == ("adamw", 0.75, 15)
    assert config["lr"] == recipe_settings("finetune", {})["lr"]


def test_after_the_warmup_the_cosine_is_where_it_is_without_one():
    settings = RunConfig.of(epochs=4, lr=0.8, lr_warmup_epochs=2).classifier
    optimizer = build_optimizer(settings, nn.Linear(2, 2))
    scheduler = build_scheduler(settings, optimizer)
    rates = []
    for epoch in range(4):
        scheduler.step(epoch)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([0.008, 0.404, 0.4, 0.8 * (1 + 2**-0.5 * -1) / 2], abs=1e-6)
