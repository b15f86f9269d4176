"""The programme of benchmarks/reproduce: its cells make sense, it can be interrupted, a cell can be rerun."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

from molere_cli.config.plan import make_plan
from molere_cli.registry.registry import load_plugins
from molere_cli.training.run_environment import describe_environment

FOLDER = Path(__file__).parents[2] / "benchmarks" / "reproduce"


@pytest.fixture(scope="module")
def modules() -> dict[str, ModuleType]:
    sys.path.insert(0, str(FOLDER))
    try:
        import cells
        import evidence
        import lines
        import measure
        import run
        import tables

        found = (cells, evidence, lines, measure, run, tables)
        return {module.__name__: module for module in found}
    finally:
        sys.path.remove(str(FOLDER))


def test_every_cell_can_be_planned(modules: dict[str, ModuleType]) -> None:
    registry, cells = load_plugins(), modules["cells"]
    for name, experiment in cells.experiments().items():
        own = list(cells.cells_of(name, experiment))
        assert len({cell.name for cell in own}) == len(own)
        for cell in own:
            if cell.seed == own[0].seed:
                make_plan(cell.config(), registry)


def test_what_chooses_settings_never_sees_the_test_set(modules: dict[str, ModuleType]) -> None:
    cells = modules["cells"]
    for name, experiment in cells.experiments().items():
        if name.startswith("tune-"):
            assert experiment.sets == ("tuning",)
            found = modules["lines"].read_lines(cells.results_of(name))
            assert found
            assert all(line["metrics"].keys() == {"tuning"} for line in found.values())


def test_everything_pins_device_precision_and_threads(modules: dict[str, ModuleType]) -> None:
    for experiment in modules["cells"].experiments().values():
        assert experiment.settings["device"] == "cpu"
        assert experiment.settings["precision"] in ("fp32", "bf16")
        assert experiment.settings["threads"] == 1


def test_the_shortcut_rows_have_one_setting_for_every_rho(modules: dict[str, ModuleType]) -> None:
    cells = modules["cells"]
    by_row: dict[str, set[str]] = {}
    for cell in cells.cells_of("shortcut", cells.experiments()["shortcut"]):
        settings = {k: v for k, v in cell.settings.items() if k not in ("seed", "dataset_option")}
        by_row.setdefault(cell.row, set()).add(repr(sorted(settings.items())))
    assert all(len(found) == 1 for found in by_row.values())


def test_options_of_later_layers_add_up_key_by_key(modules: dict[str, ModuleType]) -> None:
    merged = modules["cells"].merged({"o": {"a": "1", "b": "1"}, "x": 1}, {"o": {"b": "2"}})
    assert merged == {"o": {"a": "1", "b": "2"}, "x": 1}


def test_the_folder_of_images_is_a_placeholder_in_a_result(modules: dict[str, ModuleType]) -> None:
    cells = modules["cells"]
    settings = {"dataset": "parquet:{data}/cifar10"}
    here = cells.filled_in(settings)
    assert here["dataset"] == f"parquet:{cells.DATA}/cifar10"
    assert cells.with_placeholder(here) == settings


def test_an_interrupted_job_goes_on_with_what_is_missing(
    modules: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, run = modules["cells"], modules["run"]
    monkeypatch.setattr(cells, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(run, "SCRATCH", tmp_path / "scratch")
    small = {"epochs": 1, "limit_train": 60, "device": "cpu", "threads": 1, "precision": "fp32", "seed": 3}
    own = [
        cells.Cell(experiment="shortcut", variant="v", row=row, seed=3, settings={**small, **settings})
        for row, settings in {
            "erm": {"method": "erm", "dataset": "colour-digits"},
            "lrw": {"method": "lrw", "split": "hard", "dataset": "colour-digits"},
        }.items()
    ]
    assert run.run_job(own, 0.0).startswith("0 of 2")
    assert run.run_job(own[:1], float("inf")).startswith("1 of 1")
    assert [cell.is_done for cell in own] == [True, False]
    run.run_job(own[1:], float("inf"))
    assert all(cell.is_done for cell in own)
    result = own[1].result
    assert result["split"]["share_of_val"]["hard"] == 1.0
    assert result["metrics"].keys() == {"test"}
    # Other settings under the same name are not this cell, and their result takes its line's place.
    changed = own[0].model_copy(update={"settings": {**own[0].settings, "epochs": 2}})
    assert not changed.is_done
    run.run_job([changed], float("inf"))
    assert [cell.is_done for cell in (changed, *own)] == [True, False, True]
    assert len(modules["lines"].read_lines(changed.path)) == 2


def test_a_measurement_goes_on_with_the_pools_that_it_has_no_line_of(
    modules: dict[str, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells, evidence, lines = (modules[name] for name in ("cells", "evidence", "lines"))
    monkeypatch.setattr(cells, "RESULTS", tmp_path)
    asked = ("signal", ["shortcut", "oracle-clean"], [0, 1])
    names = [cell.name for cell in evidence.unmeasured(*asked)]
    assert len(names) == 10
    assert {name.split("/")[2] for name in names} == {"lrw-hard-all", "lrw-hard"}
    lines.write_line(cells.results_of("signal"), {"cell": names[3], "epochs": []})
    assert [cell.name for cell in evidence.unmeasured(*asked)] == [*names[:3], *names[4:]]


def test_a_cell_without_a_result_is_not_rerun(
    modules: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    assert modules["run"].rerun("shortcut/rho-0.90/erm/s999") == 1
    assert "there is no shortcut/rho-0.90/erm/s999 in " in capsys.readouterr().err


@pytest.mark.slow
def test_the_cheapest_cell_gives_its_numbers_again(
    modules: dict[str, ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    run = modules["run"]
    name = "shortcut/rho-0.90/erm/s0"
    recorded = modules["lines"].read_lines(modules["cells"].results_of("shortcut"))[name]["environment"]
    here = {**describe_environment(), "threads": 1}
    for key in run.BITS_DEPEND_ON:
        if here[key] != recorded[key]:
            pytest.skip(f"{key} is {here[key]} here, {recorded[key]} where {name} was run")
    assert run.rerun(name) == 0
    assert "the same numbers" in capsys.readouterr().out


def test_the_table_of_the_readme_is_that_of_the_cells(modules: dict[str, ModuleType]) -> None:
    rows = {
        "ERM (plain training)": ("auto-digits", "erm"),
        "LRW, learned weights": ("auto-digits", "lrw-auto"),
        "MOLERE, learned target set too": ("auto-digits", "molere-auto"),
        "JTT, a simple rival": ("shortcut", "jtt"),
    }
    shown = {}
    for line in (FOLDER.parents[1] / "README.md").read_text(encoding="utf-8").splitlines():
        parts = [part.strip() for part in line.strip("|").split("|")]
        if len(parts) == 4 and parts[2].endswith("%"):
            shown[parts[0]] = parts[1:]
    assert shown.keys() == rows.keys()
    for label, (experiment, row) in rows.items():
        finished = modules["evidence"].finished(experiment, "rho-0.90")
        runs, erm = finished[row], finished["erm"]
        assert len(runs) == 10
        gain, worst, price = shown[label]
        expected = "-" if row == "erm" else modules["tables"].gain(experiment, "rho-0.90", row)
        assert gain == expected
        mean = sum(run["metrics"]["test"]["worst_group"] for run in runs.values()) / 10
        assert worst == f"{100 * mean:.1f}%"
        ratio = sum(run["seconds"] / erm[seed]["seconds"] for seed, run in runs.items()) / 10
        assert price == ("1" if row == "erm" else f"{ratio:.1f}")
