"""How often `molere split --diagnose` is right: its advice on the pools of the programme, without test data.

    python benchmarks/reproduce/diagnose.py --seeds 0-1

A line a pool and seed in results/diagnosis.jsonl; results.py sets them beside the gains of LRW-Hard.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from cells import Cell, results_of
from evidence import unmeasured
from lines import write_line

from molere_cli.api.run_seeds import parse_seeds
from molere_cli.data.source import load_dataset
from molere_cli.foundation.progress import NoProgress
from molere_cli.hardness.make_split import make_split
from molere_cli.hardness.pool_diagnosis import diagnose
from molere_cli.registry.registry import load_plugins
from molere_cli.training.run_environment import describe_environment

POOLS = ("shortcut", "oracle-clean", "methods-skew", "shortcut-natural", "biased", "natural")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("experiments", nargs="*", default=POOLS)
    parser.add_argument("--seeds", default="0-1")
    given = parser.parse_args()
    for cell in unmeasured("diagnosis", given.experiments, parse_seeds(given.seeds)):
        write_line(results_of("diagnosis"), advice_for(cell))
        print(cell.name, flush=True)
    return 0


def advice_for(cell: Cell) -> dict[str, object]:
    """The diagnosis of a cell's pool and hard split, with what it was made with."""
    config, registry = cell.config(), load_plugins()
    data = load_dataset(config.data, registry)
    with tempfile.TemporaryDirectory() as scratch:
        split = make_split(config, registry, data, erm=None, runs=Path(scratch), progress=NoProgress())
        found = diagnose(config, registry, data, split, progress=NoProgress())
    environment = describe_environment()
    kept = {key: environment[key] for key in ("molere", "torch", "cpu", "threads", "commit")}
    return {"cell": cell.name, "environment": kept, **found.as_json()}


if __name__ == "__main__":
    sys.exit(main())
