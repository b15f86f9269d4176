"""What a person sees while a run goes on, and what is left of it behind an error or a signal."""

from __future__ import annotations

import io
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from molere_cli.commands import console
from molere_cli.commands.console import Bars, Lines, progress_display
from molere_cli.engine.checkpoint import load_state

HIDE, SHOW = "\x1b[?25l", "\x1b[?25h"
METRICS = {"epoch": 0, "train/loss": 1.25, "train/accuracy": 0.5, "weights/std": 0.125, "test/accuracy": 0.75}


@pytest.fixture
def terminal(monkeypatch) -> io.StringIO:
    """What is written to a terminal of 100 columns."""
    written = io.StringIO()
    shown = Console(file=written, force_terminal=True, width=100, color_system=None)
    monkeypatch.setattr(console, "stderr", shown)
    return written


def test_bars_show_label_epoch_loss_accuracy_and_weight_spread(terminal):
    with progress_display(quiet=False) as display:
        assert isinstance(display, Bars)
        display.run_started("LRW-Hard", seed=3, num_epochs=4, path=None)
        display.step_taken(epoch=0, step=1, num_steps=2, loss=1.25)
        display.epoch_ended(METRICS)
        display.run_ended(None)
    shown = terminal.getvalue()
    assert "LRW-Hard s3" in shown
    assert "1/4 loss 1.250 acc 50.0 weights ±0.12 test acc 75.0" in shown


def test_several_runs_have_a_bar_each_and_one_cursor(terminal):
    with progress_display(quiet=False) as display:
        for seed in range(2):
            display.run_started("ERM", seed=seed, num_epochs=1, path=None)
            display.epoch_ended(METRICS)
            display.run_ended(None)
    shown = terminal.getvalue()
    assert "ERM s0" in shown and "ERM s1" in shown
    assert shown.count(HIDE) == shown.count(SHOW) == 2


@pytest.mark.parametrize("raised", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_cursor_comes_back_behind_an_error(terminal, raised):
    with pytest.raises(raised), progress_display(quiet=False) as display:
        display.run_started("ERM", seed=0, num_epochs=4, path=None)
        assert terminal.getvalue().count(SHOW) < terminal.getvalue().count(HIDE)
        raise raised
    assert terminal.getvalue().rindex(SHOW) > terminal.getvalue().rindex(HIDE)


def test_a_pipe_gets_lines_without_control_characters(monkeypatch):
    written = io.StringIO()
    monkeypatch.setattr(console, "stderr", Console(file=written, width=100))
    with progress_display(quiet=False) as display:
        assert isinstance(display, Lines)
        display.run_started("ERM", seed=0, num_epochs=1, path=None)
        display.epoch_ended(METRICS)
    assert written.getvalue().splitlines()[1].startswith("ERM seed 0: epoch 1/1 loss 1.250")
    assert "\x1b" not in written.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGUSR1, 138)],
)
def test_a_signal_leaves_a_terminal_with_its_cursor_and_the_run_as_far_as_it_was(number, code, tmp_path):
    """The real command in a pseudo-terminal."""
    shown, returned = in_terminal(tmp_path, lambda _, process: os.kill(process, number))
    assert returned == code
    assert shown.rindex(SHOW) > shown.rindex(HIDE)
    assert "Traceback" not in shown
    said = shown[shown.rindex(SHOW) :].removeprefix(SHOW).splitlines()
    assert said == [
        f"molere: stopped by {signal.Signals(number).name} and saved: go on with `molere train --resume "
        "runs/digits-erm-s0`; the same command with --resume-unfinished goes on with all of it"
    ]
    state = load_state(tmp_path / "runs" / "digits-erm-s0" / "checkpoint")
    assert len(state["totals"]["num_correct"]) if "epoch" in state else state["next_epoch"]


@pytest.mark.slow
def test_two_interrupts_of_a_keyboard_stop_at_once(tmp_path):
    """With a step between checkpoints, at most one is lost."""
    shown, returned = in_terminal(tmp_path, lambda leader, _: os.write(leader, b"\x03\x03"))
    assert returned == 130
    assert shown.rindex(SHOW) > shown.rindex(HIDE)
    assert "Traceback" not in shown


@pytest.mark.slow
def test_a_terminal_that_is_closed_leaves_the_run_as_far_as_it_was(tmp_path):
    def close(leader: int, _process: int) -> None:
        os.close(leader)

    _, returned = in_terminal(tmp_path, close, reads=False)
    assert returned == 129
    assert load_state(tmp_path / "runs" / "digits-erm-s0" / "checkpoint")


def in_terminal(folder: Path, do: Callable[[int, int], object], *, reads: bool = True) -> tuple[str, int]:
    """What a terminal shows of a long training command to which something is done once it trains, and the
    exit code."""
    command = [sys.executable, "-m", "molere_cli", "train", "--method", "erm", "--epochs", "5000"]
    process, leader = pty.fork()
    if process == 0:
        heed_all()
        os.chdir(folder)
        os.execv(sys.executable, [*command, "--checkpoint-every", "1steps"])  # noqa: S606 - the command itself, as a terminal starts it
    shown = read_until(leader, HIDE)
    time.sleep(0.5)
    do(leader, process)
    if reads:
        shown += read_until(leader, None)
        os.close(leader)
    return shown, os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def heed_all() -> None:
    """A test run under `nohup` hands its ignored signals down."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)


def read_until(leader: int, wanted: str | None) -> str:
    """What comes out of a pseudo-terminal until `wanted` has, or until its other side is closed."""
    shown = ""
    while wanted is None or wanted not in shown:
        try:
            part = os.read(leader, 4096)
        except OSError:  # Linux says so when the other side is closed
            break
        if not part:
            break
        shown += part.decode(errors="replace")
    return shown


def test_the_end_of_a_command_searches_for_no_garbage(tmp_path):
    """What is frozen is skipped when the interpreter ends, which took longer than some commands."""
    program = """
import atexit, gc, sys
atexit.register(lambda: print("frozen", gc.get_freeze_count() > 0))
sys.argv = ["molere", "plugins", "methods"]
from molere_cli.commands.app import main
main()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "frozen True"
