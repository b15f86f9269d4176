"""What it gains that the command line keeps freed memory (`keep_freed_memory`): a plain step on a CPU.

    python benchmarks/allocator.py

Each row is a process of its own, one that keeps it and one that does not by turns, on one thread.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time

import harness
import torch
from torch.nn import functional as F

from molere_cli.foundation.allocator import keep_freed_memory
from molere_cli.registry.registry import load_plugins
from molere_cli.registry.specs import BackboneRequest

ROWS = [
    ("small_cnn", 28, 64),
    ("resnet20", 32, 64),
    ("resnet20", 32, 128),
    ("resnet20", 32, 512),
    ("wrn16_2", 32, 128),
    ("resnet18", 64, 64),
    ("resnet50", 64, 32),
    ("timm:vit_tiny_patch16_224", 32, 128),
]


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=3)
    parser.add_argument("--row", help="internal: NAME,SIZE,BATCH,KEEP")
    options = harness.parse(parser, quick={"repetitions": 1})
    if options.row is not None:
        print(json.dumps(step_seconds(*options.row.split(","))))
        return
    harness.print_header(
        "Memory that is kept",
        f"forward and backward pass, fp32, a thread; medians of {options.repetitions} processes each",
    )
    rows = []
    for name, size, batch in ROWS:
        seconds: dict[str, list[float]] = {"no": [], "yes": []}
        peaks: dict[str, int] = {}
        for _ in range(options.repetitions):
            for keep, found in seconds.items():
                taken, peaks[keep] = measured(f"{name},{size},{batch},{keep}")
                found.append(taken)
        without, kept = (harness.Timing(found).median for found in seconds.values())
        numbers = [f"{1000 * without:.0f}", f"{1000 * kept:.0f}", f"{kept / without:.2f}"]
        rows.append([name, str(size), str(batch), *numbers, *(f"{peak}" for peak in peaks.values())])
        harness.progress(f"{name} at {batch} is done")
    columns = ["backbone", "pixels", "batch", "ms handed back", "ms kept", "ratio", "peak MiB", "kept"]
    harness.print_table(columns, rows)


def measured(row: str) -> list:
    """Seconds of a step, and the peak memory in MiB."""
    command = [sys.executable, __file__, "--row", row]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def step_seconds(name: str, size: str, batch: str, keep: str) -> list:
    if keep == "yes":
        keep_freed_memory()
    torch.set_num_threads(1)
    backbone = load_plugins().backbone(name)
    options = backbone.options()
    shape = int(size), int(size)
    network = backbone.build(BackboneRequest(num_classes=10, image_size=shape, options=options)).train()
    network = network.to(memory_format=torch.channels_last)
    images = torch.randn(int(batch), 3, *shape).to(memory_format=torch.channels_last)
    labels = torch.arange(int(batch)) % 10
    taken = []
    for _ in range(8):
        since = time.perf_counter()
        network.zero_grad()
        F.cross_entropy(network(images), labels).backward()
        taken.append(time.perf_counter() - since)
    return [sorted(taken[2:])[2], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024]


if __name__ == "__main__":
    main()
