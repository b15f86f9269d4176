"""Reading CIFAR-10 and CIFAR-100 from Parquet, beside decoding the same rows by Pillow alone."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from harness import (
    ROOT,
    add_memory_options,
    interleave,
    mebibytes,
    median,
    option_parser,
    peak_memory,
    print_header,
    print_table,
    report_peak,
    set_threads,
    spread,
    timed,
    times,
)
from PIL import Image

from molere_cli.config.sections import DataSettings
from molere_cli.data.source import load_dataset
from molere_cli.registry.registry import load_plugins

DATA = Path(os.environ.get("MOLERE_DATA", ROOT.parent / "shared" / "data"))
NAMES = ("cifar10", "cifar100")


def main() -> None:
    parser = option_parser(__doc__, repetitions=3)
    add_memory_options(parser)
    options = parser.parse_args()
    set_threads(options.threads)
    if options.memory_row:
        report_peak(partial(load, options.memory_row))
        return
    print_header(
        "Loading",
        f"60,000 images each, from MOLERE_DATA; medians of {options.repetitions} interleaved rounds "
        "after an untimed one, files in the page cache",
        "Memory: peak of a process of its own over its size before loading; 176 MiB of it are the images",
    )
    actions: dict[str, Callable[[], object]] = {}
    for name in NAMES:
        actions[f"{name}: MOLERE"] = partial(load, name)
        actions[f"{name}: Pillow, decoded and dropped"] = partial(decode, name)
    found = interleave({label: timed(run) for label, run in actions.items()}, repetitions=options.repetitions)
    rows = []
    for name in NAMES:
        pillow = median(found[f"{name}: Pillow, decoded and dropped"])
        for label in (label for label in found if label.startswith(f"{name}:")):
            is_ours = label.endswith("MOLERE")
            memory = mebibytes(peak_memory(name)) if is_ours and not options.no_memory else "-"
            seconds = found[label]
            rows.append(
                [label, f"{median(seconds):.1f}", spread(seconds), times(median(seconds) / pillow), memory]
            )
    print_table(["dataset", "s", "+-", "/ Pillow", "peak memory"], rows)


def load(name: str) -> None:
    load_dataset(DataSettings(dataset=f"parquet:{DATA / name}"), load_plugins())


def decode(name: str) -> None:
    for path in sorted((DATA / name).glob("*.parquet")):
        table = pq.read_table(path)
        column = "img" if "img" in table.column_names else "image"
        for row in table[column].to_pylist():
            with Image.open(io.BytesIO(row["bytes"])) as image:
                image.convert("RGB").load()


if __name__ == "__main__":
    main()
