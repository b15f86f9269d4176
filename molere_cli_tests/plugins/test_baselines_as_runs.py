"""The published methods as runs: resumed, documented, refused where a need is not met."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import torch
from torch import nn

from molere_cli import BackboneSpec, ConfigError, hookimpl
from molere_cli.config.config_file import validate_config
from molere_cli.config.plan import make_plan
from molere_cli.data.source import load_dataset
from molere_cli.hardness.hardness_scores import erm_config
from molere_cli.training.build_engine import build_engine
from molere_cli.training.training_health import collapse_of
from molere_cli_tests.conftest import TINY_SIZE
from molere_cli_tests.plugins.test_baselines import RUNS, run_config
from molere_cli_tests.training import engine_for, tiny_config
from molere_cli_tests.unit.test_training import check_resumed_to_the_same_bits

pytestmark = pytest.mark.slow

METHODS_PAGE = (Path(__file__).parents[2] / "docs" / "guide" / "methods.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", RUNS)
def test_a_killed_run_resumes_to_the_same_bits(name, registry, tmp_path):
    check_resumed_to_the_same_bits(run_config(name), registry, tmp_path, label_part=name)


@pytest.mark.parametrize("name", RUNS)
def test_every_method_learns_and_differs_from_erm(name, registry):
    config = run_config(name, epochs=6)
    plan = make_plan(config, registry)
    in_validation = None
    if plan.needs_split:
        in_validation = torch.arange(TINY_SIZE) % 4 == torch.arange(TINY_SIZE) // 16
    engine = build_engine(plan, load_dataset(config.data, registry), in_validation)
    records = list(engine.loop.epochs())
    assert records[-1]["train/loss"] < records[0]["train/loss"]
    same_data = erm_config(config)
    erm = engine_for(same_data, registry)
    list(erm.loop.epochs())
    different = [
        not torch.equal(one, other)
        for one, other in zip(
            engine.classifier.module.parameters(), erm.classifier.module.parameters(), strict=True
        )
    ]
    assert any(different)


@pytest.mark.parametrize("name", ["mwn", "l2r", "fsr", "gdw", "rho", "jtt", "mbr", "group-dro", "focal"])
def test_training_leaves_the_global_random_state_alone(name, registry):
    config = run_config(name, epochs=2)
    in_validation = torch.arange(TINY_SIZE) % 4 == torch.arange(TINY_SIZE) // 16
    in_validation = in_validation if make_plan(config, registry).needs_split else None
    state = torch.get_rng_state()
    list(engine_for(config, registry, in_validation).loop.epochs())
    assert torch.equal(state, torch.get_rng_state())


def test_every_registered_method_of_the_package_is_tested_here(registry):
    ours = {entry.spec.name for entry in registry.methods.entries if entry.plugin == "molere_baselines"}
    assert ours == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_the_documented_command_line_of_every_method_is_a_plan(registry, name):
    section = METHODS_PAGE.partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    command = re.search(r"^      molere train (.*)$", section, re.MULTILINE)[1]
    flags = shlex.split(command)
    values: dict[str, object] = {}
    for flag, value in zip(flags[::2], flags[1::2], strict=True):
        field = flag.removeprefix("--").replace("-", "_")
        if field.endswith("_option"):
            key, _, text = value.partition("=")
            values[field] = {**values.get(field, {}), key: text}
        else:
            values[field] = value
    assert values["method"] == name
    assert f"](#{name})" in METHODS_PAGE
    make_plan(validate_config(values), registry)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"method": "group-dro"}, r"^group-dro needs a dataset with groups; colour-digits has them$"),
        ({"method": "oracle"}, r"^oracle by=groups needs a dataset with groups; colour-digits has them"),
        ({"method": "oracle", "method_option": {"by": "clean"}}, r"by=clean needs .*add --label-noise"),
        ({"method": "rho", "split": "random"}, r"^rho scores .* must not overlap; add --train-on train$"),
        ({"method": "fsr", "method_option": {"probe_batch_size": "3"}}, r"probe_batch_size 3 has no room"),
        ({"method": "fsr", "method_option": {"capacity": "3"}}, r"capacity 3 has no room .* 4 classes"),
        (
            {"method": "jtt", "method_option": {"first_epochs": "5"}},
            r"first_epochs = 5 is more than --epochs 4",
        ),
    ],
)
def test_a_missing_need_is_refused_when_the_method_is_built(registry, changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        engine_for(tiny_config(**changes), registry, torch.arange(TINY_SIZE) < 16)


def test_fsr_refuses_a_backbone_whose_logits_are_not_those_of_its_last_layer(registry):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(3, 4)

        def forward(self, images):
            return 3 * self.layer(images.mean(dim=(2, 3))) + 1

    class Plugin:
        @hookimpl
        def register_backbones(self, register):
            register(BackboneSpec(name="scaled", description="Scaled.", build=lambda request: Scaled()))

    registry.add(Plugin(), "scaled_plugin")
    with pytest.raises(ConfigError, match=r"come out of a last nn.Linear; scaled has none"):
        engine_for(run_config("fsr", backbone="scaled"), registry)


@pytest.mark.parametrize("name", ["mwn", "l2r", "gdw", "rho"])
def test_methods_that_learn_from_a_split_ask_for_one(registry, name):
    assert make_plan(run_config(name), registry).needs_split


def test_an_unknown_option_of_a_method_is_refused(registry):
    with pytest.raises(ConfigError, match="unknown key 'gama'; did you mean 'gamma'"):
        make_plan(tiny_config(method="focal", method_option={"gama": "1"}), registry)


def test_low_focal_weights_are_not_called_a_collapse(registry):
    assert collapse_of({"weights/mean": 1e-4, "weights/std": 0.0}) is None
