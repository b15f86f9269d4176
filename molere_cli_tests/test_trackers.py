"""Trackers: the numbers of metrics.jsonl, replayed or live, and a tracker that fails stops nothing."""

from __future__ import annotations

import types
import warnings

import pytest

from molere_cli import TrackerSpec, hookimpl
from molere_cli.progress import NoProgress
from molere_cli.registry.registry import load_plugins
from molere_cli.run_dir import RunDir
from molere_cli.tasks.track import Tracked, replay

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


def test_without_tensorboard_it_is_one_sentence(run, molere, monkeypatch):
    import molere_trackers.board

    monkeypatch.setattr(molere_trackers.board, "find_spec", lambda _name: None)
    done = molere("log run")
    assert (done.code, done.err.count("\n")) == (1, 1)
    assert "pip install 'molere[tensorboard]'" in done.err
