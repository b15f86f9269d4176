"""configs/paper: every file is a valid run of MOLERE, of LRW and of ERM, and trains."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from molere_cli.__main__ import app
from molere_cli.errors import ConfigError
from molere_cli.plan import configured, make_plan
from molere_cli.registry import load_plugins

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs" / "paper").glob("*.toml"))
REGISTRY = load_plugins()


@pytest.mark.parametrize("method", ["molere", "lrw", "erm"])
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_plans_for_every_method(path: Path, method: str) -> None:
    plan = make_plan(configured(path, {"method": method}, REGISTRY), REGISTRY)
    assert plan.method.name == method
    assert plan.config.epochs == 100
    if method != "erm":
        assert (plan.config.warmup_epochs, plan.config.reweighter_interval) == (25, 5)


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


@pytest.mark.slow
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_trains_for_a_few_steps(path: Path, pictures: Path, tmp_path: Path) -> None:
    small = ["--dataset", f"folder:{pictures}", "--image-size", "32", "--epochs", "2", "--batch-size", "4"]
    settings = ["--warmup-epochs", "1", "--delta", "0.34", "--membership", "quota", "--device", "cpu"]
    command = ["train", "--config", str(path), *small, *settings, "--precision", "fp32", "--workers", "0"]
    result = CliRunner().invoke(
        app, [*command, "--method", "molere", "--out", str(tmp_path / "run"), "--quiet"]
    )
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "DONE").exists()
