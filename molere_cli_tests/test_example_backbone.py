"""The example of a third-party plugin, installed as a package of its own into a fresh environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[1] / "plugins" / "example_backbone"
TRAIN = "train --dataset digits --backbone example_mlp --method erm --epochs 1"


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "PYTHONHOME"}}
    environment = {**inherited, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Path:
    """The interpreter of a virtual environment that has the example, and sees what this one has."""
    folder = tmp_path_factory.mktemp("environment")
    done = run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    assert done.returncode == 0, done.stderr
    interpreter = folder / "venv" / "bin" / "python"
    own = run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    # addsitedir, unlike a plain path, also follows the .pth files of an editable install.
    parent = sysconfig.get_path("purelib")
    (Path(own.stdout.strip()) / "parent.pth").write_text(f"import site; site.addsitedir({parent!r})\n")
    # A copy, since building leaves folders beside the sources.
    source = shutil.copytree(
        EXAMPLE, folder / "example", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    )
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check")
    done = run(interpreter, "-m", "pip", "install", *options, source, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return interpreter


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
    files = ["pyproject.toml", "molere_example_backbone.py", "README.md"]
    assert sum(len((EXAMPLE / name).read_text().splitlines()) for name in files) < 60
