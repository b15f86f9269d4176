"""A run on disk: damage to any of its files is named, and what killed processes leave beside it goes."""

from __future__ import annotations

import json
import os
import socket
import time

import pytest

from molere_cli.api.evaluation import evaluate_run
from molere_cli.config.run_names import dataset_slug, run_name
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import RunError
from molere_cli.foundation.locks import take
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.hardness_scores import erm_run, has_score, read_score
from molere_cli.runs.begin_run import new_run
from molere_cli.runs.find_runs import finished_runs
from molere_cli.runs.run_directory import RECORDS, RunDir
from molere_cli.training.resume_run import resume_run
from molere_cli_tests.fake_runs import erm_run as fake_erm_run
from molere_cli_tests.training import Notebook, tiny_config, train_one

SETTINGS = {"dataset": "digits", "backbone": "small_cnn", "method": "erm", "seed": 0, "lr": 0.1}
ENVIRONMENT = {
    "label": "ERM",
    "precision": "fp32",
    "device": "cpu",
    "fingerprint": "0",
    "started": "2025-01-01T00:00:00+00:00",
    "split": None,
}
GONE = json.dumps({"pid": 1 << 22, "host": socket.gethostname(), "started": "2026-01-01T00:00:00+00:00"})


@pytest.fixture
def run(tmp_path) -> RunDir:
    """A finished run, by hand."""
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    for path in (run.split_path, run.pool_path, run.predictions_path, run.thumbnails_path):
        path.write_bytes(path.name.encode())
    (run.path / "checkpoint").mkdir()
    (run.path / "checkpoint" / "state.json").write_text('{"epoch": 1}')
    run.write_beginning(SETTINGS, ENVIRONMENT)
    run.write_metrics([{"epoch": 0, "train/loss": 0.5}])
    run.mark_done()
    return run


def flip(path, *, place: int = 8) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def test_a_finished_run_has_a_digest_of_each_of_its_files(run):
    done = json.loads((run.path / "DONE").read_text())
    assert done["digests"].keys() == {"config.json", *RECORDS}
    for name in RECORDS:
        run.check(name)


@pytest.mark.parametrize("name", RECORDS)
def test_a_flipped_bit_in_a_file_of_a_finished_run_is_named(run, name):
    flip(run.path / name)
    with pytest.raises(
        RunError, match=rf"^{run.path / name} is damaged: it is not what the run wrote; put it"
    ):
        run.check(name)


def test_a_missing_file_of_a_finished_run_is_named(run):
    run.pool_path.unlink()
    with pytest.raises(RunError, match=r"pool\.parquet cannot be read: No such file"):
        run.check("pool.parquet")


def test_a_file_that_the_system_does_not_give_out_is_named_with_the_reason(run):
    (run.path / "metrics.jsonl").unlink()
    (run.path / "DONE").unlink()
    (run.path / "metrics.jsonl").mkdir()
    with pytest.raises(RunError, match=r"metrics\.jsonl cannot be read: Is a directory$"):
        run.metrics()


@pytest.mark.parametrize("is_done", [True, False])
@pytest.mark.parametrize("text", ['"lr": 0.2', '"seed": 1'])
def test_settings_of_another_run_are_named_finished_or_not(run, is_done, text):
    if not is_done:
        (run.path / "DONE").unlink()
    old = text.partition(":")[0]
    settings = (run.path / "config.json").read_text().replace(f"{old}: {SETTINGS[old[1:-1]]}", text)
    (run.path / "config.json").write_text(settings)
    with pytest.raises(RunError, match=r"config\.json has been edited since the run began"):
        run.config()


def test_where_the_data_lie_may_change_in_a_finished_run(run):
    settings = json.loads((run.path / "config.json").read_text())
    (run.path / "config.json").write_text(json.dumps({**settings, "data_dir": "elsewhere", "workers": 3}))
    assert run.config()["data_dir"] == "elsewhere"


def test_the_environment_of_an_unfinished_run_is_the_one_that_it_began_with(run):
    (run.path / "DONE").unlink()
    path = run.path / "environment.json"
    path.write_text(path.read_text().replace("fp32", "bf16"))
    with pytest.raises(RunError, match=r"environment\.json is damaged: it is not what the run wrote"):
        run.environment()


@pytest.mark.parametrize("text", ["", "{}", '{"finished": 3}', "done", '{"finished": "", "more": 1}'])
def test_a_done_that_says_nothing_is_named(run, text):
    (run.path / "DONE").write_text(text)
    with pytest.raises(RunError, match=r"DONE is damaged|has no '(finished|digests)'"):
        run.metrics()


def test_a_run_of_a_version_that_kept_no_digests_is_read(tmp_path):
    run = RunDir(fake_erm_run(tmp_path / "run", 0.5))
    assert [record["epoch"] for record in run.metrics()] == [0, 1]
    assert run.config()["method"] == "erm"
    run.check("environment.json")


# --- runs that are trained


def test_a_damaged_table_is_not_taken_scores_from_and_a_search_passes_it_over_aloud(registry, tmp_path):
    config = tiny_config(epochs=1)
    run = train_one(config, registry, tmp_path)
    assert has_score(run, "aum")
    flip(run.pool_path, place=run.pool_path.stat().st_size // 2)
    with pytest.raises(RunError, match=r"pool\.parquet is damaged"):
        read_score(run, "aum")
    notebook, data = Notebook(), load_dataset(config.data, registry)
    found = erm_run(config, registry, data, score="aum", runs=tmp_path, progress=notebook)
    assert found.path.name == "tiny-erm-s0-2"
    named = [note for note in notebook.notes if "pool.parquet is damaged" in note]
    assert named == [
        f"{run.pool_path} is damaged: it is not what the run wrote; put it back from a copy, or "
        "train again; looking for hardness scores elsewhere"
    ]


def test_a_finished_run_with_a_damaged_record_is_neither_evaluated_nor_called_finished(registry, tmp_path):
    run = train_one(tiny_config(epochs=1), registry, tmp_path)
    flip(run.path / "environment.json", place=20)
    for read in (
        lambda: evaluate_run(run.path, registry, runs=tmp_path),
        lambda: resume_run(run.path, registry, progress=NoProgress()),
    ):
        with pytest.raises(RunError, match=r"environment\.json is damaged"):
            read()


# --- names, and what lies beside a run


def test_the_name_of_a_run_fits_whatever_the_dataset_is_called():
    long, other = f"folder:{'x' * 250}", f"folder:{'x' * 249}y"
    assert len(run_name(dataset=long, method="erm", seed=0)) < 120
    assert dataset_slug(long) != dataset_slug(other)
    assert dataset_slug("parquet:/a/cifar100") == "parquet-cifar100"


def test_what_a_killed_trainer_left_in_its_run_goes_when_the_run_is_taken_up(run):
    left = run.path / ".metrics.jsonl.01234567.tmp"
    left.touch()
    with run.locked(note=print):
        assert not left.exists()
    assert run.pool_path.exists()


def test_runs_that_were_killed_before_they_had_a_name_go_with_the_next_one(tmp_path):
    names = ("killed", "emptied", "hour_ago", "at_work", "young", "of_others")
    paths = {name: tmp_path / f".run.{number}1234567.tmp" for number, name in enumerate(names)}
    for path in paths.values():
        path.mkdir()
    for name in ("killed", "at_work", "of_others"):
        (paths[name] / "config.json").touch()
    (paths["killed"] / "lock").write_text(GONE)
    for name in ("hour_ago", "young"):  # not signed yet
        (paths[name] / "lock").touch()
    hour_ago = time.time() - 3700
    os.utime(paths["hour_ago"] / "lock", (hour_ago, hour_ago))
    lock = take(paths["at_work"] / "lock", print)

    def begin(run):
        (run.path / "config.json").write_text("{}")

    with new_run(tmp_path / "run", begin, numbered=False, note=print):
        pass
    lock.release()
    assert [name for name, path in paths.items() if path.exists()] == ["at_work", "young", "of_others"]


def test_the_newest_of_the_finished_runs_is_the_last(tmp_path):
    for number, name in enumerate("bca"):
        path = fake_erm_run(tmp_path / name, 0.5) / "DONE"
        os.utime(path, (number, number))
    (tmp_path / "c" / "DONE").unlink()
    (tmp_path / "notes").mkdir()
    assert [run.path.name for run in finished_runs(tmp_path)] == ["b", "a"]
    assert finished_runs(tmp_path / "nowhere") == []
