"""Reading CIFAR-10 and CIFAR-100 from Parquet, beside decoding the same rows by Pillow alone."""

from __future__ import annotations

import io
from functools import partial

import harness
import pyarrow.parquet as pq
from PIL import Image

from molere_cli.config.sections import DataSettings
from molere_cli.data.source import load_dataset
from molere_cli.registry.registry import load_plugins

NAMES = ("cifar10", "cifar100")


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=3, memory=True)
    options = harness.parse(parser, quick={"repetitions": 1})
    if options.memory_row:
        harness.report_peak(partial(load, options.memory_row))
        return
    harness.print_header(
        "Loading",
        f"60,000 images each, from MOLERE_DATA; medians of {options.repetitions} interleaved rounds "
        "after an untimed one, files in the page cache",
        "Memory: peak of a process of its own over its size before loading; 176 MiB of it are the images",
    )
    runs: dict[str, harness.Run] = {}
    for name in NAMES:
        runs[f"{name}: MOLERE"] = partial(load, name)
        runs[f"{name}: Pillow, decoded and dropped"] = partial(decode, name)
    found = harness.time_runs(runs, repetitions=options.repetitions)
    rows = []
    for name in NAMES:
        pillow = found[f"{name}: Pillow, decoded and dropped"]
        for label in (label for label in found if label.startswith(f"{name}:")):
            is_ours = label.endswith("MOLERE")
            memory = harness.mebibytes(harness.peak_memory(name, options)) if is_ours else harness.NOTHING
            rows.append([label, *found[label].cells(".1f"), found[label].over(pillow), memory])
    harness.print_table(["dataset", "s", "+-", "/ Pillow", "peak memory"], rows)


def load(name: str) -> None:
    load_dataset(DataSettings(dataset=f"parquet:{harness.DATA / name}"), load_plugins())


def decode(name: str) -> None:
    for path in sorted((harness.DATA / name).glob("*.parquet")):
        table = pq.read_table(path)
        column = "img" if "img" in table.column_names else "image"
        for row in table[column].to_pylist():
            with Image.open(io.BytesIO(row["bytes"])) as image:
                image.convert("RGB").load()


if __name__ == "__main__":
    main()
