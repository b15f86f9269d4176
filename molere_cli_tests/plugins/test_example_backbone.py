"""The example of a third-party plugin, installed as a package of its own into a fresh environment."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from molere_cli_tests.environments import environment_with, run

EXAMPLE = Path(__file__).parents[2] / "plugins" / "example_backbone"


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of a virtual environment that has the example, and sees what this one has."""
    folder = tmp_path_factory.mktemp("environment")
    # A copy, since building leaves folders beside the sources.
    source = shutil.copytree(
        EXAMPLE, folder / "example", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    )
    return environment_with(source, folder)


@pytest.mark.slow
def test_the_example_is_listed_with_its_plugin(python, tmp_path):
    done = run(python, "-m", "molere_cli", "plugins", "backbones", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if "example_mlp" in line]
    assert "molere_example_backbone" in row
    assert "small_cnn" in done.stdout
    assert "molere_example_backbone" not in done.stderr


@pytest.mark.slow
def test_the_example_trains(python, tmp_path):
    command = (
        "train --dataset digits --backbone example_mlp --backbone-option hidden=8 --method erm --epochs 1"
    )
    done = run(python, "-m", "molere_cli", *command.split(), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "runs").iterdir()
    assert (folder / "DONE").is_file()
    assert "example_mlp" in (folder / "config.json").read_text()


@pytest.mark.slow
def test_the_tests_of_the_example_pass(python, tmp_path):
    test = shutil.copy(EXAMPLE / "test_molere_example_backbone.py", tmp_path)
    done = run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", test, cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.slow
def test_a_wrong_option_of_the_example_is_one_sentence(python, tmp_path):
    command = (
        "train --dataset digits --backbone example_mlp --backbone-option hiden=8 --method erm --epochs 1"
    )
    done = run(python, "-m", "molere_cli", *command.split(), cwd=tmp_path)
    assert done.returncode == 1
    assert "did you mean 'hidden'?" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr


def test_the_example_is_not_installed_here():
    """Or the tests above would find it without installing anything."""
    done = run(sys.executable, "-c", "import molere_example_backbone", cwd=Path(sys.prefix))
    assert "No module named 'molere_example_backbone'" in done.stderr


def test_the_example_fits_on_a_page():
    files = ["pyproject.toml", "molere_example_backbone.py", "README.md", "test_molere_example_backbone.py"]
    assert sum(len((EXAMPLE / name).read_text().splitlines()) for name in files) < 60
