"""What a run says it was made with."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from molere_cli.training.run_environment import source_commit

ROOT = Path(__file__).parents[2]


def test_a_checkout_says_its_commit() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout")
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert source_commit() == head.stdout.strip()
