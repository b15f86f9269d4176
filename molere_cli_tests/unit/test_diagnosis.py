"""What hard means: the halves that are held out, the advice, and the two clear cases."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from molere_cli.commands.app import app
from molere_cli.data.source import load_dataset
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.pool_diagnosis import diagnose, held_out_halves
from molere_cli.methods.auxiliary import fit_loop
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.diagnosis import Accuracies, Diagnosis
from molere_cli.splits.split_file import Split, SplitInfo, read_split
from molere_cli_tests.training import tiny_config


def split_of(labels: torch.Tensor, in_validation: torch.Tensor) -> Split:
    info = SplitInfo(
        dataset="d", fingerprint="f", strategy="hard", delta=0.2, seed=0, score_name="aum", erm_run=None,
        versions={},
    )  # fmt: skip
    return Split(
        labels=labels,
        in_validation=in_validation,
        score=None,
        indices=torch.arange(len(labels)),
        info=info,
    )


@settings(max_examples=50)
@given(seed=st.integers(0, 2**20), delta=st.floats(0.05, 0.5))
def test_the_halves_partition_the_hard_set_and_hold_out_as_many_others(seed: int, delta: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(4, (200,), generator=generator)
    hard = torch.rand(200, generator=generator) < delta
    (hard_a, others_a), (hard_b, others_b) = held_out_halves(split_of(labels, hard), seed=seed)
    assert torch.cat([hard_a, hard_b]).sort().values.tolist() == hard.nonzero().squeeze(1).tolist()
    others = torch.cat([others_a, others_b])
    assert len(others.unique()) == len(others)
    assert not hard[others].any()
    for label in range(4):
        of_class = labels == label
        wanted, rest = int((of_class & hard).sum()), int((of_class & ~hard).sum())
        assert int(of_class[others].sum()) == min(wanted, 2 * rest // 3)


@pytest.mark.parametrize(
    ("upweighted", "advice"), [(0.0, "do not reweight"), (0.3, "unclear"), (0.6, "reweight")]
)
def test_the_advice_follows_the_held_out_hard_examples(upweighted: float, advice: str) -> None:
    found = Diagnosis(
        num_held_out=100,
        hard=Accuracies(plain=0.1, upweighted=upweighted),
        others=Accuracies(plain=0.9, upweighted=0.88),
    )
    assert found.advice == advice
    assert f"{100 * upweighted:.0f}% are right" in found.sentence


def test_what_is_held_out_never_trains_and_the_other_hard_ones_count_five_times(registry, monkeypatch):
    config, loops = tiny_config(epochs=2), []

    def kept(*arguments, **options):
        loops.append(fit_loop(*arguments, **options))
        return loops[-1]

    monkeypatch.setattr("molere_cli.methods.auxiliary.fit_loop", kept)
    data = load_dataset(config.data, registry)
    hard_N = torch.arange(64) < 16
    split = split_of(data.dataset.pool.labels, hard_N)
    diagnose(config, registry, data, split, progress=NoProgress())
    halves = list(held_out_halves(split, seed=config.machine.seed))
    assert len(loops) == 4
    for number, loop in enumerate(loops):
        held_out_N = torch.zeros(64, dtype=torch.bool)
        held_out_N[torch.cat(halves[number // 2])] = True
        passes_N = torch.where(hard_N, 5 if number % 2 else 1, 1).masked_fill(held_out_N, 0)
        assert (loop.pool_record.num_seen == 2 * passes_N).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (["--dataset", "colour-digits", "--dataset-option", "rho=0.9"], "hard is rare but learnable"),
        (["--label-noise", "uniform"], "hard is ambiguous or mislabelled"),
    ],
)
def test_the_two_clear_cases_are_told_apart(data: list[str], message: str, tmp_path: Path) -> None:
    command = ["split", "--diagnose", *data, "--threads", "1", "--runs", str(tmp_path / "runs")]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "split.parquet")])
    assert result.exit_code == 0
    assert message in " ".join(result.stdout.split())


def test_what_was_found_stays_with_the_split(in_tmp, molere):
    small = "--limit-train 100 --epochs 2 --precision fp32 --threads 1"
    done = molere(f"split --diagnose {small} --quiet")
    assert done.code == 0
    sentence, path = done.out.splitlines()
    split = read_split(Path(path))
    found = split.info.diagnosis
    assert found is not None and found.num_held_out == int(split.in_validation.sum())
    assert sentence == found.sentence[0].upper() + found.sentence[1:] + "."
    trained = molere(f"train --method lrw --split {path} {small}")
    assert f"note: {in_tmp / path} was diagnosed: {found.sentence}\n" in trained.err
    recorded = RunDir(Path(trained.last_line)).environment()["split"]["diagnosis"]
    assert recorded == found.as_json()
    # The run's own copy of the split has it, too, and another split has none.
    assert read_split(Path(trained.last_line) / "split.parquet").info.diagnosis == found
    other = molere(f"split --strategy random {small} --quiet")
    assert read_split(Path(other.last_line)).info.diagnosis is None


def test_only_the_hard_split_can_be_diagnosed(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["split", "--strategy", "random", "--diagnose"])
    assert result.exit_code != 0
    assert "no effect with --strategy random" in str(result.exception)
