"""configs/paper: every file is a valid run of MOLERE, of LRW and of ERM, and trains."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from molere_cli.commands.app import app
from molere_cli.config.config_file import read_config_file
from molere_cli.config.from_flags import configured
from molere_cli.config.plan import make_plan
from molere_cli.foundation.errors import ConfigError
from molere_cli.registry.registry import load_plugins

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "configs" / "paper").glob("*.toml"))
REGISTRY = load_plugins()


@pytest.mark.parametrize("method", ["molere", "lrw", "erm"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_plans_for_every_method(path: Path, method: str) -> None:
    plan = make_plan(configured(path, {"method": method}, REGISTRY), REGISTRY)
    assert plan.method.name == method
    assert plan.config.classifier.epochs == 100
    if method != "erm":
        assert (plan.config.reweighting.warmup_epochs, plan.config.reweighting.reweighter_interval) == (25, 5)


@pytest.mark.parametrize("split", ["easy", "random", "hard"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_plans_for_every_split_of_lrw(path: Path, split: str) -> None:
    plan = make_plan(configured(path, {"method": "lrw", "split": split}, REGISTRY), REGISTRY)
    assert plan.settings["split"] == split
    assert plan.settings.get("score") == (None if split == "random" else "margin")
    assert "membership" not in plan.settings


def test_files_differ_in_data_and_network_alone() -> None:
    """The recipe is the same in all, so that a mended number is mended everywhere."""
    own = {"dataset", "download", "label_noise", "noise_rate", "image_size", "backbone", "backbone_option"}
    own |= {"batch_size", "delta"}
    recipes = [{k: v for k, v in read_config_file(path).items() if k not in own} for path in FILES]
    assert all(recipe == recipes[0] for recipe in recipes)


def test_sizes_and_networks_are_the_published_ones() -> None:
    given = {path.stem: read_config_file(path) for path in FILES}
    deltas = {name: values["delta"] for name, values in given.items() if values["delta"] != 0.1}
    assert deltas == {"cats-v-dogs": 0.163, "stanford-cars": 1 / 16}
    for values in given.values():
        assert values["batch_size"] == (64 if values["dataset"].startswith("cifar") else 32)
    assert given["cifar100"]["backbone"] == "wrn28_10"
    assert given["cifar100"]["backbone_option"] == {"dropout": "0.3"}


def test_the_page_names_every_file_and_every_command_in_a_file_plans() -> None:
    page = (ROOT / "configs" / "README.md").read_text(encoding="utf-8")
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert f"`{path.stem}`" in page
        commands = re.findall(r"^#   molere train --config (\S+) --seeds \S+ (.*)$", text, re.MULTILINE)
        assert len(commands) == 3
        for file, flags in commands:
            words = flags.replace("--", "").split()
            given = dict(zip(words[::2], words[1::2], strict=True))
            assert ROOT / file == path
            make_plan(configured(ROOT / file, given, REGISTRY), REGISTRY)


def test_a_flag_that_the_method_does_not_have_is_still_refused() -> None:
    config = configured(FILES[0], {"method": "erm", "reweighter_lr": 0.1}, REGISTRY)
    with pytest.raises(ConfigError, match="--reweighter-lr has no effect with method 'erm'"):
        make_plan(config, REGISTRY)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of six images, for training and for testing."""
    root = tmp_path_factory.mktemp("pictures")
    for part in ("train", "test"):
        for label, level in (("dark", 40), ("bright", 200)):
            (root / part / label).mkdir(parents=True)
            for number in range(6):
                image = Image.new("RGB", (32, 32), (level, level + number, level))
                image.save(root / part / label / f"{number}.png")
    return root


LARGE = {"cifar100", "cifar10-noise"}  # whose network is wrn28_10


@pytest.mark.slow
@pytest.mark.parametrize(
    "path",
    [pytest.param(path, marks=[pytest.mark.long] * (path.stem in LARGE)) for path in FILES],
    ids=lambda path: path.stem,
)
def test_a_file_trains_for_a_few_steps(path: Path, pictures: Path, tmp_path: Path) -> None:
    small = ["--dataset", f"folder:{pictures}", "--image-size", "32", "--epochs", "2", "--batch-size", "4"]
    # Instance-dependent noise needs its images in memory.
    small += ["--label-noise", "none"]
    settings = ["--warmup-epochs", "1", "--delta", "0.34", "--membership", "quota", "--device", "cpu"]
    command = ["train", "--config", str(path), *small, *settings, "--precision", "fp32", "--workers", "0"]
    result = CliRunner().invoke(
        app, [*command, "--method", "molere", "--out", str(tmp_path / "run"), "--quiet"]
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "DONE").exists()
