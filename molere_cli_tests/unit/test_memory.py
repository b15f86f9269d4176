"""What stays in memory: no logits of a batch that is done with; and how much a run says that it took."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import weakref

import pytest
import torch

from molere_cli.engine.prediction import predict_batches, predict_feed
from molere_cli.report import compare_runs, find_runs, render
from molere_cli_tests.fake_runs import erm_run, lrw_run
from molere_cli_tests.training import engine_for, tiny_config, train_one


def test_logits_of_earlier_batches_are_not_kept(registry, monkeypatch):
    engine = engine_for(tiny_config(batch_size=8), registry)
    alive, most = [], []
    predict = engine.classifier.predict

    def watched(images):
        output = predict(images)
        gc.collect()
        alive.append(weakref.ref(output.logits))
        most.append(sum(logits() is not None for logits in alive))
        return output

    monkeypatch.setattr(engine.classifier, "predict", watched)
    monkeypatch.setattr(type(engine.feed), "evaluation", batches_of_eight(type(engine.feed).evaluation))
    found = predict_feed(engine.classifier, engine.feed)
    assert len(found.labels) == 64 and len(alive) == 8
    assert max(most) <= 2


def batches_of_eight(evaluation):
    def smaller(self, batches):
        return evaluation(self, list(torch.cat(list(batches)).split(8)))

    return smaller


def test_what_is_streamed_is_in_order(registry):
    engine = engine_for(tiny_config(), registry)
    logits, labels = (
        torch.cat(parts) for parts in zip(*predict_batches(engine.classifier, engine.feed), strict=True)
    )
    found = predict_feed(engine.classifier, engine.feed)
    assert torch.equal(labels, engine.feed.labels.cpu()) and torch.equal(found.labels, labels)
    assert torch.equal(found.predicted, logits.argmax(dim=1))


def test_among_the_classes_that_are_there(registry):
    """No example of a class: the classifier cannot choose it, whatever its logit."""
    engine = engine_for(tiny_config(), registry)
    engine.feed.labels[engine.feed.labels == 1] = 0
    found = predict_feed(engine.classifier, engine.feed, among_present=True)
    logits = torch.cat([logits for logits, _ in predict_batches(engine.classifier, engine.feed)])
    logits[:, 1] = -torch.inf
    assert torch.equal(found.predicted, logits.argmax(dim=1))
    torch.testing.assert_close(found.probability, logits.softmax(dim=1).amax(dim=1))


PEAKS = """
import torch
from molere_cli.engine.memory import PeakMemory
memory = PeakMemory(torch.device("cpu"))
memory.start()
peaks = [memory.mebibytes()]
held = torch.ones(200 << 20, dtype=torch.uint8)
peaks.append(memory.mebibytes())
del held
peaks.append(memory.mebibytes())
memory.start()
peaks.append(memory.mebibytes())
print(peaks)
"""


def test_the_peak_is_that_since_the_start():
    """In a process of its own: what another test has given back may still be resident."""
    done = subprocess.run([sys.executable, "-c", PEAKS], capture_output=True, text=True, check=True)
    peaks = json.loads(done.stdout.replace("None", "null"))
    if peaks[0] is None:
        pytest.skip("this system does not tell how much memory a process takes")
    before, while_held, given_back, restarted = peaks
    assert while_held - before > 190 and given_back > while_held - 5
    assert restarted - before < 50


def test_a_run_says_how_much_and_a_comparison_shows_the_mean(registry, tmp_path):
    run = train_one(tiny_config(epochs=2), registry, tmp_path / "one")
    assert all(100 < record["memory/peak_mib"] < 20_000 for record in run.metrics())
    root = tmp_path / "runs"
    for seed in range(2):
        peaks = {"memory/peak_mib": 300.0 + 100 * seed}
        erm_run(root / f"erm{seed}", 0.5, config={"seed": seed}, **peaks)
        lrw_run(root / f"lrw{seed}", 0.6, config={"seed": seed})
    comparison = compare_runs(find_runs(root))
    assert [result.peak_memory for result in comparison.results] == [350.0, None]
    [erm, lrw] = json.loads(render(comparison, "json"))
    assert (erm["peak_memory_mib"], lrw["peak_memory_mib"]) == (350.0, None)
    lines = render(comparison, "markdown", columns=["memory"]).splitlines()
    assert lines[2:6] == [
        "| method | peak memory, MiB |",
        "| --- | ---: |",
        "| ERM | 350 |",
        "| LRW-Hard | n/a |",
    ]
