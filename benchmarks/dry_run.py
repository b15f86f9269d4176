"""How near `molere train --dry-run` comes to the time and memory that training takes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import harness

from molere_cli.api.cost_estimate import estimates
from molere_cli.api.run_schedule import make_schedule, train_runs
from molere_cli.config.run_config import RunConfig
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry.registry import load_plugins

BACKBONES = {
    "small_cnn": {"epochs": 20},
    "resnet20": {"epochs": 3, "image_size": 32},
    "timm:vit_tiny_patch16_224": {"epochs": 3, "image_size": 32, "limit_train": 500},
}
METHODS = ("erm", "lrw", "molere")


class Clocked(NoProgress):
    """Times the last run, from its start to its end."""

    def __init__(self) -> None:
        self.clock = harness.Clock()

    def run_started(self, label: str, *, seed: int, num_epochs: int, path: Path | None) -> None:
        self.clock = harness.Clock()
        self.clock.__enter__()

    def run_ended(self, path: Path | None) -> None:
        self.clock.__exit__()


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=3)
    options = harness.parse(parser, quick={"repetitions": 1})
    harness.print_header(
        "Dry runs", f"Medians of {options.repetitions} rounds, an estimate and a run by turns; digits, a CPU"
    )
    registry, rows = load_plugins(), []
    for backbone, settings in BACKBONES.items():
        for method in METHODS:
            split = {} if method == "erm" else {"split": "hard"}
            config = RunConfig.of(method=method, backbone=backbone, device="cpu", **settings, **split)
            said, took = [], []
            for seed in range(options.repetitions):
                config = config.updated(seed=seed)
                (estimate,) = estimates(make_schedule([config], registry, runs=Path("runs")))
                said.append(estimate.seconds)
                with tempfile.TemporaryDirectory() as folder:
                    clocked = Clocked()
                    train_runs(config, [seed], registry, runs=Path(folder), progress=clocked)
                took.append(clocked.clock.seconds)
                harness.progress(f"{backbone} {method}: {said[-1]:.1f} s said, {took[-1]:.1f} s taken")
            estimated, true = harness.Timing(said), harness.Timing(took)
            rows.append(
                [backbone, method, f"{estimated.median:.1f}", f"{true.median:.1f}", estimated.over(true)]
            )
    harness.print_table(["backbone", "method", "s, estimated", "s, taken", "estimated / taken"], rows)


if __name__ == "__main__":
    main()
