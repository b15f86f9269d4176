"""The command line from outside: what it prints, what it leaves behind, how it says no."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

import molere_cli
from molere_cli import MethodSpec, hookimpl
from molere_cli.commands import app as entry
from molere_cli.commands import console
from molere_cli.config.config_file import read_config_file
from molere_cli.config.run_config import OWNERS, RunConfig, field_of, flag_name
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry.registry import load_plugins
from molere_cli_tests.conftest import Done

SMALL = "--limit-train 100 --epochs 2 --precision fp32 --quiet"


@pytest.fixture
def train(in_tmp, runner):
    """Trains in the temporary directory and returns the run directories whose paths were printed."""

    def call(line: str) -> list[Path]:
        done = runner.invoke(entry.app, ["train", *shlex.split(f"{line} {SMALL}")], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return [Path(path) for path in done.stdout.splitlines()]

    return call


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """A folder with two finished runs, of ERM and then of LRW; for reading alone."""
    folder = tmp_path_factory.mktemp("finished") / "runs"
    for method in ("--method erm", "--method lrw --split random --warmup-epochs 0"):
        line = f"train {method} {SMALL} --runs {folder} --dataset colour-digits"
        done = CliRunner().invoke(entry.app, shlex.split(line), prog_name="molere", catch_exceptions=False)
        assert done.exit_code == 0, done.output
    return folder


def metrics_of(run: Path) -> list[dict]:
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if not k.startswith(("time/", "memory/"))} for record in records]


def config_of(run: Path) -> dict:
    return json.loads((run / "config.json").read_text())


# --- train


def test_train_prints_the_path_of_the_run_last(in_tmp, molere):
    done = molere(f"train --method erm {SMALL}".replace("--quiet", ""))
    assert done.code == 0
    assert done.out == "runs/digits-erm-s0\n"
    assert "epoch 2/2" in done.err
    assert {path.name for path in (in_tmp / "runs" / "digits-erm-s0").iterdir()} == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "checkpoint",
        "checkpoint.old",
        "pool.parquet",
        "predictions.parquet",
        "thumbnails.parquet",
        "DONE",
    }


def test_the_end_of_training_says_what_to_type_next(in_tmp, molere):
    erm = f"train --method erm {SMALL.removesuffix('--quiet')} --runs 'my runs'"
    first = molere(erm)
    assert first.err.splitlines()[-1] == "next: molere hardest 'my runs/digits-erm-s0'"
    assert molere(first.err.splitlines()[-1].removeprefix("next: molere ")).code == 0
    second = molere(f"{erm} --seed 1")
    assert second.err.splitlines()[-1] == "next: molere compare 'my runs'/*"


def test_quiet_training_says_the_path_alone(in_tmp, molere):
    assert molere(f"train --method erm {SMALL}") == Done(0, "runs/digits-erm-s0\n", "")


def test_the_default_method_makes_its_split_on_the_way(train):
    """LRW on what the pool's evidence asks for: an ERM run is trained first, and named in the split."""
    (run,) = train("")
    assert run == Path("runs/digits-lrw-s0")
    assert sorted(path.name for path in run.parent.iterdir()) == ["digits-erm-s0", "digits-lrw-s0"]
    assert (run / "split.parquet").is_file()
    environment = json.loads((run / "environment.json").read_text())
    assert environment["label"] == "LRW-Auto"
    assert environment["split"]["erm_run"] == "runs/digits-erm-s0"


def test_train_prints_final_metrics_as_json(in_tmp, molere):
    done = molere(f"train --method erm {SMALL} --json")
    (printed,) = json.loads(done.out)
    assert printed.pop("path") == "runs/digits-erm-s0"
    assert {k: v for k, v in printed.items() if not k.startswith(("time/", "memory/"))} == (
        metrics_of(Path("runs/digits-erm-s0"))[-1]
    )
    assert {"test/accuracy", "test/margin", "tuning/accuracy", "train/loss"} <= printed.keys()


def test_seeds_give_a_run_each(train):
    runs = train("--method erm --seeds 0,2")
    assert runs == [Path("runs/digits-erm-s0"), Path("runs/digits-erm-s2")]
    assert [config_of(run)["seed"] for run in runs] == [0, 2]
    assert metrics_of(runs[0]) != metrics_of(runs[1])


def test_out_and_runs_say_where_the_run_goes(train):
    assert train("--method erm --out somewhere/else") == [Path("somewhere/else")]
    assert train("--method erm --runs others") == [Path("others/digits-erm-s0")]
    assert not Path("runs").exists()


def test_an_existing_out_is_refused(train, molere):
    (run,) = train("--method erm --out mine")
    before = (run / "metrics.jsonl").stat()
    done = molere(f"train --method erm --out mine {SMALL}")
    assert (done.code, done.out) == (1, "")
    assert done.err == (
        "molere: mine exists already; choose another --out, or `--resume mine` if it is unfinished\n"
    )
    assert (run / "metrics.jsonl").stat() == before


def test_a_run_never_overwrites_another(train):
    (first,) = train("--method erm")
    written = (first / "config.json").stat()
    (second,) = train("--method erm")
    (third,) = train("--method erm")
    assert [path.name for path in (first, second, third)] == [
        "digits-erm-s0",
        "digits-erm-s0-2",
        "digits-erm-s0-3",
    ]
    assert (first / "config.json").stat() == written
    assert metrics_of(first) == metrics_of(second)


def test_the_defaults_give_way_to_the_file_and_the_file_to_the_flags(train):
    Path("run.toml").write_text(
        'dataset = "colour-digits"\nmethod = "erm"\nbatch_size = 32\nlr = 0.02\n'
        "[dataset_option]\nrho = 0.8\n[backbone_option]\n"
    )
    (run,) = train("--config run.toml --lr 0.03")
    config = config_of(run)
    assert config["batch_size"] == 32
    assert config["lr"] == 0.03
    assert config["momentum"] == RunConfig().classifier.momentum
    assert config["dataset_option"] == {"rho": "0.8"}
    (other,) = train("--config run.toml --dataset-option rho=0.7")
    assert config_of(other)["dataset_option"] == {"rho": "0.7"}
    assert config_of(other)["lr"] == 0.02


def test_an_unknown_key_of_the_file_suggests_the_nearest(in_tmp, molere):
    Path("run.toml").write_text("batchsize = 32\n")
    assert molere("train --config run.toml") == Done(
        1, "", "molere: run.toml: unknown key 'batchsize'; did you mean 'batch_size'?\n"
    )


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("run.toml", "epochs = ", "run.toml is not valid TOML: "),
        ("run.json", "{", "run.json is not valid JSON: "),
        ("run.json", '{"lr": 1e', "run.json is not valid JSON: "),
        ("run.JSON", '{"epochs": 0}', "run.JSON: epochs = 0: "),
        ("run.cfg", "method: erm", "run.cfg is not valid TOML: "),
        ("run.yaml", "method: erm", "run.yaml is YAML; molere reads TOML or JSON"),
        ("RUN.YML", "{}", "RUN.YML is YAML; molere reads TOML or JSON"),
        ("run.toml", "image-size = 32", "run.toml: unknown key 'image-size'; did you mean 'image_size'?"),
        ("run.toml", '"--LR" = 32', "run.toml: unknown key '--LR'; did you mean 'lr'?"),
        ("run.json", "[1]", "run.json must hold a table of settings, not a list"),
        ("run.toml", "epochs = 0", "run.toml: epochs = 0: input should be greater than or equal to 1"),
        ("run.toml", 'schedule = "linear"', "run.toml: schedule = 'linear': input should be 'cosine'"),
    ],
)
def test_a_broken_configuration_is_one_sentence(in_tmp, molere, name, text, sentence):
    Path(name).write_text(text)
    assert_refused(molere(f"train --config {name}"), sentence)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-8"])
@pytest.mark.parametrize(
    ("name", "text"), [("é.toml", 'dataset = "café"\n'), ("run.json", '{"dataset": "café"}')]
)
def test_byte_order_marks_are_no_settings(in_tmp, name, text, encoding):
    mark = "\ufeff" if encoding in ("utf-16-le", "utf-16-be") else ""
    Path(name).write_bytes((mark + text).encode(encoding))
    assert read_config_file(Path(name)) == {"dataset": "café"}


@pytest.mark.parametrize("content", [b"lr = 1 # caf\xe9", "lr = 1".encode("utf-16-be"), b"\xff\xfelr", b"\0"])
def test_a_file_that_is_no_text_is_one_sentence(in_tmp, molere, content):
    Path("run.toml").write_bytes(content)
    assert_refused(molere("train --config run.toml"), "run.toml is not valid TOML: ")


@pytest.mark.parametrize(
    "line",
    [
        "--method erm --optimizer adamw --lr 0.001",
        "--method lrw --split random --reweighter features --warmup-epochs 0",
        "--method molere --delta 0.2",
        "--method erm --train-on train --split random",
    ],
)
def test_a_saved_configuration_gives_the_same_metrics_again(train, line):
    (first,) = train(line)
    (again,) = train(f"--config {first / 'config.json'} --out again")
    assert metrics_of(first) == metrics_of(again)
    assert config_of(first) == config_of(again)


def test_options_reach_the_backbone(train):
    plain, dropping = (
        train(f"--method erm --backbone wrn16_2 --backbone-option dropout={dropout}")[0]
        for dropout in ("0", "0.5")
    )
    assert config_of(dropping)["backbone_option"] == {"dropout": "0.5"}
    assert metrics_of(plain)[0]["train/loss"] != metrics_of(dropping)[0]["train/loss"]


# --- resume


class KilledInEpoch(NoProgress):
    """Presses Ctrl-C in the middle of an epoch."""

    def __init__(self, number: int) -> None:
        self.number = number

    def step_taken(self, *, epoch, step, num_steps, loss):
        if epoch == self.number:
            raise KeyboardInterrupt


@pytest.mark.parametrize("line", ["--method erm", "--method lrw --split random --warmup-epochs 0"])
@pytest.mark.parametrize("epoch", [0, 1])
def test_an_interrupted_run_resumes_to_the_same_metrics(train, runner, monkeypatch, line, epoch):
    (whole,) = train(f"{line} --out whole")
    with monkeypatch.context() as patched:
        patched.setattr(console, "progress_display", lambda *, quiet: nullcontext(KilledInEpoch(epoch)))
        cut = runner.invoke(entry.app, shlex.split(f"train {line} {SMALL} --out cut"))
    assert cut.exit_code != 0
    assert not Path("cut/DONE").exists()
    done = runner.invoke(entry.app, ["train", "--resume", "cut", "--quiet"], catch_exceptions=False)
    assert (done.exit_code, done.stdout) == (0, "cut\n")
    assert Path("cut/DONE").exists()
    assert metrics_of(Path("cut")) == metrics_of(whole)
    assert pq.read_table("cut/predictions.parquet").equals(pq.read_table(whole / "predictions.parquet"))


def test_a_finished_run_has_nothing_to_resume(train, molere):
    (run,) = train("--method erm")
    before = (run / "metrics.jsonl").stat()
    done = molere(f"train --resume {run}")
    assert done.code == 0
    assert done.last_line == str(run)
    assert "is finished; nothing to resume" in done.err
    assert (run / "metrics.jsonl").stat() == before


# --- split


def val_labels(path: str | Path) -> dict[int, int]:
    """Validation examples of each class."""
    table = pq.read_table(path).to_pydict()
    chosen = [label for label, val in zip(table["label"], table["in_validation"], strict=True) if val]
    return {label: chosen.count(label) for label in sorted(set(table["label"]))}


@pytest.mark.parametrize("strategy", ["hard", "easy", "random"])
def test_split_writes_a_file_and_prints_its_path_last(in_tmp, molere, strategy):
    done = molere(f"split --strategy {strategy} --delta 0.2 {SMALL}".replace("--quiet", ""))
    assert done.code == 0
    assert done.last_line == f"splits/digits-{strategy}-0.2.parquet"
    assert "Split by class" in done.out
    table = pq.read_table(done.last_line)
    assert table.column_names == ["index", "label", "score", "in_validation"]
    assert set(val_labels(done.last_line).values()) == {2}
    assert Path("runs").exists() == (strategy != "random")
    assert (table["score"].null_count == 100) == (strategy == "random")


def test_groups_have_a_table_of_their_own(in_tmp, molere):
    done = molere(f"split --strategy random --dataset colour-digits {SMALL}".replace("--quiet", ""))
    assert "Split by group" in done.out
    assert "colour disagrees" in done.out


def test_hard_and_easy_are_the_two_ends_of_one_ranking(train, molere):
    (erm,) = train("--method erm")
    paths = [molere(f"split --strategy {s} --erm {erm} --quiet").last_line for s in ("hard", "easy")]
    hard, easy = (pq.read_table(path).to_pydict() for path in paths)
    assert hard["score"] == easy["score"]
    for label in range(10):
        rows = [row for row in range(100) if hard["label"][row] == label]
        lowest = min(rows, key=lambda row: hard["score"][row])
        highest = max(rows, key=lambda row: hard["score"][row])
        assert hard["in_validation"][lowest]
        assert easy["in_validation"][highest]
        assert not hard["in_validation"][highest]


def test_what_an_erm_run_has_settled_may_be_said_again(train, molere):
    (erm,) = train("--method erm")
    done = molere(f"split --erm {erm} {SMALL}")
    assert done.code == 0, done.err
    assert_refused(
        molere(f"split --erm {erm} --dataset colour-digits"),
        f"--dataset colour-digits is not what --erm {erm} was trained with (digits); leave it out",
    )


def test_a_split_as_json_has_the_counts_of_its_file(in_tmp, molere):
    done = molere(f"split --strategy hard --dataset colour-digits {SMALL} --json")
    said = json.loads(done.out)
    table = pq.read_table(said["path"]).to_pydict()
    assert said["num_val"] == sum(table["in_validation"]) and said["num_train"] + said["num_val"] == 100
    for kind in ("by_class", "by_group"):
        assert sum(part["num_val"] for part in said[kind]) == said["num_val"]
    trained = [row for row in range(100) if table["label"][row] == 3 and not table["in_validation"][row]]
    of_three = [row for row in range(100) if table["label"][row] == 3 and table["in_validation"][row]]
    assert said["by_class"][3] == {
        "name": "3",
        "num_train": len(trained),
        "num_val": len(of_three),
        "train_score": pytest.approx(sum(table["score"][row] for row in trained) / len(trained)),
        "val_score": pytest.approx(sum(table["score"][row] for row in of_three) / len(of_three)),
    }
    assert (said["strategy"], said["score"]) == ("hard", "aum")


def test_diagnose_says_what_to_type_instead(in_tmp, molere):
    for line in ("split --diagnose", "split --diagnose --strategy random --json"):
        done = molere(line)
        assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
        assert "molere split --strategy auto" in done.err
    assert "--diagnose" not in molere("split --help-all").out
    assert list(in_tmp.iterdir()) == []


def test_plugins_as_json_are_those_of_the_table(molere):
    rows = json.loads(molere("plugins methods --json").out)
    assert {"erm", "lrw", "molere"} <= {row["name"] for row in rows}
    assert all(row["kind"] == "methods" and row["plugin"] and row["description"] for row in rows)


@pytest.mark.parametrize("score", ["margin", "loss"])
def test_scores_come_from_the_erm_run(train, molere, score):
    (erm,) = train("--method erm")
    done = molere(f"split --strategy hard --score {score} --erm {erm} --quiet")
    pool, split = pq.read_table(erm / "pool.parquet"), pq.read_table(done.last_line)
    assert split["index"].to_pylist() == pool["index"].to_pylist()
    assert split["score"].to_pylist() == pytest.approx(pool[score].to_pylist())
    info = json.loads(split.schema.metadata[b"molere"])
    assert (info["score_name"], info["erm_run"]) == (score, str(erm))


def test_out_of_fold_margins_need_no_run(in_tmp, molere):
    done = molere(f"split --strategy hard --score oof-margin --folds 2 {SMALL}")
    split = pq.read_table(done.last_line)
    assert split["score"].null_count == 0
    assert all(-1 <= score <= 1 for score in split["score"].to_pylist())
    assert json.loads(split.schema.metadata[b"molere"])["erm_run"] is None
    assert not Path("runs").exists()


def write_list(indices) -> None:
    Path("mine.csv").write_text("\n".join(["index", *(str(index) for index in indices)]))


def test_a_list_of_ones_own_is_the_validation_set(in_tmp, molere):
    """Indices are those of the full pool, also where the pool is a sub-sample."""
    whole = pq.read_table(molere("split --strategy random --limit-train 100 --quiet").last_line)
    mine = sorted(whole["index"].to_pylist())[::3]
    write_list(mine)
    done = molere("split --strategy file:mine.csv --limit-train 100 --quiet")
    assert done.last_line == "splits/digits-file-0.34.parquet"
    split = pq.read_table(done.last_line)
    rows = split.to_pydict()
    chosen = {i for i, inside in zip(rows["index"], rows["in_validation"], strict=True) if inside}
    assert chosen == set(mine)
    info = json.loads(split.schema.metadata[b"molere"])
    assert (info["strategy"], info["argument"], info["delta"]) == (
        "file",
        str(Path("mine.csv").absolute()),
        0.34,
    )
    assert not Path("runs").exists()


def test_a_list_may_take_most_of_the_pool_but_not_all_of_a_class(in_tmp, molere):
    split = molere("split --strategy random --limit-train 100 --quiet").last_line
    rows = pq.read_table(split).to_pydict()
    threes = [index for index, label in zip(rows["index"], rows["label"], strict=True) if label == 3]
    one_of_each = dict(zip(rows["label"], rows["index"], strict=True)).values()
    write_list(index for index in rows["index"] if index not in one_of_each)
    assert molere("split --strategy file:mine.csv --limit-train 100 --quiet").code == 0
    write_list(threes)
    assert_refused(
        molere("split --strategy file:mine.csv --limit-train 100 --quiet"),
        f"the split that 'file:{Path('mine.csv').absolute()}' made leaves no training example of class 3",
    )
    write_list([])
    assert_refused(
        molere("split --strategy file:mine.csv --limit-train 100 --quiet"),
        f"{Path('mine.csv').absolute()} has no row below its header",
    )


def test_a_list_settles_delta_and_score(train, molere):
    write_list(range(0, 1000, 10))
    for flag in ("--delta 0.2", "--score loss", "--folds 3"):
        name = flag.split()[0]
        assert_refused(
            molere(f"split --strategy file:mine.csv {flag} --quiet"),
            f"{name} has no effect with --strategy file; leave it out",
        )
        done = molere(f"train --method lrw --split file:mine.csv {flag} --quiet")
        assert done.code == 1
        assert f"{name} has no effect with method 'lrw'" in done.err
    assert not Path("runs").exists()
    assert_refused(
        molere("split --strategy file:no.csv --quiet"),
        f"cannot read {Path('no.csv').absolute()}: No such file or directory",
    )


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--folds 3", "--folds has no effect with --strategy hard and --score aum; use --score oof-margin"),
        ("--noise-rate 0.2", "--noise-rate has no effect with --strategy hard and --label-noise none; use"),
        ("--lr-decay-epochs 9", "--lr-decay-epochs has no effect with --strategy hard and --schedule cosine"),
        ("--strategy random --score loss", "--score has no effect with --strategy random; leave it out"),
    ],
)
def test_split_refuses_what_has_no_effect(flags, sentence, in_tmp, molere):
    assert_refused(molere(f"split {flags}"), sentence)
    assert not any(in_tmp.iterdir())


def test_split_takes_from_a_file_what_concerns_it(in_tmp, molere):
    (in_tmp / "run.toml").write_text(
        'limit_train = 100\ndelta = 0.2\nscore = "loss"\nreweighter = "loss"\nsplitter_lr = 0.1\n'
    )
    assert molere("split --config run.toml --strategy random --quiet").code == 0
    (path,) = (in_tmp / "splits").iterdir()
    assert path.name == "digits-random-0.2.parquet"


def test_training_on_a_list(in_tmp, molere):
    write_list(range(0, 1000, 10))
    line = "train --method lrw --split file:mine.csv --epochs 1 --precision fp32 --quiet --backbone small_cnn"
    run = Path(molere(line).last_line)
    settings = config_of(run)
    assert settings["split"] == f"file:{Path('mine.csv').absolute()}"
    assert not {"delta", "score"} & set(settings)
    split = pq.read_table(run / "split.parquet").to_pydict()
    assert sum(split["in_validation"]) == 100
    environment = json.loads((run / "environment.json").read_text())
    # The list is part of what tells rows of a table apart.
    assert environment["split"]["strategy"] == f"file:{Path('mine.csv').absolute()}"
    assert (environment["label"], environment["split"]["delta"]) == ("LRW-File", 0.1)


def test_a_split_never_overwrites_another(in_tmp, molere):
    paths = [molere("split --strategy random --limit-train 100 --quiet").last_line for _ in range(3)]
    assert [Path(path).name for path in paths] == [
        "digits-random-0.1.parquet",
        "digits-random-0.1-2.parquet",
        "digits-random-0.1-3.parquet",
    ]
    assert molere("split --strategy random --out mine.parquet --limit-train 100 --quiet").code == 0
    assert_refused(
        molere("split --strategy random --out mine.parquet --limit-train 100 --quiet"),
        "mine.parquet exists already; choose another --out",
    )


def test_training_takes_a_split_file(train, molere):
    path = molere("split --strategy random --limit-train 100 --quiet --delta 0.3").last_line
    (run,) = train(f"--method lrw --split {path} --warmup-epochs 0")
    assert pq.read_table(run / "split.parquet").equals(pq.read_table(path))
    assert config_of(run)["split"] == str(Path(path).absolute())
    assert "delta" not in config_of(run)


def test_a_split_of_another_pool_is_refused(in_tmp, molere):
    path = molere("split --strategy random --limit-train 100 --quiet").last_line
    done = molere(f"train --split {path} --limit-train 200 --epochs 1 --quiet")
    assert_refused(done, f"{Path(path).absolute()} was made for another pool (dataset 'digits', fingerprint ")
    assert done.err.endswith("; make a new split\n")
    assert not Path("runs").exists()


# --- eval


def evaluated(molere, line: str) -> dict:
    done = molere(f"eval {line} --json")
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_eval_takes_the_newest_run_and_finds_what_training_logged(runs, molere):
    found = evaluated(molere, f"--runs {runs}")
    assert found["run"] == str(runs / "colour-digits-lrw-s0")
    assert found["label"] == "LRW-Random"
    assert_metrics_as_logged(found, runs / "colour-digits-lrw-s0")


def test_eval_takes_the_run_it_is_given(runs, molere):
    run = runs / "colour-digits-erm-s0"
    found = evaluated(molere, str(run))
    assert found["run"] == str(run)
    assert_metrics_as_logged(found, run)


def assert_metrics_as_logged(found: dict, run: Path) -> None:
    logged = metrics_of(run)[-1]
    recomputed = {f"{s}/{k}": v for s, metrics in found["metrics"].items() for k, v in metrics.items()}
    sets = tuple(f"{name}/" for name in found["metrics"])
    logged = {k: v for k, v in logged.items() if k.startswith(sets) and "/group_accuracy_" not in k}
    assert recomputed == pytest.approx(logged, abs=1e-6)
    assert {"test/accuracy", "test/worst_group", "tuning/nll"} <= recomputed.keys()


def test_eval_restricts_itself_to_the_sets_asked_for(runs, molere):
    assert list(evaluated(molere, f"--runs {runs} --on tuning")["metrics"]) == ["tuning"]
    assert list(evaluated(molere, f"--runs {runs} --on tuning,test")["metrics"]) == ["tuning", "test"]


def test_eval_refuses_an_unknown_set(runs, molere):
    assert molere(f"eval --runs {runs} --on tset") == Done(
        1,
        "",
        "molere: no test set 'tset'; there are: test, tuning, and corrupted:KIND:SEVERITY "
        "or another dataset, say folder:DIR\n",
    )


def test_eval_on_another_dataset(runs, molere):
    found = evaluated(molere, f"--runs {runs} --dataset digits")
    assert found["dataset"] == "digits"
    assert "worst_group" not in found["metrics"]["test"]
    # Colours of the test set are drawn at random whatever rho is.
    same = evaluated(molere, f"--runs {runs} --dataset colour-digits --dataset-option rho=0.95")
    assert same["metrics"] == evaluated(molere, f"--runs {runs}")["metrics"]


def test_eval_prints_tables_with_all_classes(runs, molere):
    done = molere(f"eval --runs {runs} --on test")
    assert done.code == 0
    accuracy = metrics_of(runs / "colour-digits-lrw-s0")[-1]["test/accuracy"]
    assert f"{accuracy:.4f}" in done.out
    for label in range(10):
        assert re.search(rf"│ {label}\s+│", done.out)


def test_the_worst_group_is_named(runs, molere):
    run = runs / "colour-digits-lrw-s0"
    found, logged = evaluated(molere, f"{run} --on test"), metrics_of(run)[-1]
    by_group, worst = found["accuracy_by_group"]["test"], found["worst_group"]["test"]
    assert by_group[worst] == min(by_group.values()) == found["metrics"]["test"]["worst_group"]
    names = json.loads((run / "environment.json").read_text())["group_names"]
    assert by_group == {
        names[int(key.rpartition("_")[2])]: pytest.approx(value, abs=1e-6)
        for key, value in logged.items()
        if key.startswith("test/group_accuracy_")
    }
    shown = molere(f"eval {run} --on test").out
    assert f"Accuracy by group on test; the worst is {worst}" in shown
    assert re.search(rf"│ {worst}\s+│\s+{by_group[worst]:.4f} │", shown)
    assert evaluated(molere, f"{run} --dataset digits")["accuracy_by_group"] == {}


def test_accuracies_by_class_make_up_the_accuracy(runs, molere):
    found = evaluated(molere, f"--runs {runs} --on test")
    table = pq.read_table(runs / "colour-digits-lrw-s0" / "predictions.parquet").to_pydict()
    rows = [
        (label, label == prediction)
        for name, label, prediction in zip(
            table["test_set"], table["label"], table["prediction"], strict=True
        )
        if name == "test"
    ]
    for label, accuracy in found["accuracy_by_class"]["test"].items():
        right = [correct for row_label, correct in rows if row_label == int(label)]
        assert accuracy == pytest.approx(sum(right) / len(right))


# --- compare


def test_compare_lists_all_runs_of_the_folder(runs, molere):
    done = molere(f"compare --runs {runs}")
    assert done.code == 0
    rows = [line for line in done.out.splitlines() if line.startswith("│")]
    assert [row.split()[1] for row in rows] == ["ERM", "LRW-Random"]


def test_compare_as_json_pairs_the_gain_by_seed(runs, molere, tmp_path):
    chart = tmp_path / "gains.png"
    line = f"{runs / 'colour-digits-erm-s0'} {runs / 'colour-digits-lrw-s0'}"
    erm, lrw = json.loads(molere(f"compare {line} --format json").out)
    accuracies = [
        metrics_of(runs / f"colour-digits-{method}-s0")[-1]["test/accuracy"] for method in ("erm", "lrw")
    ]
    assert [row["accuracy"]["mean"] for row in (erm, lrw)] == pytest.approx(accuracies)
    assert erm["gain"] is None
    assert lrw["gain"]["mean"] == pytest.approx(100 * (accuracies[1] - accuracies[0]))
    assert molere(f"plot {line} -o {chart}").code == 0
    assert chart.read_bytes().startswith(b"\x89PNG")


# --- plugins, help, version


def test_plugins_lists_everything_that_is_registered(molere):
    done = molere("plugins")
    assert done.code == 0
    registry = load_plugins()
    for kind in ("backbones", "datasets", "splits", "reweighters", "methods"):
        for found in getattr(registry, kind).entries:
            assert re.search(rf"│ {kind}\s+│ {found.spec.name}\s+│ {found.plugin}\s+│", done.out), found
    for found in registry.families.entries:
        assert re.search(rf"│ backbones\s+│ {found.spec.prefix}:\*\s+│ {found.plugin}\s+│", done.out)


def test_plugins_lists_one_kind(molere):
    rows = re.findall(r"│ (\w+)\s+│ ([\w-]+)\s+│ \w+\s+│", molere("plugins methods").out)
    assert set(rows) == {("methods", entry.spec.name) for entry in load_plugins().methods.entries}


def test_plugins_check_imports_everything_and_fails_for_a_string_that_leads_nowhere(molere, monkeypatch):
    assert molere("plugins methods --check").code == 0
    registry = load_plugins()
    broken = MethodSpec(name="mine", description="", build="molere_mine.mine:Mine", label="Mine")
    plugin = SimpleNamespace(register_methods=hookimpl(lambda register: register(broken)))
    registry.add(plugin, "molere_mine")
    monkeypatch.setattr("molere_cli.registry.registry.load_plugins", lambda: registry)
    assert molere("plugins methods").code == 0
    done = molere("plugins methods --check")
    assert done.code == 1
    assert done.err.startswith(
        "plugin molere_mine says 'molere_mine.mine:Mine' for build of its method 'mine'"
    )
    assert done.err.count("molere_mine says") == 1


def test_plugins_tells_of_names_that_are_offered_twice(molere, monkeypatch):
    registry = load_plugins()
    focal = MethodSpec(name="focal", description="", build="math:sqrt", label="Focal")
    registry.add(SimpleNamespace(register_methods=hookimpl(lambda register: register(focal))), "molere_mine")
    monkeypatch.setattr("molere_cli.registry.registry.load_plugins", lambda: registry)
    assert molere("plugins methods").err == (
        "method 'focal' is offered as molere_baselines:focal and molere_mine:focal; "
        "focal alone is molere_baselines:focal\n"
    )


def test_a_plugin_that_offers_a_name_of_ours_breaks_no_command(in_tmp, molere, monkeypatch):
    registry = load_plugins()
    specs = [
        MethodSpec(name=name, description="", build="math:sqrt", label="Mine") for name in ("focal", "erm")
    ]
    mine = SimpleNamespace(register_methods=hookimpl(lambda register: [register(spec) for spec in specs]))
    registry.add(mine, "molere_mine")
    monkeypatch.setattr("molere_cli.registry.registry.load_plugins", lambda: registry)
    monkeypatch.setattr(warnings, "filters", [])  # as in a process that is not pytest's
    done = molere(f"train --method focal --seeds 0,1 {SMALL}")
    assert done == Done(
        0,
        "runs/digits-focal-s0\nruns/digits-focal-s1\n",
        "warning: method 'focal' is molere_baselines:focal; say molere_mine:focal for the other\n",
    )
    assert molere(f"train --method mbr {SMALL}").err == ""


def test_a_filter_searches_the_families(molere):
    found = re.findall(r"│ backbones\s+│ (\S+)\s+│", molere("plugins backbones --filter 'resnet1*'").out)
    assert {"timm:resnet18", "timm:resnet101", "torchvision:resnet18"} <= set(found)
    assert all(name.partition(":")[2].startswith("resnet1") for name in found)


def test_every_setting_is_a_flag_with_its_help(runner):
    shown = runner.invoke(entry.app, ["train", "--help-all"], env={"COLUMNS": "240", "TERM": "dumb"}).stdout
    flags = re.findall(r"│[ *]+(--[a-z-]+)", shown)
    for name in OWNERS:
        info = field_of(name)
        assert flag_name(name) in flags
        assert info.description and " ".join(info.description.split()[:3]) in shown


def test_help_lists_the_commands(runner):
    shown = runner.invoke(entry.app, ["--help"]).stdout
    for command in ("train", "split", "eval", "compare", "plugins", "demo", "report", "export", "log"):
        assert re.search(rf"│ {command}\s", shown)


# --- mistakes


def assert_refused(done: Done, sentence: str) -> None:
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith(f"molere: {sentence}"), done.err
    assert done.err.count("\n") == 1
    assert done.err.endswith("\n")


def test_an_unknown_backbone_is_told_its_nearest_names(in_tmp, molere):
    done = molere("train --backbone resnet81")
    assert_refused(done, "unknown backbone 'resnet81'; did you mean 'resnet18' or ")
    assert done.err.endswith("'?\n")


MISTAKES = {
    "train --method mlere": "unknown method 'mlere'; did you mean 'molere'?",
    "train --dataset digit": "unknown dataset 'digit'; did you mean 'digits'?",
    "train --dataset folder": "dataset 'folder' needs an argument: --dataset folder:DIR",
    "train --dataset folder:nowhere": "there is no folder {here}/nowhere",
    "train --dataset parquet:nowhere": "there is no folder {here}/nowhere",
    "train --dataset cifar10": "CIFAR10 is not in {here}/data; --download fetches it, ",
    "train --dataset-option rho": "--dataset-option 'rho' is not of the form KEY=VALUE",
    "train --dataset-option rho=1": "dataset 'digits': unknown key 'rho'; known keys: none",
    "train --dataset colour-digits --dataset-option rh=1": (
        "dataset 'colour-digits': unknown key 'rh'; did you mean 'rho'?"
    ),
    "train --split hrd": "unknown split strategy 'hrd'; did you mean 'hard'?",
    "train --split nowhere.parquet": "cannot read the split file {here}/nowhere.parquet: ",
    "train --reweighter instnce": "unknown reweighter 'instnce'; did you mean 'instance'?",
    "train --method erm --delta 0.2": "--delta has no effect with method 'erm'",
    "train --config nowhere.toml": "cannot read the configuration nowhere.toml: No such file or directory",
    "train --epochs 0": "epochs = 0: input should be greater than or equal to 1",
    "train --seeds x": "seeds 'x' are not of the form 0-4 or 0,2,7",
    "train --seed 1 --seeds 0,1": "--seed and --seeds exclude each other",
    "train --out a --seeds 0-1": "--out names one run, but there are several seeds; leave it out",
    "train --resume nowhere": "nowhere is not a run directory: no readable config.json in it",
    "train --resume nowhere --lr 1": "--resume takes all settings from the run but --epochs and",
    "train --device nothing": "there is no device 'nothing'; use auto, cpu, cuda or cuda:N",
    "train --device mps": "device 'mps' is of a kind that MOLERE does not support; use cpu or cuda",
    "train --device cpu --precision tf32": "--precision tf32 is for CUDA devices; use fp32 or bf16",
    "train --method erm --optimizer nothing": "timm has no optimizer 'nothing'; ",
    "train --limit-train 5000": "--limit-train 5000 leaves nothing out: the pool has 1000 examples",
    "split --strategy hrd": "unknown split strategy 'hrd'; did you mean 'hard'?",
    "split --strategy random --score loss": "--score has no effect with --strategy random; leave it out",
    "split --erm nowhere": "nowhere is not a run directory: no readable config.json in it",
    "eval --runs nowhere": "no finished run under nowhere; make one with `molere train`",
    "compare --runs nowhere": "there is no run under nowhere; make one with `molere train`",
    "compare nowhere": "nowhere is not a run directory: no readable config.json in it",
    "plugins backbone": "no kind 'backbone' of plugin; there are: backbones, datasets, ",
    "demo --seeds x": "seeds 'x' are not of the form 0-4 or 0,2,7",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_sentence_and_exit_code_1(in_tmp, molere, line):
    assert_refused(molere(line), MISTAKES[line].replace("{here}", str(in_tmp)))
    assert list(in_tmp.iterdir()) == []


def test_mistakes_about_a_run_are_one_sentence(runs, molere):
    erm, lrw = runs / "colour-digits-erm-s0", runs / "colour-digits-lrw-s0"
    for line, sentence in {
        f"split --erm {lrw}": f"{lrw} is a run of method 'lrw'; give one of erm on the whole pool",
        f"split --erm {erm} --lr 0.1": (
            f"--lr 0.1 is not what --erm {erm} was trained with (0.05); leave it out, or name another run"
        ),
        f"eval {erm} --dataset-option rho=1": "--dataset-option goes with --dataset; ",
        f"compare {erm} --test-set tset": "no run has a test set 'tset'; there are: test, tuning",
    }.items():
        assert_refused(molere(line), sentence)


@pytest.mark.parametrize("line", ["train --nothing", "nothing", "train --epochs many", "compare --gain most"])
def test_wrong_usage_is_exit_code_2(in_tmp, molere, line):
    done = molere(line)
    assert done.code == 2
    assert "Usage: molere" in done.err
    assert done.out == ""


def test_a_bug_keeps_its_traceback(monkeypatch):
    def fail():
        raise ZeroDivisionError

    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr("molere_cli.registry.registry.load_plugins", fail)
    monkeypatch.setattr(sys, "argv", ["molere", "plugins"])
    with pytest.raises(ZeroDivisionError):
        entry.main()


# --- as a process


def process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "molere_cli", *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=60)


def test_the_version_is_printed(tmp_path):
    done = process("--version", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{molere_cli.__version__}\n", "")


def test_a_process_ends_with_0_1_or_2(tmp_path):
    assert process("plugins", "methods", cwd=tmp_path).returncode == 0
    mistake = process("plugins", "methodz", cwd=tmp_path)
    assert mistake.returncode == 1
    assert mistake.stderr.startswith("molere: no kind 'methodz' of plugin; ")
    assert mistake.stderr.count("\n") == 1
    assert process("plugins", "--nothing", cwd=tmp_path).returncode == 2


@pytest.mark.slow
def test_a_training_process_prints_nothing_but_the_path_on_stdout(tmp_path):
    done = process(*shlex.split(f"train --method erm {SMALL}"), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "runs/digits-erm-s0\n", "")


HELP_WITHOUT_TORCH = """
import sys
from molere_cli.commands.app import main
sys.argv = ["molere", *sys.argv[1:]]
try:
    main()
except SystemExit as left:
    assert left.code == 0, left.code
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize("arguments", ["--help", "train --help", "eval --help", "plugins methods"])
def test_help_answers_without_torch(tmp_path, arguments):
    command = [sys.executable, "-c", HELP_WITHOUT_TORCH, *arguments.split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_deleted_working_directory_is_one_sentence(molere, monkeypatch):
    def gone():
        raise FileNotFoundError(2, "No such file or directory")

    monkeypatch.setattr("os.getcwd", gone)
    done = molere("compare")
    assert done.code == 1
    assert done.err == (
        "molere: the working directory cannot be used (No such file or directory); change to another one\n"
    )
