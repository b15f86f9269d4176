"""Many runs as commands of their own: the same runs as by one command, and those that are requeued go on."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
import tomllib
from pathlib import Path

import pytest
from molere_jobs.cluster_jobs import independent_commands, submit

from molere_cli.api.run_schedule import make_schedule
from molere_cli.config.from_flags import swept
from molere_cli.registry.registry import load_plugins
from molere_cli.runs.run_directory import RunDir
from molere_cli_tests.training import without_times

SMALL = "--dataset digits --limit-train 60 --epochs 2 --lr 0.02"


def test_printed_commands_make_the_runs_of_the_one_command(in_tmp, molere):
    line = f"--method lrw,erm --split random {SMALL} --seeds 0-1"
    printed = molere(f"submit {line} --runs apart").out.splitlines()
    assert not (in_tmp / "apart").exists()
    assert [("--method erm" in command, command.split("--seed ")[1][0]) for command in printed] == [
        (True, "0"),
        (True, "1"),
        (False, "0"),
        (False, "1"),
    ]
    assert molere(f"train {line} --quiet").code == 0
    for command in printed:
        name, *arguments = shlex.split(command)
        assert name == "molere"
        assert molere(shlex.join(arguments)).code == 0
    for name in ("digits-erm-s0", "digits-erm-s1", "digits-lrw-s0", "digits-lrw-s1"):
        one, other = (RunDir(in_tmp / runs / name) for runs in ("runs", "apart"))
        assert one.config() == other.config()
        assert without_times(one.metrics()) == without_times(other.metrics())


def test_a_recipe_and_pretrained_weights_are_in_the_commands(in_tmp, molere):
    assert molere(f"train --method erm {SMALL} --backbone resnet20 --out start --quiet").code == 0
    weights = "--init-from start/checkpoint/classifier.safetensors"
    line = f"--method erm --dataset digits --backbone resnet20 {weights}"
    (printed,) = molere(f"submit {line} --to print").out.splitlines()
    again, expected = (
        tomllib.loads(molere(f"{command} --print-config").out)
        for command in (shlex.join(shlex.split(printed)[1:]), f"train {line}")
    )
    for place in ("init_from", "data_dir"):
        assert again.pop(place) == str(in_tmp / expected.pop(place))
    assert again == expected and again["optimizer"] == "adamw"


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--out here", "makes a run of each method and seed; leave --out out"),
        ("--to local --select best --lr 0.1,0.2", "give one --lr"),
        ("--submit-option a=b", "--submit-option goes with --to slurm or --to local"),
        ("--to slurm", "--to slurm: "),
        ("--to local --submit-option nonsense=1", "--to local: "),
        ("--track nobody", "nobody"),
    ],
)
def test_a_mistake_is_one_sentence(in_tmp, molere, flags, sentence):
    done = molere(f"submit --method erm --dataset digits {flags}")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1) and sentence in done.err


def test_without_submitit_it_is_a_sentence(in_tmp, molere, monkeypatch):
    monkeypatch.setattr("molere_jobs.cluster_jobs.find_spec", lambda _name: None)
    done = molere("submit --method erm --dataset digits --to local")
    assert (done.code, done.err.count("\n")) == (1, 1) and "pip install 'molere[slurm]'" in done.err


@pytest.mark.parametrize("flags", ["--print-commands", "--submit slurm", "--submit-option=a=b"])
def test_flags_that_train_had_say_what_to_type_instead(in_tmp, molere, flags):
    done = molere(f"train --method erm {flags}")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1) and "molere submit" in done.err
    assert flags.split()[0].partition("=")[0] not in molere("train --help-all").out


def test_tracking_is_in_the_commands(in_tmp, molere):
    (printed,) = molere("submit --method erm --dataset digits --track tensorboard").out.splitlines()
    assert printed.endswith(" --track tensorboard")


@pytest.mark.long
@pytest.mark.slow
def test_three_seeds_of_which_one_is_requeued_are_compared(in_tmp, molere):
    registry, seeds = load_plugins(), range(3)
    flags = {
        "method": "erm",
        "dataset": "digits",
        "limit_train": "300",
        "epochs": "24",
        "threads": "1",
        "device": "cpu",
    }
    schedule = make_schedule(swept(None, flags, registry), registry, seeds=seeds, runs=in_tmp / "runs")
    commands = independent_commands(schedule)
    jobs = submit(commands, "local", in_tmp / "jobs", options={"timeout_min": "60"})
    run = RunDir(in_tmp / "runs" / "digits-erm-s2")
    wait_for(lambda: run.path.is_dir() and run.num_records() >= 3)
    # What a preempted job gets; it is the child of submitit's own process, which starts it again.
    controller = jobs[2].job_id
    (child,) = Path(f"/proc/{controller}/task/{controller}/children").read_text().split()
    os.kill(int(child), signal.SIGUSR2)
    wait_for(lambda: all(RunDir(in_tmp / f"runs/digits-erm-s{seed}").is_done for seed in seeds))
    for job in jobs:
        job.wait()
    log = (in_tmp / "jobs" / f"{jobs[2].job_id}_0_log.out").read_text()
    assert "requeu" in log.lower(), log
    assert run.num_records() == 24
    found = json.loads(molere(f"compare --runs {in_tmp / 'runs'} --format json").out)
    assert [(row["label"], row["seeds"]) for row in found] == [("ERM", [0, 1, 2])]
    again = shlex.join(commands[2]).replace(f"{in_tmp / 'runs'}", "whole")
    assert molere(again).code == 0
    whole = RunDir(in_tmp / "whole" / "digits-erm-s2")
    assert without_times(whole.metrics()) == without_times(run.metrics())


def wait_for(happens) -> None:
    until = time.monotonic() + 150
    while not happens():
        assert time.monotonic() < until
        time.sleep(0.05)
