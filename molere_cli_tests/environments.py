"""Virtual environments for tests that install a package of its own beside MOLERE, without a network."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command on the code under test, wherever that is installed from."""
    path = os.pathsep.join(map(str, (ROOT, ROOT / "plugins")))
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONHOME"}
    environment = {**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def environment_with(source: Path, folder: Path) -> Path:
    """The interpreter of a new environment in `folder` that has the package of `source` installed, and sees
    what this one has."""
    done = run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    assert done.returncode == 0, done.stderr
    interpreter = folder / "venv" / "bin" / "python"
    own = run(interpreter, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    # addsitedir, unlike a plain path, also follows the .pth files of an editable install.
    parent = sysconfig.get_path("purelib")
    (Path(own.stdout.strip()) / "parent.pth").write_text(f"import site; site.addsitedir({parent!r})\n")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--disable-pip-version-check")
    done = run(interpreter, "-m", "pip", "install", *options, source, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return interpreter
