"""Trackers: the numbers of metrics.jsonl, replayed or live, and a tracker that fails stops nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
import warnings
from functools import partial
from importlib.util import find_spec

import pytest
from molere_trackers.replay import replay

from molere_cli import TrackerSpec, hookimpl
from molere_cli.api.live_tracking import Tracked
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry.registry import load_plugins
from molere_cli.runs.run_directory import RunDir

SMALL = "--dataset digits --limit-train 60 --epochs 3 --eval-interval 2 --quiet"


def read_back(folder) -> dict[str, list[tuple[int, float]]]:
    """By TensorBoard's own reader: tag to (step, value)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        events = EventAccumulator(str(folder))
        events.Reload()
        tags = events.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def expected(run: RunDir) -> dict[str, list[tuple[int, float]]]:
    found: dict[str, list[tuple[int, float]]] = {}
    for record in run.metrics():
        for name, value in record.items():
            if name != "epoch" and value is not None:
                found.setdefault(name, []).append((record["epoch"], pytest.approx(value, rel=1e-6)))
    return found


def test_event_files_hold_the_numbers_of_the_run(in_tmp, molere):
    assert molere(f"train --method erm {SMALL}").code == 0
    done = molere("log runs/digits-erm-s0 --to tensorboard --out board")
    assert (done.code, done.out) == (0, "1 runs shown by tensorboard in board\n")
    run = RunDir(in_tmp / "runs" / "digits-erm-s0")
    assert read_back(in_tmp / "board" / "digits-erm-s0") == expected(run)
    assert len(expected(run)["train/loss"]) == 3 and len(expected(run)["test/accuracy"]) == 2
    again = molere("log runs/digits-erm-s0 --out board")
    assert (again.code, again.err.count("\n")) == (1, 1) and "exists already" in again.err


def test_live_is_what_is_replayed(in_tmp, molere):
    done = molere(f"train --method lrw --split random {SMALL} --seeds 0-1 --track tensorboard")
    assert done.code == 0, done.err
    for seed in range(2):
        name = f"digits-lrw-s{seed}"
        assert read_back(in_tmp / "tracked" / name) == expected(RunDir(in_tmp / "runs" / name))
    assert molere("log --out later").code == 0
    assert {path.name for path in (in_tmp / "later").iterdir()} == {"digits-lrw-s0", "digits-lrw-s1"}


def test_mlflow_has_the_numbers_of_the_run(in_tmp, molere, monkeypatch):
    from mlflow.tracking import MlflowClient

    place = f"file://{in_tmp}/mlruns"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", place)
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    assert molere(f"train --method erm {SMALL} --out run").code == 0
    for _ in range(2):
        assert molere("log run --to mlflow").code == 0
    client = MlflowClient(tracking_uri=place)
    shown = client.search_runs([client.get_experiment_by_name("molere").experiment_id])
    run = RunDir(in_tmp / "run")
    assert len(shown) == 2
    for each in shown:
        assert (each.info.run_name, each.info.status) == ("run", "FINISHED")
        assert each.data.params == {"run": str(run.path), **{k: str(v) for k, v in run.config().items()}}
        history = {name: client.get_metric_history(each.info.run_id, name) for name in each.data.metrics}
        points = {name: [(point.step, point.value) for point in of_it] for name, of_it in history.items()}
        assert points == expected(run)


# Its own bounds are too tight for `make check-lowest`, which does without it.
@pytest.mark.skipif(find_spec("trackio") is None and "CI" not in os.environ, reason="no trackio installed")
def test_trackio_has_the_numbers_of_the_run(in_tmp, molere):
    assert molere(f"train --method erm {SMALL} --out run").code == 0
    read = (
        "import json; from trackio.sqlite_storage import SQLiteStorage as Kept; "
        "print(json.dumps(Kept.get_logs('molere', 'run')))"
    )
    environment = {**os.environ, "TRACKIO_DIR": str(in_tmp / "board")}
    called = partial(subprocess.run, check=True, capture_output=True, text=True, env=environment, cwd=in_tmp)
    said = called([sys.executable, "-m", "molere_cli", "log", "run", "--to", "trackio"])
    assert said.stdout == "1 runs shown by trackio\n"
    points: dict[str, list[tuple[int, float]]] = {}
    for record in json.loads(called([sys.executable, "-c", read]).stdout):
        step = record.pop("step")
        del record["timestamp"]
        for name, value in record.items():
            points.setdefault(name, []).append((step, value))
    assert points == expected(RunDir(in_tmp / "run"))


def test_runs_that_are_not_finished_are_shown_as_far_as_they_are(in_tmp, molere):
    assert molere(f"train --method erm {SMALL} --out run").code == 0
    (in_tmp / "run" / "DONE").unlink()
    lines = (in_tmp / "run" / "metrics.jsonl").read_text().splitlines()
    (in_tmp / "run" / "metrics.jsonl").write_text(lines[0] + "\n")
    assert molere("log run").code == 0
    assert [step for step, _ in read_back(in_tmp / "tracked" / "run")["train/loss"]] == [0]


def tracker_of(start):
    plugin = types.ModuleType("somebodys_tracker")

    @hookimpl
    def register_trackers(register):
        register(TrackerSpec(name="theirs", description="d", start=start))

    plugin.register_trackers = register_trackers
    registry = load_plugins()
    registry.manager.register(plugin)
    spec = TrackerSpec(name="theirs", description="d", start=start)
    return spec


class Kept:
    """A tracker that keeps what it is told, and fails when it is told to."""

    def __init__(self, request, fails=None):
        self.request, self.fails, self.records, self.closed = request, fails, [], False

    def log(self, record, *, epoch):
        if self.fails == epoch:
            raise OSError("no network")
        self.records.append((epoch, dict(record)))

    def close(self):
        self.closed = True


class Told(NoProgress):
    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


@pytest.fixture
def run(in_tmp, molere):
    assert molere(f"train --method erm {SMALL} --out run").code == 0
    return RunDir(in_tmp / "run")


@pytest.mark.parametrize("fails", [None, 1, "start"])
def test_a_tracker_that_fails_is_named_once_and_stops_nothing(run, fails, in_tmp):
    kept = []

    def start(request):
        if fails == "start":
            raise RuntimeError("no key")
        kept.append(Kept(request, fails))
        return kept[-1]

    told = Told()
    tracked = Tracked(told, tracker_of(start), out=in_tmp / "out")
    tracked.run_started("ERM", seed=0, num_epochs=3, path=run.path)
    for record in run.metrics():
        tracked.step_taken(epoch=0, step=1, num_steps=1, loss=1.0)
        tracked.epoch_ended(record)
    tracked.run_ended(run.path)
    if fails is None:
        assert told.notes == [] and kept[0].closed
        assert [epoch for epoch, _ in kept[0].records] == [0, 1, 2]
        assert kept[0].request.settings == run.config() and kept[0].request.name == "run"
    else:
        [sentence] = told.notes
        assert sentence.startswith("tracker theirs has failed (")
        assert "training goes on without it" in sentence


def test_fits_and_folds_on_the_way_are_not_tracked(in_tmp):
    tracked = Tracked(NoProgress(), tracker_of(lambda request: pytest.fail("it was started")), out=in_tmp)
    tracked.run_started("ERM, fold 1", seed=0, num_epochs=1, path=None)
    tracked.epoch_ended({"epoch": 0, "train/loss": 1.0})
    tracked.run_ended(None)


def test_replay_closes_whatever_happens(run, in_tmp, monkeypatch):
    registry = load_plugins()
    kept = []

    def start(request):
        kept.append(Kept(request, fails=1))
        return kept[-1]

    monkeypatch.setattr(registry.trackers, "get", lambda _name: tracker_of(start))
    with pytest.raises(OSError, match="no network"):
        replay([run.path], "theirs", registry, out=in_tmp)
    assert kept[0].closed


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("log run --to tensorbord", "unknown tracker 'tensorbord'; did you mean 'tensorboard'?"),
        (
            "train --method erm --track tensorbord",
            "unknown tracker 'tensorbord'; did you mean 'tensorboard'?",
        ),
        ("log nowhere", "nowhere is not a run directory"),
    ],
)
def test_a_mistake_is_one_sentence(in_tmp, molere, line, sentence):
    done = molere(line)
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1) and sentence in done.err
    assert not (in_tmp / "runs").exists()


@pytest.mark.parametrize(
    ("name", "module"), [("tensorboard", "board"), ("trackio", "wandb_calls"), ("mlflow", "mlflow_runs")]
)
def test_without_its_library_it_is_one_sentence(run, molere, monkeypatch, name, module):
    monkeypatch.setattr(f"molere_trackers.{module}.find_spec", lambda _name: None)
    done = molere(f"log run --to {name}")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert f"pip install 'molere[{name}]'" in done.err
