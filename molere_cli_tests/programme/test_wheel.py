"""The wheel, built and installed into a fresh environment: it lacks nothing that the source tree has."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import zipfile
from pathlib import Path

import pytest

from molere_cli_tests.environments import ROOT
from molere_cli_tests.programme.test_layering import FIRST_PARTY

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from what git knows, so that no leftover of a build is in it."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    files = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z"], capture_output=True, text=True, check=True
    )
    for name in filter(None, files.stdout.split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(source)], check=True, timeout=300)
    [found] = folder.glob("*.whl")
    return found


@pytest.mark.slow
def test_the_wheel_holds_what_the_packages_hold_and_no_tests(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    packages = [ROOT / "molere_cli", *(ROOT / "plugins" / name for name in FIRST_PARTY)]
    for package in packages:
        for path in package.rglob("*"):
            if path.is_file() and path.suffix in {".py", ".toml", ".html", ".css", ".js", ".txt", ".typed"}:
                assert str(path.relative_to(package.parent)) in names, path
    assert not [name for name in names if name.startswith(("molere_cli_tests", "benchmarks", "docs"))]


@pytest.mark.slow
def test_installed_from_it_every_plugin_is_found_and_a_page_is_written(wheel, tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python, site = tmp_path / "venv" / "bin" / "python", "lib/python{}.{}/site-packages"
    own = tmp_path / "venv" / site.format(*sys.version_info)
    # As a plain path, so that no .pth file of an editable install is followed: the wheel alone is MOLERE.
    (own / "parent.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*pip, "--ignore-installed", "--disable-pip-version-check", wheel], check=True)
    alone = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([python, *arguments], cwd=tmp_path, env=alone, capture_output=True, text=True)

    where = run("-c", "import molere_cli; print(molere_cli.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(tmp_path)
    done = run("-m", "molere_cli", "plugins", "methods", "--check")
    assert (done.returncode, done.stderr) == (0, "")
    listed = run("-m", "molere_cli", "plugins").stdout
    assert all(name in listed for name in PROJECT["entry-points"]["molere"])
    line = "train --dataset digits --limit-train 60 --epochs 1 --quiet --recipe probe --method erm"
    for command in (line, "report --runs runs"):
        done = run("-m", "molere_cli", *command.split())
        assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").stat().st_size > 20_000
