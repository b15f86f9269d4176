"""What a resume takes up: the run as it began, said as it was said then; and what it refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from molere_cli.api.evaluation import evaluate_run
from molere_cli.api.new_split import new_split_file
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import MolereError, RunError, SplitError
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.hardness_scores import erm_run
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.split_file import Split, read_split, write_split
from molere_cli.training.resume_run import resume_run
from molere_cli.training.run_environment import cpu_name
from molere_cli_tests.training import KilledAfter, Notebook, tensors_of, tiny_config, train_one, without_times
from molere_cli_tests.unit.test_training import METHODS

ROOT = Path(__file__).parents[2]
LRW = {"method": "lrw", "split": "random", "delta": 0.25}


def killed(
    registry, runs: Path, *, epochs: int = 2, progress: NoProgress | None = None, **settings
) -> RunDir:
    """A run of 4 epochs that was killed after so many; `progress` is told its notes."""
    cut = KilledAfter(epochs, label_part=settings.get("method", "erm"))
    if progress is not None:
        cut.note = progress.note
    with pytest.raises(KeyboardInterrupt):
        train_one(tiny_config(**settings), registry, runs, progress=cut)
    (path,) = runs.iterdir()
    return RunDir(path)


def edit(path: Path, changes: Mapping[str, Any]) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def refusal(do: Callable[[], object], kind: type[MolereError] = RunError) -> str:
    with pytest.raises(kind) as caught:
        do()
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- settings

EDITED = (
    "/config.json has been edited since the run began, and no longer says how it was trained; put it back, or"
)


@pytest.mark.parametrize("change", [{"seed": 1}, {"epochs": 9}, {"lr": 0.1}, {"dataset_option": {"a": "b"}}])
def test_a_run_whose_settings_were_edited_is_not_resumed(registry, tmp_path, change):
    run = killed(registry, tmp_path)
    edit(run.path / "config.json", change)
    sentence = refusal(lambda: resume_run(run.path, registry, progress=NoProgress()))
    assert sentence.startswith(f"{run.path}{EDITED}")
    assert len(run.metrics()) == 2


def test_a_run_whose_settings_were_edited_is_neither_evaluated_nor_taken_scores_from(registry, tmp_path):
    run = train_one(tiny_config(), registry, tmp_path)
    edit(run.path / "config.json", {"seed": 1})
    config = tiny_config(split="hard")
    told = [
        refusal(lambda: evaluate_run(run.path, registry, runs=tmp_path)),
        refusal(
            lambda: new_split_file(
                config.updated(), registry, erm=run.path, out=None, runs=tmp_path, progress=NoProgress()
            )
        ),
    ]
    assert all(sentence.startswith(f"{run.path}{EDITED}") for sentence in told)
    data = load_dataset(config.data, registry)
    same = config.updated(seed=1)
    found = erm_run(same, registry, data, score="aum", runs=tmp_path, progress=NoProgress())
    assert found.path != run.path


def test_where_the_data_lie_may_be_edited(registry, tmp_path):
    run = killed(registry, tmp_path)
    edit(run.path / "config.json", {"data_dir": "elsewhere", "download": True, "workers": 0})
    assert resume_run(run.path, registry, progress=NoProgress()).is_done


def test_a_run_of_a_version_that_kept_no_digests_is_resumed(registry, tmp_path):
    whole = train_one(tiny_config(**LRW), registry, tmp_path / "whole")
    run = killed(registry, tmp_path / "cut", **LRW)
    environment = run.environment()
    assert environment.pop("digests").keys() == {"settings", "split", "environment"}
    (run.path / "environment.json").write_text(json.dumps(environment))
    resumed = resume_run(run.path, registry, progress=NoProgress())
    assert without_times(resumed.metrics()) == without_times(whole.metrics())


def test_a_run_of_molere_from_before_it_had_a_start_is_resumed_without_one(registry, tmp_path):
    whole = train_one(tiny_config(**METHODS["molere"]), registry, tmp_path / "whole")
    run = killed(registry, tmp_path / "cut", **METHODS["molere"])
    settings, environment = run.config(), run.environment()
    assert settings.pop("split") == "none"
    del environment["digests"]
    (run.path / "config.json").write_text(json.dumps(settings))
    (run.path / "environment.json").write_text(json.dumps(environment))
    resumed = resume_run(run.path, registry, progress=NoProgress())
    assert without_times(resumed.metrics()) == without_times(whole.metrics())
    evaluate_run(run.path, registry, runs=tmp_path)


@pytest.mark.parametrize(
    ("began", "said"),
    [
        ({"cpu": "Z80"}, True),
        ({"gpu": {"name": "Voodoo 3"}, "device": "cuda"}, True),
        ({"gpu": None, "device": "cuda"}, False),
        ({}, False),
    ],
    ids=["another-cpu", "a-gpu", "a-gpu-not-recorded", "this-one"],
)
def test_a_resume_on_another_processor_says_so(registry, tmp_path, began, said):
    run = killed(registry, tmp_path)
    edit(run.path / "environment.json", {**began, "digests": {}})
    notebook = Notebook()
    resume_run(run.path, registry, progress=notebook)
    name = began.get("cpu") or (began.get("gpu") or {}).get("name")
    assert [note for note in notebook.notes if "goes on on" in note] == (
        [f"{run.path} began on {name} and goes on on {cpu_name()}: its numbers are not those of one machine"]
        if said
        else []
    )


# --- split


def with_split(run: RunDir, **changes) -> None:
    """Put another split in the place of the run's."""
    split = read_split(run.split_path)
    write_split(Split(**{**vars(split), **changes}), run.split_path)


def test_a_run_with_another_split_of_the_same_pool_is_not_resumed(registry, tmp_path):
    run = killed(registry, tmp_path, **LRW)
    with_split(run, in_validation=read_split(run.split_path).in_validation.roll(1))
    sentence = refusal(lambda: resume_run(run.path, registry, progress=NoProgress()))
    assert sentence.startswith(f"{run.split_path} is not the split that the run began with; ")


@pytest.mark.parametrize("digests", [True, False])
def test_a_run_with_a_split_of_another_pool_is_not_resumed(registry, tmp_path, digests):
    run = killed(registry, tmp_path, **LRW)
    split = read_split(run.split_path)
    with_split(run, labels=(split.labels + 1) % 4)
    if not digests:
        edit(run.path / "environment.json", {"digests": {}})
    sentence = refusal(lambda: resume_run(run.path, registry, progress=NoProgress()), SplitError)
    assert sentence.startswith(f"{run.split_path} says label ")


def test_a_run_without_its_split_is_not_resumed(registry, tmp_path):
    run = killed(registry, tmp_path, **LRW)
    run.split_path.unlink()
    sentence = refusal(lambda: resume_run(run.path, registry, progress=NoProgress()), SplitError)
    assert sentence.startswith(f"cannot read the split file {run.split_path}: ")


# --- metrics


@pytest.mark.parametrize("left", [0, 1])
def test_a_run_that_has_lost_records_is_not_resumed(registry, tmp_path, left):
    run = killed(registry, tmp_path)
    run.write_metrics(run.metrics()[:left])
    sentence = refusal(lambda: resume_run(run.path, registry, progress=NoProgress()))
    assert sentence == (
        f"{run.path}/metrics.jsonl is damaged: it lacks some of the 2 epochs that the checkpoint has; "
        "train a new run"
    )


def test_a_run_whose_records_say_other_numbers_is_not_resumed(registry, tmp_path):
    run = killed(registry, tmp_path)
    records = run.metrics()
    records[0]["train/loss"] += 1e-9
    run.write_metrics(records)
    sentence = refusal(lambda: resume_run(run.path, registry, progress=NoProgress()))
    assert sentence.startswith(f"{run.path / 'metrics.jsonl'} is damaged: its first 2 epochs are not those")


def test_a_run_whose_records_are_of_other_epochs_is_not_resumed(registry, tmp_path):
    run = killed(registry, tmp_path)
    run.write_metrics(reversed(run.metrics()))
    assert "is damaged" in refusal(lambda: resume_run(run.path, registry, progress=NoProgress()))


def test_a_record_of_one_epoch_more_than_the_checkpoint_has_is_written_anew(registry, tmp_path):
    """The run was killed between the two."""
    whole = train_one(tiny_config(), registry, tmp_path / "whole")
    run = killed(registry, tmp_path / "cut")
    run.write_metrics([*run.metrics(), {"epoch": 2, "train/loss": -1}])
    resumed = resume_run(run.path, registry, progress=NoProgress())
    assert without_times(resumed.metrics()) == without_times(whole.metrics())


# --- notes


def test_what_was_noted_when_the_run_began_is_noted_when_it_goes_on(registry, tmp_path):
    first, then = Notebook(), Notebook()
    settings = {**LRW, "delta": 0.02}
    run = killed(registry, tmp_path, progress=first, **settings)
    (note,) = first.notes
    assert note.endswith("has no validation example of class 1, 2, 3")
    resume_run(run.path, registry, progress=then)
    assert then.notes == [note.replace("the split that 'random' made", str(run.split_path))]


def test_what_a_method_has_to_say_is_said_again_when_it_goes_on(registry, tmp_path):
    """As of how the classifier starts."""
    first, then = Notebook(), Notebook()
    tensors = tensors_of(train_one(tiny_config(seed=5), registry, tmp_path / "start"))
    five_classes = {"6.weight": torch.zeros(5, 32), "6.bias": torch.zeros(5)}
    save_file({**tensors, **five_classes}, tmp_path / "five.safetensors")
    run = killed(registry, tmp_path / "cut", progress=first, init_from=tmp_path / "five.safetensors")
    assert len(first.notes) == 1
    resume_run(run.path, registry, progress=then)
    assert then.notes == first.notes
