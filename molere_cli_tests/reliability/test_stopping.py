"""Runs that signals stop, that are typed again, and that get more epochs: nothing is lost, or skipped
unsaid."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from molere_cli import MethodSpec, hookimpl
from molere_cli.config.config_file import validate_config
from molere_cli.data.source import load_dataset
from molere_cli.engine.checkpoint import load_state
from molere_cli.engine.method import Method
from molere_cli.foundation.errors import ConfigError, MolereError, RunError
from molere_cli.foundation.progress import NoProgress
from molere_cli.foundation.stopping import Stopped, signals_heeded
from molere_cli.hardness.hardness_scores import erm_run
from molere_cli.report.records import load_record
from molere_cli.runs.run_directory import RunDir
from molere_cli.training import train_run as train_task
from molere_cli.training.resume_run import resume_run
from molere_cli_tests.training import (
    KilledAfter,
    Notebook,
    assert_same_tensors,
    tensors_of,
    tiny_config,
    train_methods,
    train_one,
    without_times,
)
from molere_cli_tests.unit.test_training import METHODS

pytestmark = pytest.mark.slow


def assert_same_runs(one: RunDir, other: RunDir) -> None:
    assert one.is_done and other.is_done
    assert without_times(one.metrics()) == without_times(other.metrics())
    assert_same_tensors(tensors_of(one), tensors_of(other))
    for name in ("pool.parquet", "predictions.parquet"):
        assert (one.path / name).read_bytes() == (other.path / name).read_bytes(), name


# --- signals


class Signalling(Notebook):
    """Sends this process signals after a step of an epoch; counts the steps."""

    def __init__(self, *numbers, epoch=1, step=2):
        super().__init__()
        self.numbers, self.at, self.num_steps = numbers, (epoch, step), 0

    def step_taken(self, *, epoch, step, num_steps, loss):
        self.num_steps += 1
        if (epoch, step) == self.at:
            for number in self.numbers:
                signal.raise_signal(number)


def stopped(config, registry, runs: Path, progress) -> tuple[RunDir, Stopped]:
    with signals_heeded(), pytest.raises(Stopped) as caught:
        train_one(config, registry, runs, progress=progress)
    (path,) = runs.iterdir()
    return RunDir(path), caught.value


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGUSR1, 138)],
)
def test_a_signal_lets_the_step_end_and_keeps_it(registry, tmp_path, number, code, request):
    # Whoever runs the tests may ignore it, as nohup does with SIGHUP.
    request.addfinalizer(partial(signal.signal, number, signal.getsignal(number)))
    signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    whole = train_one(tiny_config(), registry, tmp_path / "whole")
    run, stop = stopped(tiny_config(), registry, tmp_path / "cut", Signalling(number))
    name = signal.Signals(number).name
    assert stop.code == code
    assert stop.sentence == f"stopped by {name} and saved: go on with `molere train --resume {run.path}`"
    assert not run.lock_path.exists()
    state = load_state(run.path / "checkpoint")
    assert (state["epoch"], len(state["totals"]["num_correct"])) == (1, 2)
    rest = Signalling()
    assert_same_runs(resume_run(run.path, registry, progress=rest), whole)
    assert rest.num_steps == 4 * 4 - 6


def test_a_signal_in_the_midst_of_an_evaluation_keeps_the_epoch(registry, tmp_path, monkeypatch):
    whole = train_one(tiny_config(), registry, tmp_path / "whole")
    evaluate = train_task.predict_tests

    def signalled(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return evaluate(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(train_task, "predict_tests", signalled)
        run, _ = stopped(tiny_config(), registry, tmp_path / "cut", NoProgress())
    assert len(run.metrics()) == 3
    rest = Signalling()
    assert_same_runs(resume_run(run.path, registry, progress=rest), whole)
    assert rest.num_steps == 0


def test_a_second_interrupt_stops_at_once_and_other_signals_do_not(registry, tmp_path):
    with signals_heeded(), pytest.raises(KeyboardInterrupt):
        train_one(tiny_config(), registry, tmp_path, progress=Signalling(signal.SIGINT, signal.SIGINT))
    run = RunDir(tmp_path / "tiny-erm-s0")
    assert load_state(run.path / "checkpoint")["next_epoch"] == 1
    progress = Signalling(signal.SIGTERM, signal.SIGTERM, signal.SIGHUP)
    with signals_heeded(), pytest.raises(Stopped) as caught:
        resume_run(run.path, registry, progress=progress)
    assert caught.value.code == 143


def test_a_signal_that_is_ignored_stays_so_and_the_handlers_of_before_come_back():
    """`nohup` ignores SIGHUP."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with signals_heeded():
            assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_has_not_begun_stops_at_once():
    with signals_heeded():
        with pytest.raises(Stopped) as caught:
            signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert (caught.value.code, caught.value.sentence) == (143, None)


SIGNALLED_WORKER = """
import os, signal, sys
from dataclasses import replace
from pathlib import Path
import torch
from molere_cli.data.feed import make_feed
from molere_cli_tests.conftest import tiny_examples
from molere_cli_tests.unit.test_data import SETTINGS, streamed

feed = make_feed(streamed(tiny_examples(20, seed=0)), replace(SETTINGS, workers=1))
found = feed.evaluation([torch.arange(4)] * 20)
next(found)
(worker,) = map(int, Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    os.kill(worker, number)
if os.fork() == 0:  # as a scheduler would, and no parent
    os.kill(worker, signal.SIGTERM)
    os._exit(0)
os.wait()
print(sum(1 for _ in found))
left = feed.evaluation([torch.arange(4)] * 20)
next(left)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="any SIGTERM ends a process here")
def test_decoding_processes_leave_signals_to_the_main_one_and_end_with_it():
    """A terminal's Ctrl-C goes to all of them, while the last step may need what they decode."""
    found = subprocess.run(
        [sys.executable, "-c", SIGNALLED_WORKER], capture_output=True, text=True, timeout=60
    )
    assert (found.stdout, found.returncode) == ("19\n", 0), found.stderr


class BetweenEpochs(Method):
    """A method as 0.1 knew them: its state is one between epochs."""

    def __init__(self, context):
        super().__init__(context)
        self.num_steps = 0

    def weights(self, step):
        self.num_steps += 1
        return torch.full_like(step.losses.detach(), 1 / self.num_steps)

    def state_dict(self):
        return {"num_steps": self.num_steps}

    def load_state_dict(self, state):
        self.num_steps = state["num_steps"]


@pytest.fixture
def with_old_method(registry):
    class Plugin:
        @hookimpl
        def register_methods(self, register):
            register(MethodSpec(name="old", label="Old", description="Of 0.1.", build=BetweenEpochs))

    registry.add(Plugin(), "old_plugin")
    return registry


def test_a_method_of_before_goes_on_from_the_end_of_an_epoch(with_old_method, tmp_path):
    registry, config = with_old_method, tiny_config(method="old", checkpoint_every="1steps")
    whole = train_one(config, registry, tmp_path / "whole")
    run, _ = stopped(config, registry, tmp_path / "cut", Signalling(signal.SIGTERM))
    assert load_state(run.path / "checkpoint")["next_epoch"] == 1
    rest = Signalling()
    assert_same_runs(resume_run(run.path, registry, progress=rest), whole)
    assert rest.num_steps == 3 * 4


def test_a_run_that_is_stopped_before_it_has_anything_leaves_nothing(with_old_method, tmp_path):
    config, progress = tiny_config(method="old"), Signalling(signal.SIGTERM, epoch=0)
    with signals_heeded(), pytest.raises(Stopped) as caught:
        train_one(config, with_old_method, tmp_path, progress=progress)
    path = tmp_path / "tiny-old-s0"
    expected = f"stopped by SIGTERM before the first checkpoint of {path}: start it again"
    assert caught.value.sentence == expected
    assert list(tmp_path.iterdir()) == []


class Mistaken(NoProgress):
    """Meets a user's mistake in a run, at a step of an epoch."""

    def __init__(self, *, epoch=0, step=1, seeds=(0,)):
        self.at, self.seeds, self.seed = (epoch, step), seeds, -1
        self.notes = []

    def note(self, message):
        self.notes.append(message)

    def run_started(self, label, *, seed, num_epochs, path):
        self.seed = seed

    def step_taken(self, *, epoch, step, num_steps, loss):
        if self.seed in self.seeds and (epoch, step) == self.at:
            raise MolereError("that was a mistake")


@pytest.mark.parametrize(("epoch", "left"), [(0, []), (1, ["tiny-erm-s0"])])
def test_a_mistake_before_the_first_checkpoint_leaves_nothing(registry, tmp_path, epoch, left):
    with pytest.raises(MolereError, match="that was a mistake"):
        train_one(tiny_config(), registry, tmp_path, progress=Mistaken(epoch=epoch))
    assert [path.name for path in tmp_path.iterdir()] == left


@pytest.mark.parametrize("text", ["10", "0s", "1.5h", "5x", "-1m", "10 m", "1step", "", "9" * 400 + "s"])
def test_an_interval_without_number_or_unit_is_refused(text):
    with pytest.raises(ConfigError, match="must be a number with a unit, as in 90s"):
        validate_config({"checkpoint_every": text})


def test_checkpoints_are_written_by_steps_or_by_time(registry, tmp_path, monkeypatch):
    written = []
    save = train_task.Checkpoints.write

    def counted(self, **more):
        written.append(self._engine.loop.totals.num_steps)
        save(self, **more)

    monkeypatch.setattr(train_task.Checkpoints, "write", counted)
    train_one(tiny_config(epochs=2, checkpoint_every="3steps"), registry, tmp_path)
    assert written == [3, 0, 3, 0]
    written.clear()
    seconds = iter(range(0, 10**6, 45))
    clock = SimpleNamespace(monotonic=lambda: next(seconds))
    monkeypatch.setattr("molere_cli.training.checkpoint_writer.time", clock)
    train_one(tiny_config(epochs=1, checkpoint_every="90s"), registry, tmp_path)
    assert written == [2, 4, 0]


# --- typed again


def again(registry, runs: Path, *, seeds=(0, 1, 2), config=None, progress=None, flag=True, out=None):
    return train_methods(
        [config or tiny_config()],
        list(seeds),
        registry,
        runs=runs,
        out=out,
        resume_unfinished=flag,
        progress=progress or NoProgress(),
    )


def begun(registry, runs: Path) -> Path:
    """Seed 0 is finished, seed 1 is not."""
    train_one(tiny_config(), registry, runs)
    with pytest.raises(KeyboardInterrupt):
        train_one(tiny_config(seed=1), registry, runs, progress=KilledAfter(2, label_part="erm"))
    return runs / "tiny-erm-s1"


def test_done_seeds_are_skipped_and_unfinished_ones_go_on(registry, tmp_path):
    whole = again(registry, tmp_path / "whole").finished
    begun(registry, tmp_path / "cut")
    before = (tmp_path / "cut" / "tiny-erm-s0" / "DONE").stat().st_mtime_ns
    progress = Signalling()
    outcome = again(registry, tmp_path / "cut", progress=progress)
    assert progress.num_steps == (2 + 4) * 4
    assert progress.notes == [
        f"{tmp_path}/cut/tiny-erm-s0 is finished with these settings",
        f"going on with {tmp_path}/cut/tiny-erm-s1",
    ]
    assert (tmp_path / "cut" / "tiny-erm-s0" / "DONE").stat().st_mtime_ns == before
    assert outcome.failures == []
    for one, other in zip(outcome.finished, whole, strict=True):
        assert one.path.name == other.path.name
        assert_same_runs(one, other)


def test_without_the_flag_it_is_offered(registry, tmp_path):
    unfinished, notebook = begun(registry, tmp_path), Notebook()
    outcome = again(registry, tmp_path, seeds=(0, 1), flag=False, progress=notebook)
    assert [run.path.name for run in outcome.finished] == ["tiny-erm-s0-2", "tiny-erm-s1-2"]
    assert notebook.notes == [
        f"{tmp_path}/tiny-erm-s0 has these very settings and is finished; {tmp_path}/tiny-erm-s0-2 starts "
        "anew, while --resume-unfinished would take it",
        f"{unfinished} has these very settings and is unfinished; {tmp_path}/tiny-erm-s1-2 starts anew, "
        "while --resume-unfinished would go on with it",
    ]


@pytest.mark.parametrize("change", [{"lr": 0.01}, {"epochs": 5}, {"data_seed": 1}, {"eval_interval": 1}])
def test_runs_of_other_settings_are_left_alone(registry, tmp_path, change):
    begun(registry, tmp_path)
    notebook = Notebook()
    outcome = again(
        registry, tmp_path, seeds=(0, 1), config=tiny_config().updated(**change), progress=notebook
    )
    assert [run.path.name for run in outcome.finished] == ["tiny-erm-s0-2", "tiny-erm-s1-2"]
    assert notebook.notes == []


def test_a_run_that_goes_on_may_have_checkpoints_at_other_times(registry, tmp_path):
    begun(registry, tmp_path)
    outcome = again(registry, tmp_path, seeds=(1,), config=tiny_config(checkpoint_every="1steps"))
    assert [run.path.name for run in outcome.finished] == ["tiny-erm-s1"]


def test_a_run_without_a_checkpoint_is_started_again_in_its_place(registry, tmp_path):
    run = train_one(tiny_config(), registry, tmp_path)
    whole = tensors_of(run)
    (run.path / "DONE").unlink()
    for name in ("checkpoint", "checkpoint.old"):
        (run.path / name / "state.json").unlink()
    (found,) = again(registry, tmp_path, seeds=(0,), flag=False).finished
    assert found.path == run.path
    assert_same_tensors(tensors_of(found), whole)


def test_out_takes_an_unfinished_run_of_these_settings_alone(registry, tmp_path):
    path = begun(registry, tmp_path)
    with pytest.raises(RunError, match=r"exists already; choose another --out"):
        again(registry, tmp_path, seeds=(0,), out=path)
    with pytest.raises(RunError, match=r"exists already; choose another --out"):
        again(registry, tmp_path, seeds=(1,), out=path, flag=False)
    (run,) = again(registry, tmp_path, seeds=(1,), out=path).finished
    assert run.path == path


def test_a_run_that_cannot_be_read_is_said_and_left(registry, tmp_path):
    path, notebook = begun(registry, tmp_path), Notebook()
    (path / "environment.json").write_text("{")
    (run,) = again(registry, tmp_path, seeds=(1,), progress=notebook).finished
    assert run.path.name == "tiny-erm-s1-2"
    (note,) = notebook.notes
    assert note.startswith(f"{path / 'environment.json'} is damaged: ")
    assert note.endswith("; it is left as it is")


def test_the_erm_run_that_a_split_needed_goes_on_too(registry, tmp_path):
    config = tiny_config(**METHODS["lrw-hardness"])
    (whole,) = again(registry, tmp_path / "whole", seeds=(0,), config=config).finished
    with pytest.raises(KeyboardInterrupt):
        train_one(config, registry, tmp_path / "cut", progress=KilledAfter(2, label_part="erm"))
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["tiny-erm-s0"]
    (run,) = again(registry, tmp_path / "cut", seeds=(0,), config=config).finished
    assert_same_runs(run, whole)
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["tiny-erm-s0", "tiny-lrw-s0"]


def test_what_fails_in_one_seed_is_named_and_the_others_are_trained(registry, tmp_path):
    progress = Mistaken(seeds=(1,))
    outcome = again(registry, tmp_path, progress=progress)
    assert [run.path.name for run in outcome.finished] == ["tiny-erm-s0", "tiny-erm-s2"]
    assert progress.notes == ["erm with seed 1: that was a mistake; going on with the others"]
    with pytest.raises(RunError) as caught:
        outcome.check()
    assert str(caught.value) == "1 of 3 runs failed: erm with seed 1: that was a mistake"
    with pytest.raises(MolereError, match=r"^that was a mistake$"):
        again(registry, tmp_path, seeds=(1,), progress=progress)


def test_the_command_exits_with_1_if_one_seed_fails(in_tmp, molere):
    line = (
        "train --method erm --limit-train 100 --epochs 1 --quiet --device cpu --seeds 0-1 --resume-unfinished"
    )
    assert molere(line).code == 0
    (in_tmp / "runs" / "digits-erm-s0" / "DONE").unlink()
    (in_tmp / "runs" / "digits-erm-s0" / "metrics.jsonl").write_text("")
    done = molere(line)
    assert done.code == 1
    assert done.out == "runs/digits-erm-s1\n"
    assert done.err.splitlines()[-1].startswith(
        "molere: 1 of 2 runs failed: erm with seed 0: runs/digits-erm-s0/metrics.jsonl is damaged: it lacks"
    )


# --- more epochs


def test_a_run_at_a_constant_rate_grows_into_one_that_was_long_from_the_start(registry, tmp_path):
    config = tiny_config(schedule="constant")
    long = train_one(config.updated(epochs=6), registry, tmp_path / "long")
    run, notebook = train_one(config, registry, tmp_path / "short"), Notebook()
    resume_run(run.path, registry, epochs=6, progress=notebook)
    assert run.is_done
    assert run.config()["epochs"] == 6
    assert run.environment()["extended_from"] == [4]
    assert_same_tensors(tensors_of(run), tensors_of(long))
    (note,) = notebook.notes
    assert note.startswith(
        f"{run.path} was to have 4 epochs and now gets 6: from epoch 5 on the learning rate"
    )


def test_an_extended_run_says_what_becomes_of_its_rate_and_is_kept_apart(registry, tmp_path):
    long = train_one(tiny_config(epochs=6), registry, tmp_path / "long")
    run, notebook = train_one(tiny_config(), registry, tmp_path / "short"), Notebook()
    resume_run(run.path, registry, epochs=5, progress=NoProgress())
    resume_run(run.path, registry, epochs=6, progress=notebook)
    lr = [record["lr"] for record in run.metrics()]
    assert lr[5] == long.metrics()[5]["lr"]
    assert lr[3] != long.metrics()[3]["lr"]
    assert f"{lr[5]:.3g} after {lr[4]:.3g}" in notebook.notes[0]
    theirs, ours = load_record(long).settings, load_record(run).settings
    assert ours == theirs | {"extended_from": "4, 5"}
    config = tiny_config(method="lrw", split="hard", epochs=6)
    data = load_dataset(config.data, registry)
    found = erm_run(config, registry, data, score="aum", runs=run.path.parent, progress=NoProgress())
    assert found.path != run.path


@pytest.mark.parametrize("name", ["molere", "lrw-hardness"])
def test_an_extension_that_is_killed_goes_on_to_the_same_bits(registry, tmp_path, name):
    config = tiny_config(**METHODS[name])
    whole = train_one(config, registry, tmp_path / "whole")
    cut = train_one(config, registry, tmp_path / "cut")
    resume_run(whole.path, registry, epochs=6, progress=NoProgress())
    with pytest.raises(KeyboardInterrupt):
        killed = KilledAfter(4, label_part=name)
        resume_run(cut.path, registry, epochs=6, checkpoint_every="1steps", progress=killed)
    assert_same_runs(resume_run(cut.path, registry, progress=NoProgress()), whole)
    assert (cut.split_path.read_bytes() == whole.split_path.read_bytes()) == (name == "molere")


@pytest.mark.parametrize("num_writes", [0, 1, 2])
def test_a_kill_as_an_extension_begins_loses_nothing(registry, tmp_path, monkeypatch, num_writes):
    whole = train_one(tiny_config(), registry, tmp_path / "whole")
    cut = train_one(tiny_config(), registry, tmp_path / "cut")
    resume_run(whole.path, registry, epochs=6, progress=NoProgress())
    left = [num_writes]
    rename = Path.replace

    def killed(path, target):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        return rename(path, target)

    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(Path, "replace", killed)
        resume_run(cut.path, registry, epochs=6, progress=NoProgress())
    assert cut.config()["epochs"] == (4 if num_writes < 2 else 6)
    resume_run(cut.path, registry, progress=NoProgress())
    resume_run(cut.path, registry, epochs=6, progress=NoProgress())
    assert_same_runs(cut, whole)
    assert load_record(cut).settings == load_record(whole).settings


@pytest.mark.parametrize("epochs", [3, 0])
def test_a_run_does_not_shrink_and_stays_finished(registry, tmp_path, epochs):
    run = train_one(tiny_config(), registry, tmp_path)
    with pytest.raises(ConfigError):
        resume_run(run.path, registry, epochs=epochs, progress=NoProgress())
    assert run.is_done
    assert run.config()["epochs"] == 4


def test_a_finished_run_whose_data_are_gone_is_not_made_unfinished_by_an_extension(registry, tmp_path):
    run = train_one(tiny_config(), registry, tmp_path)
    environment = json.loads((run.path / "environment.json").read_text())
    with pytest.raises(RunError):
        (run.path / "metrics.jsonl").write_text("")
        resume_run(run.path, registry, epochs=6, progress=NoProgress())
    assert run.is_done
    assert json.loads((run.path / "environment.json").read_text()) == environment


@pytest.mark.long
@pytest.mark.slow
def test_runs_that_are_killed_at_random_moments_end_on_the_same_bits():
    script = Path(__file__).parents[2] / "benchmarks" / "kills.py"
    found = subprocess.run(
        [sys.executable, script, "--kills", "12"], capture_output=True, text=True, timeout=300
    )
    assert found.returncode == 0, found.stderr[-3000:]
