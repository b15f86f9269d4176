"""What the scripts of benchmarks/ share: options, timing by turns, memory of a process, tables."""

from __future__ import annotations

import argparse
import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "harness.py"


@pytest.fixture(scope="module")
def harness() -> ModuleType:
    spec = importlib.util.spec_from_file_location("harness", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["harness"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def parsed(harness: ModuleType, monkeypatch: pytest.MonkeyPatch, *given: str) -> argparse.Namespace:
    monkeypatch.setattr(sys, "argv", ["script.py", *given])
    parser = harness.option_parser("What it does.\n\nMore.", repetitions=5, memory=True)
    assert parser.description == "What it does."
    parser.add_argument("--networks", nargs="+", default=["large", "small"])
    options: argparse.Namespace = harness.parse(parser, quick={"repetitions": 2, "networks": ["small"]})
    return options


def test_quick_lowers_numbers_and_replaces_the_rest(
    harness: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = parsed(harness, monkeypatch)
    assert (plain.repetitions, plain.networks) == (5, ["large", "small"])
    quick = parsed(harness, monkeypatch, "--quick")
    assert (quick.repetitions, quick.networks) == (2, ["small"])
    assert parsed(harness, monkeypatch, "--quick", "--repetitions", "1").repetitions == 1


def test_rows_take_turns_after_a_round_that_does_not_count(harness: ModuleType) -> None:
    order: list[str] = []
    runs = {name: lambda name=name: order.append(name) for name in "ab"}
    found = harness.time_runs(runs, repetitions=2)
    assert "".join(order) == "ababab"
    assert {name: len(timing.seconds) for name, timing in found.items()} == {"a": 2, "b": 2}


def test_a_timing_is_its_median_and_half_the_distance_of_its_quartiles(harness: ModuleType) -> None:
    timing = harness.Timing([0.3, 0.1, 0.2])
    assert timing.cells(".1f", per_second=1000) == ("200.0", "25%")
    assert timing.over(harness.Timing([0.1])) == "2.00x"
    assert harness.Timing([0.1]).spread == "-"
    assert math.isnan(harness.Timing().median)


def test_without_memory_no_process_is_started(harness: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    options = parsed(harness, monkeypatch, "--no-memory")
    assert harness.mebibytes(harness.peak_memory("row", options)) == "-"


def test_a_row_that_fails_ends_its_process_though_its_memory_is_watched(harness: ModuleType) -> None:
    code = f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); import harness\n"
    code += "harness.report_peak_with_workers(lambda: 1 / 0)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert found.returncode == 1
    assert "ZeroDivisionError" in found.stderr


def test_a_table_is_markdown(harness: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    harness.print_table(["row", "s"], [["a|b", "1.0"], ["c", "10.0"]])
    assert capsys.readouterr().out == (
        "| row  |    s |\n| ---- | ---: |\n| a\\|b |  1.0 |\n| c    | 10.0 |\n\n"
    )
