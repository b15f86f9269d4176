"""A command's runs as a schedule: what is the same run, what is done once, what is said first."""

from __future__ import annotations

import pyarrow.parquet as pq
import pytest
import torch

from molere_cli.api import run_schedule as schedule_module
from molere_cli.api.run_schedule import make_schedule, run_schedule
from molere_cli.foundation.errors import UnknownNameError
from molere_cli.foundation.progress import NoProgress
from molere_cli.runs.find_runs import run_paths
from molere_cli.splits.split_file import read_split, write_split
from molere_cli_tests.training import tiny_config, train_methods

SMALL = "--dataset digits --limit-train 100 --epochs 2 --device cpu --quiet"


@pytest.fixture
def split_file(in_tmp, molere):
    """A hard split whose rows stand in another order than the pool."""
    assert molere(f"split --split hard {SMALL} --out hard.parquet").code == 0
    table = pq.read_table("hard.parquet")
    order = torch.randperm(len(table), generator=torch.Generator().manual_seed(0)).tolist()
    pq.write_table(table.take(order), "shuffled.parquet")
    return in_tmp


def paths_of(folder):
    return [path.name for path in run_paths(folder)]


def test_the_order_of_a_split_files_rows_makes_no_other_run(split_file, molere):
    line = f"train --method lrw --split shuffled.parquet {SMALL} --runs r --resume-unfinished"
    first, again = (molere(line) for _ in range(2))
    assert (first.code, again.code) == (0, 0), again.err
    assert again.last_line == first.last_line
    assert paths_of(split_file / "r") == ["digits-lrw-s0"]


@pytest.mark.parametrize("changed", ["score", "represents"])
def test_a_split_of_other_scores_or_of_another_meaning_is_another_run(split_file, molere, changed):
    """Who is in validation stays the same."""
    line = f"train --method lrw --split hard.parquet {SMALL} --runs r --resume-unfinished"
    assert molere(line).code == 0
    split = read_split(split_file / "hard.parquet")
    info, score = split.info, split.score
    if changed == "score":
        score = score.flip(0)
    else:
        info = info.model_copy(update={"represented_fraction": 0.5})
    other = type(split)(
        labels=split.labels,
        in_validation=split.in_validation,
        score=score,
        indices=split.indices,
        info=info,
        held_out=split.held_out,
    )
    (split_file / "hard.parquet").unlink()
    write_split(other, split_file / "hard.parquet")
    assert molere(line).code == 0
    assert paths_of(split_file / "r") == ["digits-lrw-s0", "digits-lrw-s0-2"]


def test_a_dataset_is_loaded_once_for_all_methods_and_rates(registry, tmp_path, monkeypatch):
    loaded = []
    load = schedule_module.load_together

    def counted(*arguments, **rest):
        loaded.append(arguments)
        return load(*arguments, **rest)

    monkeypatch.setattr(schedule_module, "load_together", counted)
    both = {"tuning": 0.25, "select": "best", "epochs": 1}
    configs = [tiny_config(**both), tiny_config(method="focal", **both)]
    rates = {"rates": [0.1, 0.05], "progress": NoProgress()}
    outcome = train_methods(configs, [0, 1], registry, runs=tmp_path, **rates)
    assert len(outcome.finished) == 4 and not outcome.failures
    assert len(loaded) == 1


@pytest.mark.parametrize("first", ["one rate", "several rates"])
def test_an_erm_run_is_found_where_rates_are_chosen_and_beside_it(registry, tmp_path, first):
    """Whichever of the two commands comes first."""
    common = {"tuning": 0.25, "select": "best", "epochs": 1, "lr": 0.05}
    rates = {"one rate": (), "several rates": (0.05, 0.1)}
    lrw = tiny_config(method="lrw", split="hard", delta=0.25, **common)
    (second,) = {*rates} - {first}
    for config, number in ((tiny_config(**common), first), (lrw, second)):
        train_methods([config], [0], registry, runs=tmp_path, rates=rates[number], progress=NoProgress())
    trained = [path for folder in (tmp_path, tmp_path / ".grid") for path in run_paths(folder)]
    rates_of_erm = [(path.parent.name, path.name) for path in trained if "-erm-" in path.name]
    # Each of ERM's rates was trained once, and one of several is in `runs` as the copy that was chosen.
    assert len(rates_of_erm) == {"one rate": 2, "several rates": 3}[first], rates_of_erm


def test_what_is_wrong_with_a_schedule_is_said_whatever_it_is_made_for(molere, in_tmp):
    wrong = {
        "--seed 3 --seeds 0-2": "--seed and --seeds exclude each other",
        "--select best --lr 0.1,-1": "--lr -1 is no learning rate",
        "--lr 0.1,0.2": "several learning rates need --select best",
        "--out x --seeds 0-1": "--out names one run",
    }
    for command in ("train --print-config", "train --dry-run", "submit", "train"):
        for flags, sentence in wrong.items():
            done = molere(f"{command} --method erm {SMALL} {flags}")
            assert done.code == 1 and sentence in done.err, (command, flags, done.err)
    assert list(in_tmp.iterdir()) == []


def test_the_configuration_of_several_rates_and_seeds_says_neither(molere, in_tmp):
    done = molere(f"train --method erm {SMALL} --select best --lr 0.1,0.01 --seeds 0-2 --print-config")
    assert done.code == 0
    first, *rest = done.out.splitlines()
    assert first == "# 6 runs: molere train --config FILE --lr 0.1,0.01 --seeds 0-2"
    assert not any(line.startswith(("lr =", "seed =")) for line in rest)
    (in_tmp / "FILE.toml").write_text(done.out)
    again = molere("train --config FILE.toml --lr 0.1,0.01 --seeds 0-2 --print-config")
    assert again.out == done.out


def test_a_schedule_is_all_jobs_before_the_first_is_trained(registry, tmp_path):
    configs = [tiny_config(), tiny_config(method="lrw", split="random")]
    schedule = make_schedule(configs, registry, seeds=[3, 1], runs=tmp_path)
    assert [(job.given.method.method, job.given.machine.seed) for job in schedule.jobs] == [
        *(("erm", 3), ("erm", 1), ("lrw", 3), ("lrw", 1))
    ]
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(UnknownNameError, match="nowhere"):
        make_schedule([*configs, tiny_config(method="nowhere")], registry, seeds=[0], runs=tmp_path)
    finished = run_schedule(schedule, progress=NoProgress()).finished
    assert [run.config()["seed"] for run in finished] == [3, 1, 3, 1]
