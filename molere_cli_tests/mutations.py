"""Whether the default tests notice mistakes in the learning itself: `python -m molere_cli_tests.mutations`.

Each mutation is one small mistake. It is put in, tests run until the first that fails, and it is taken out
again: first the tests nearest to the module, then, if none fails, the whole default suite. For the hand; it
takes half an hour. One that nothing catches is worth a test.
"""

from __future__ import annotations

import argparse
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
TESTS = Path(__file__).parent

NEAREST = {
    "average": ("unit/test_average.py",),
    "auxiliary": ("plugins/test_baselines.py", "unit/test_splits.py", "plugins/test_third_party.py"),
    "forward_mode": ("unit/test_forward_mode.py", "unit/test_hypergradient.py"),
    "hypergradient": ("unit/test_hypergradient.py",),
    "layer_rule": ("unit/test_layer_rule.py",),
    "loop": ("unit/test_training.py", "unit/test_accumulate.py", "reliability/test_resume.py"),
    "lrw": ("unit/test_training.py", "reliability/test_resume.py"),
    "molere": ("unit/test_molere.py", "unit/test_splitter.py", "reliability/test_resume.py"),
    "optimizer": ("unit/test_training.py", "unit/test_printed_step.py", "unit/test_recipes.py"),
    "passes": ("unit/test_accumulate.py", "unit/test_training.py"),
    "pool_hardness": ("unit/test_pool_hardness.py", "plugins/test_reweighters.py"),
    "pool_record": ("unit/test_scores.py", "unit/test_training.py"),
    "prediction_metrics": ("unit/test_metrics.py", "unit/test_training.py"),
    "response": ("unit/test_hypergradient.py", "unit/test_printed_step.py"),
    "reweighting": ("unit/test_hypergradient.py", "unit/test_training.py", "unit/test_layer_rule.py"),
    "splitter": ("unit/test_splitter.py", "unit/test_molere.py"),
    "validation_batches": (
        "unit/test_validation_batches.py",
        "unit/test_training.py",
        "reliability/test_resume.py",
    ),
    "weight_limits": ("unit/test_weight_limits.py", "unit/test_training.py", "unit/test_printed_step.py"),
}
"""Test files by module."""


class Mutation(NamedTuple):
    """A mistake: `old`, which stands in the file once, made `new`."""

    file: str
    old: str
    new: str


ENGINE, METHODS = "molere_cli/engine/", "molere_cli/methods/"
MUTATIONS = [
    Mutation(ENGINE + "hypergradient.py", "alignment_B.neg_().div_(", "alignment_B.div_("),
    Mutation(ENGINE + "hypergradient.py", ".div_(len(alignment_B))", ""),
    Mutation(ENGINE + "response.py", '(1.0 + group["momentum"] if', '(1.0 - group["momentum"] if'),
    Mutation(ENGINE + "response.py", "(through_first - through_second)", "(through_first + through_second)"),
    Mutation(ENGINE + "response.py", "torch._foreach_sub_(vectors", "torch._foreach_add_(vectors"),
    Mutation(ENGINE + "response.py", "parameter.grad.clone() if group", "parameter.grad if group"),
    Mutation(ENGINE + "loop.py", '"epoch", epoch, *others)', '"epoch", *others)'),
    Mutation(
        ENGINE + "loop.py", 'derived_seed(self.seed, "train", epoch)', 'derived_seed(self.seed, "train")'
    ),
    Mutation(ENGINE + "passes.py", "share=len(losses_b) / batch.num_whole", "share=1 / batch.num_whole"),
    Mutation(ENGINE + "passes.py", "replayed = step.randomness.replayed(device)", "pass"),
    Mutation(ENGINE + "pool_record.py", "step.epoch < self.early_epochs", "step.epoch <= self.early_epochs"),
    Mutation(ENGINE + "pool_record.py", "was_right_B * (1 - right_B)", "(1 - was_right_B) * right_B"),
    Mutation(ENGINE + "pool_record.py", "weights.std(correction=0)", "weights.std(correction=1)"),
    Mutation(ENGINE + "validation_batches.py", "self.cursor = missing", "self.cursor = 0"),
    Mutation(ENGINE + "validation_batches.py", ", self.tag, self.round)", ", self.tag)"),
    Mutation(ENGINE + "average.py", "use_warmup=True", "use_warmup=False"),
    Mutation(ENGINE + "average.py", 'self._num_steps = state["num_steps"]', "self._num_steps = 0"),
    Mutation(ENGINE + "optimizer.py", "warmup_prefix=False", "warmup_prefix=True"),
    Mutation(ENGINE + "optimizer.py", 'if kind == "adamw" else', 'if kind != "adamw" else'),
    Mutation(ENGINE + "forward_mode.py", "x_hat_factor_C - dx_factor_C", "x_hat_factor_C + dx_factor_C"),
    Mutation(ENGINE + "forward_mode.py", "if dw is None and db is not None:", "if db is not None:"),
    Mutation(
        ENGINE + "layer_rule.py",
        "total_B += _inner_products(direction[name]",
        "total_B -= _inner_products(direction[name]",
    ),
    Mutation(ENGINE + "layer_rule.py", "and own <= ADDED_TO_EVERY_EXAMPLE", ""),
    Mutation(
        ENGINE + "prediction_metrics.py", "(logits_NC > logits_NC.gather", "(logits_NC >= logits_NC.gather"
    ),
    Mutation(ENGINE + "prediction_metrics.py", "groups_N >= 0]", "groups_N > 0]"),
    Mutation(METHODS + "reweighting.py", "n: p.detach().clone() for n, p", "n: p.detach() for n, p"),
    Mutation(METHODS + "reweighting.py", "in_epoch % self", "(in_epoch + 1) % self"),
    Mutation(METHODS + "reweighting.py", "epoch >= self.warmup_epochs", "epoch > self.warmup_epochs"),
    Mutation(
        METHODS + "reweighting.py",
        "masked_fill(weights_B == 0, 0.0).neg()",
        "masked_fill(weights_B == 0, 0.0)",
    ),
    Mutation(METHODS + "reweighting.py", "losses=step.losses.detach()", "losses=step.losses"),
    Mutation(
        METHODS + "weight_limits.py", ">= ctx.bound) & (gradient < 0)", ">= ctx.bound) & (gradient > 0)"
    ),
    Mutation(
        METHODS + "weight_limits.py",
        "max(split.info.represented_fraction, split.info.delta)",
        "split.info.represented_fraction",
    ),
    Mutation(
        METHODS + "splitter.py", "- val_loss_factor * val_loss_term", "+ val_loss_factor * val_loss_term"
    ),
    Mutation(METHODS + "splitter.py", "else ~view.wrong[val_V]", "else view.wrong[val_V]"),
    Mutation(METHODS + "splitter.py", "(val_prob_B, 1 - val_prob_B)", "(val_prob_B, val_prob_B)"),
    Mutation(METHODS + "molere.py", "tag=epoch)", "tag=0)"),
    Mutation(METHODS + "molere.py", "else 1)", "else 0)"),
    Mutation(METHODS + "lrw.py", "self._reweighting.resume_epoch(", "self._reweighting.start_epoch("),
    Mutation(METHODS + "pool_hardness.py", "hardness_ranks(-margins_N", "hardness_ranks(margins_N"),
    Mutation(
        METHODS + "pool_hardness.py",
        "if not self._follows:\n            return\n        margins_B",
        "margins_B",
    ),
    Mutation(METHODS + "auxiliary.py", '"drawn", epoch)', '"drawn")'),
    Mutation(METHODS + "auxiliary.py", "replacement=True", "replacement=False"),
]


@contextmanager
def applied(mutation: Mutation) -> Iterator[str]:
    """With the mistake in the file, which is put back whatever happens; yields its `file:line`."""
    path = ROOT / mutation.file
    source = path.read_text()
    if source.count(mutation.old) != 1:
        raise SystemExit(f"{mutation.file} has {mutation.old!r} {source.count(mutation.old)} times, not once")
    line = source[: source.index(mutation.old)].count("\n") + 1
    try:
        path.write_text(source.replace(mutation.old, mutation.new))
        yield f"{mutation.file}:{line}"
    finally:
        path.write_text(source)


def caught_by(mutation: Mutation, *, only_near: bool) -> str:
    """The first test that fails, `nothing` if none does."""
    near = [str(TESTS / name) for name in NEAREST[Path(mutation.file).stem]]
    return first_failure(near) or ("" if only_near else first_failure(["-n", "2", str(TESTS)])) or "nothing"


def first_failure(selection: Sequence[str]) -> str | None:
    """The name of a default test of a selection that fails, or the file that cannot be imported."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not slow", "-p", "no:cacheprovider"]
    path = os.pathsep.join(map(str, (ROOT, ROOT / "plugins")))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *selection], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900
        )
    except subprocess.TimeoutExpired:
        return "a test that does not end"
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    if done.returncode != 1 or failed is None:
        raise SystemExit(f"pytest did not run:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return failed[1]


def main() -> int:
    """Apply the mutations in turn; the exit code is 1 if nothing catches one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--module", help="only mutations of this module, such as `response`")
    parser.add_argument("--near", action="store_true", help="only the tests nearest to the module")
    options = parser.parse_args()
    # Files are put back on the way out, which a signal by itself does not take.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    # What an interrupted run may have left, and what someone is about to write, are both never overwritten.
    changes = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True)
    if changes.returncode or changes.stdout:
        raise SystemExit("the checkout has changes; commit them, or put them away, first")
    chosen = [each for each in MUTATIONS if options.module in (None, Path(each.file).stem)]
    if near := first_failure([str(TESTS / name) for names in NEAREST.values() for name in names]):
        raise SystemExit(f"{near} fails without any mutation")
    num_missed = 0
    for mutation in chosen:
        with applied(mutation) as place:
            test = caught_by(mutation, only_near=options.near)
        num_missed += test == "nothing"
        print(f"{place:45} {mutation.old!r} -> {mutation.new!r}\n    caught by {test}", flush=True)
    print(f"{len(chosen) - num_missed} of {len(chosen)} caught")
    return int(num_missed > 0)


if __name__ == "__main__":
    sys.exit(main())
