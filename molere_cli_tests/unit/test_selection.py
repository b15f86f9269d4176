"""Which epoch's classifier counts: by the tuning set alone, the same after a resume, and everywhere."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from statistics import fmean

import pytest
import torch
from safetensors.torch import load_file

from molere_cli.api.run_schedule import make_schedule, parse_rates, run_schedule
from molere_cli.config.plan import make_plan
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import ConfigError
from molere_cli.foundation.progress import NoProgress
from molere_cli.report.comparison import compare_runs
from molere_cli.runs.find_runs import run_paths
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.model_selection import check_selection
from molere_cli.training.resume_run import resume_run
from molere_cli.training.train_run import train_run
from molere_cli_tests.training import (
    KilledAfter,
    assert_same_tensors,
    tensors_of,
    tiny_config,
    train_methods,
    train_one,
    without_times,
)

# A rate that makes accuracy go up and down, so that the best epoch is not the last.
ROUGH = {"method": "erm", "epochs": 8, "lr": 0.4, "schedule": "constant", "tuning": 0.5, "batch_size": 8}


def rough(**settings):
    return tiny_config(**{**ROUGH, **settings})


def selected_epoch(run: RunDir) -> int:
    return run.metrics()[-1]["selected/epoch"]


@pytest.fixture
def every_epoch(registry, tmp_path_factory):
    """The run without selection, tested after every epoch."""
    return train_one(rough(eval_interval=1), registry, tmp_path_factory.mktemp("every") / "run")


@pytest.mark.parametrize("by", ["accuracy", "worst_class"])
def test_the_first_epoch_that_none_beats_on_the_tuning_set_counts(by, every_epoch, registry, tmp_path):
    on_tuning = [record[f"tuning/{by}"] for record in every_epoch.metrics()]
    best = on_tuning.index(max(on_tuning))
    assert best < len(on_tuning) - 1, "the last epoch is the best, which shows nothing"
    run = train_one(rough(select="best", select_by=by), registry, tmp_path)
    assert selected_epoch(run) == best
    final, then = run.metrics()[-1], every_epoch.metrics()[best]
    for name in ("test/accuracy", "test/nll", "tuning/accuracy"):
        assert final[name] == then[name]
    assert [record["tuning/accuracy"] for record in run.metrics()[:-1]] == [
        record["tuning/accuracy"] for record in every_epoch.metrics()[:-1]
    ]


def test_what_is_saved_is_the_classifier_that_counts_and_the_one_that_trains(every_epoch, registry, tmp_path):
    run = train_one(rough(select="best"), registry, tmp_path)
    shorter = train_one(rough(epochs=selected_epoch(run) + 1), registry, tmp_path / "shorter")
    folder = run.path / "checkpoint"
    chosen, theirs = load_file(folder / "classifier.safetensors"), load_file(shorter.classifier_path)
    last, whole = load_file(folder / "last.safetensors"), load_file(every_epoch.classifier_path)
    assert all(torch.equal(chosen[name], theirs[name]) for name in theirs)
    assert all(torch.equal(last[name], whole[name]) for name in whole)


def test_test_data_select_nothing(registry, tmp_path):
    config = rough(select="best")
    honest = train_one(config, registry, tmp_path / "honest")
    plan, data = make_plan(config, registry), load_dataset(config.data, registry)
    tests = {
        name: replace(test, labels=(test.labels + 1) % data.num_classes)
        for name, test in data.dataset.tests.items()
    }
    poisoned = replace(data, dataset=replace(data.dataset, tests=tests))
    run = train_run(plan, poisoned, None, tmp_path / "poisoned", progress=NoProgress())
    assert run.metrics()[-1]["test/accuracy"] < 0.3 < honest.metrics()[-1]["test/accuracy"]
    assert selected_epoch(run) == selected_epoch(honest)
    assert_same_tensors(load_file(run.classifier_path), load_file(honest.classifier_path))


@pytest.mark.parametrize("epoch", [2, 6])
def test_a_resumed_run_selects_the_same(epoch, registry, tmp_path):
    config = rough(select="best", patience=6)
    whole = train_one(config, registry, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train_one(config, registry, tmp_path / "cut", progress=KilledAfter(epoch, label_part="erm"))
    (cut,) = (tmp_path / "cut").iterdir()
    resumed = resume_run(cut, registry, progress=NoProgress())
    assert without_times(resumed.metrics()) == without_times(whole.metrics())
    assert_same_tensors(tensors_of(resumed), tensors_of(whole))
    for name in ("classifier", "last"):
        ours, theirs = (
            load_file(run.path / "checkpoint" / f"{name}.safetensors") for run in (resumed, whole)
        )
        assert_same_tensors(ours, theirs)


def test_patience_stops_so_many_epochs_after_the_best(every_epoch, registry, tmp_path):
    run = train_one(rough(patience=2), registry, tmp_path)
    on_tuning = [record["tuning/accuracy"] for record in every_epoch.metrics()]
    ends = next(e for e in range(len(on_tuning)) if e - on_tuning.index(max(on_tuning[: e + 1])) == 2)
    assert ends < len(on_tuning) - 1, "patience never ends here, which shows nothing"
    assert run.is_done
    records = run.metrics()
    assert len(records) == ends + 1
    assert "selected/epoch" not in records[-1]  # --select last: the classifier of the last epoch counts
    assert records[-1]["test/accuracy"] == every_epoch.metrics()[ends]["test/accuracy"]


def test_a_run_that_was_killed_between_its_last_checkpoint_and_its_end_ends(registry, tmp_path):
    run = train_one(rough(patience=2), registry, tmp_path)
    before = run.metrics()
    (run.path / "DONE").unlink()
    again = resume_run(run.path, registry, progress=NoProgress())
    assert again.is_done
    assert again.metrics() == before


def test_a_tuning_set_is_held_out_of_the_pool(registry):
    whole, held = (load_dataset(tiny_config(**more).data, registry) for more in ({}, {"tuning": 0.25}))
    tuning = held.dataset.tuning
    assert tuning is not None
    assert len(tuning) == len(whole.dataset.pool) / 4
    assert tuning.labels.bincount().tolist() == [4, 4, 4, 4]
    together = torch.cat([held.pool_indices, tuning.indices]).sort().values
    assert torch.equal(together, torch.arange(len(whole.dataset.pool)))
    assert torch.equal(tuning.images, whole.dataset.pool.images[tuning.indices])
    config = tiny_config(dataset="digits", tuning=0.2)
    with pytest.raises(ConfigError, match=r"'digits' has a tuning set of its own; leave --tuning out"):
        load_dataset(config.data, registry)


def test_what_cannot_be_selected_by_is_one_sentence(registry):
    data = load_dataset(rough().data, registry)
    with pytest.raises(ConfigError, match="worst_group needs groups in the tuning set"):
        check_selection(rough(select="best", select_by="worst_group").selection, data)
    without = replace(data, dataset=replace(data.dataset, tuning=None))
    with pytest.raises(ConfigError, match=r"^--select best needs a tuning set, .* with --tuning 0.1$"):
        check_selection(rough(select="best").selection, without)
    with pytest.raises(ConfigError, match=r"^--patience needs a tuning set"):
        check_selection(rough(patience=3).selection, without)
    check_selection(rough().selection, without)


@pytest.fixture
def chosen_of_a_grid(registry, tmp_path):
    def train(**more):
        config = rough(select="best", epochs=3, **more)
        return train_methods(
            [config], [0, 1], registry, runs=tmp_path, rates=[0.0001, 0.05], progress=NoProgress()
        ).finished

    return train


def test_the_tuning_set_chooses_one_rate_for_all_seeds(chosen_of_a_grid, tmp_path):
    runs = chosen_of_a_grid()
    candidates = [RunDir(path) for path in run_paths(tmp_path / ".grid")]
    by_rate = defaultdict(list)
    for run in candidates:
        by_rate[run.config()["lr"]].append(run.metrics()[-1]["tuning/accuracy"])
    assert {rate: len(values) for rate, values in by_rate.items()} == {0.0001: 2, 0.05: 2}
    best = max(by_rate, key=lambda rate: fmean(by_rate[rate]))
    assert [run.config()["seed"] for run in runs] == [0, 1]
    assert {run.config()["lr"] for run in runs} == {best}
    assert [run.path.parent for run in runs] == [tmp_path, tmp_path]
    assert runs[0].grid() == {
        "lr": {f"{rate:g}": by_rate[rate] for rate in (0.0001, 0.05)},
        "by": "accuracy",
        "chosen": best,
    }


def test_a_grid_goes_on_with_what_it_has(registry, tmp_path):
    common = {"runs": tmp_path, "rates": [0.0001, 0.05], "progress": NoProgress()}
    config = rough(select="best", epochs=3)
    first = train_methods([config], [0], registry, **common).finished
    then = train_methods([config], [0], registry, resume_unfinished=True, **common).finished
    assert [run.path for run in first] == [run.path for run in then]
    assert len(run_paths(tmp_path / ".grid")) == 2


def test_a_table_says_by_what_rule_its_classifiers_were_chosen(chosen_of_a_grid):
    runs = chosen_of_a_grid(select_by="worst_class", patience=2)
    (result,) = compare_runs([run.path for run in runs]).results
    rate = runs[0].config()["lr"]
    assert result.notes[:3] == (
        "the best epoch by worst class on the tuning set",
        "stopped early by worst class on the tuning set, patience 2",
        f"lr {rate:g} chosen from 0.0001, 0.05 by worst class on the tuning set",
    )


def test_a_grid_without_a_tuning_set_to_choose_by_is_refused(registry, tmp_path):
    with pytest.raises(ConfigError, match="several learning rates need --select best"):
        train_methods([rough()], [0], registry, runs=tmp_path, rates=[0.1, 0.2], progress=NoProgress())
    with pytest.raises(ConfigError, match="names a rate twice"):
        parse_rates("0.1,0.10")
    with pytest.raises(ConfigError, match="is no number, nor several"):
        parse_rates("0.1;0.2")


def test_nothing_is_trained_if_a_later_method_cannot_select(registry, tmp_path):
    schedule = make_schedule([tiny_config(), tiny_config(select="best")], registry, runs=tmp_path)
    with pytest.raises(ConfigError, match="needs a tuning set"):
        run_schedule(schedule, progress=NoProgress())
    assert list(tmp_path.iterdir()) == []
