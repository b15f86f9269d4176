"""One configuration for each of several methods, from one file and one set of flags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from molere_cli.commands.app import app
from molere_cli.config.from_flags import swept
from molere_cli.config.plan import make_plan
from molere_cli.foundation.errors import ConfigError, UnknownNameError
from molere_cli.registry.registry import load_plugins
from molere_cli.runs.run_directory import RunDir

REGISTRY = load_plugins()


def test_each_method_takes_the_flags_that_it_has() -> None:
    flags = {
        "method": "erm,lrw,molere",
        "split": "random",
        "reweighter_lr": 0.01,
        "splitter_lr": 0.2,
        "lr": 0.1,
    }
    notes: list[str] = []
    erm, lrw, molere = swept(None, flags, REGISTRY, note=notes.append)
    assert notes == [
        "skipped where it has no effect: --reweighter-lr, --split, --splitter-lr by erm; --splitter-lr by lrw"
    ]
    assert erm.given.keys() == {"method", "lr"}
    assert lrw.given.keys() == {"method", "lr", "split", "reweighter_lr"}
    assert molere.given.keys() == {"method", "lr", "split", "reweighter_lr", "splitter_lr"}
    for config in (erm, lrw, molere):
        make_plan(config, REGISTRY)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            {"method": "erm,focal", "reweighter_lr": 0.1},
            "--reweighter-lr has no effect with any of erm, focal",
        ),
        ({"method": "erm,erm"}, "names a method twice"),
        ({"method": "erm,lrw", "method_option": {"a": "1"}}, "--method-option goes with one method"),
        ({"method": "lrw,erm", "split": "random", "score": "aum"}, "--score has no effect with any of"),
    ],
)
def test_what_fits_no_method_is_refused(flags: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        swept(None, flags, REGISTRY)


def test_an_unknown_method_among_several_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown method 'lrv'; did you mean 'lrw'"):
        swept(None, {"method": "erm,lrv"}, REGISTRY)


def test_a_sweep_trains_every_method_and_compare_shows_them(tmp_path: Path) -> None:
    small = ["--epochs", "2", "--limit-train", "100", "--seeds", "0-1", "--runs", str(tmp_path), "--quiet"]
    result = CliRunner().invoke(app, ["train", "--method", "erm,focal,class-balanced", *small])
    assert result.exit_code == 0, result.output
    table = CliRunner().invoke(app, ["compare", *(str(path) for path in tmp_path.iterdir())])
    assert table.exit_code == 0
    assert all(label in table.stdout for label in ("ERM", "Focal", "balanced"))


def test_out_names_one_run_alone(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["train", "--method", "erm,focal", "--out", str(tmp_path / "run")])
    assert isinstance(result.exception, ConfigError)
    assert "several methods" in str(result.exception)


# --- every method, from outside


NEEDS = {
    "rho": ["--train-on", "train"],
    "group-dro": ["--dataset", "colour-digits"],
    "oracle": ["--label-noise", "uniform", "--method-option", "by=clean"],
    "dfr": ["--dataset", "colour-digits", "--freeze-backbone"],
    **{name: ["--freeze-backbone"] for name in ("logreg", "logreg-robust", "logreg-rare", "logreg-balanced")},
}


@pytest.mark.parametrize("spec", [entry.spec for entry in REGISTRY.methods.entries], ids=lambda s: s.name)
def test_every_method_trains_on_digits_from_the_command_line(spec, runner, in_tmp):
    split = ["--split", "random"] if spec.split == "required" else []
    flags = ["--epochs", "2", "--limit-train", "200", "--threads", "1", *split, *NEEDS.get(spec.name, [])]
    result = runner.invoke(app, ["train", "--method", spec.name, *flags])
    assert result.exit_code == 0, result.output
    (run,) = [RunDir(path) for path in (in_tmp / "runs").iterdir() if spec.name in path.name]
    assert run.is_done
    assert run.config()["method"] == spec.name
    assert 0 < run.metrics()[-1]["test/accuracy"] < 1


def test_what_group_dro_needs_is_said(runner, in_tmp):
    result = runner.invoke(app, ["train", "--method", "group-dro", "--epochs", "1"])
    assert str(result.exception) == "group-dro needs a dataset with groups; colour-digits has them"
    assert not list(in_tmp.glob("runs/*"))
