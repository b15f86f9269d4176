"""Damaged files for whatever reads one: bytes that flip, files cut short, JSON of another shape.

For tests, and for `benchmarks/faults.py`. All follows a seed.
"""

from __future__ import annotations

import ctypes
import json
import shutil
import time
import traceback
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from molere_transforms.noise import labels_from_file
from safetensors import safe_open
from torch import nn

from molere_cli.config.config_file import read_config_file, validate_config
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import LoadedDataset, load_dataset
from molere_cli.engine.checkpoint import load_classifier, load_state
from molere_cli.foundation.errors import MolereError
from molere_cli.hardness.hardness_scores import has_score, read_score
from molere_cli.registry.registry import Registry
from molere_cli.report.records import load_record
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.split_file import load_split
from molere_cli_tests.fake_runs import drop_digests

TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc
SECONDS, TIMES_ITS_SIZE, ROOM = 1.0, 10, 64 << 20
"""What reading a damaged file may take: time, and memory as a multiple of its size beside what any needs."""
SNIPPETS = [
    *(b"NaN", b"-Infinity", b"1e999", b"9" * 5000, b"null", b"-1", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf"),
    *(b"[" * 50_000, b'{"a":' * 20_000, b"a.a." * 500, b'"\\ud800"', b'"', b"'", b"\n", b",", b"}", b"\\"),
]
VALUES: list[Any] = [
    *(None, True, False, 0, -1, 2**63, 2**64, -(2**63) - 1, 10**400, 1.5, -0.0, 1e308, 1e-320),
    *("", "x", "\ud800", "\x00", "../..", "x" * 100_000, "nan", [], {}, [[]], {"": {}}, [None] * 1000),
]


def damaged(content: bytes, random: Random) -> tuple[str, bytes]:
    """What a disk, a copy or a hand does to a file, and the name of it."""
    kind = random.choice(("flip", "flips", "cut", "emptied", "zeroed", "inserted", "repeated", "removed"))
    if not content or kind == "emptied":
        return "emptied", b""
    place, other = sorted(random.randrange(len(content) + 1) for _ in range(2))
    changed = bytearray(content)
    if kind in {"flip", "flips"}:
        for _ in range(1 if kind == "flip" else random.randint(2, 20)):
            changed[random.randrange(len(content))] ^= 1 << random.randrange(8)
    elif kind == "cut":
        del changed[place:]
    elif kind == "zeroed":
        changed[place:other] = bytes(other - place)
    elif kind == "inserted":
        changed[place:place] = random.choice(SNIPPETS)
    elif kind == "repeated":
        changed[place:place] = content[place:other]
    else:
        del changed[place:other]
    return kind, bytes(changed)


def reshaped(text: str, random: Random) -> str:
    """JSON with one value replaced, one key gone, renamed or there twice."""
    whole = json.loads(text)
    holders = list(_holders(whole))
    if not holders:
        return text
    holder, key = random.choice(holders)
    if random.random() < 0.6 or isinstance(holder, list):
        holder[key] = random.choice(VALUES)
    elif random.random() < 0.5:
        del holder[key]
    else:
        holder[random.choice(["", "x", f"{key} ", "$tensor", "$items", "\ud800"])] = holder[key]
    reshaped = json.dumps(whole)
    if isinstance(holder, dict) and random.random() < 0.1:
        reshaped = reshaped.replace("{", '{"seed": 0, "seed": 1, ', 1)
    return reshaped


def _holders(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _holders(item)


def mutated(path: Path, content: bytes, random: Random) -> tuple[str, bytes]:
    """A file of that name damaged, or, where it is JSON, reshaped."""
    if path.suffix in {".json", ".jsonl"} and content and random.random() < 0.5:
        lines = content.decode().splitlines() if path.suffix == ".jsonl" else [content.decode()]
        place = random.randrange(len(lines))
        lines[place] = reshaped(lines[place], random)
        return "reshaped", "\n".join(lines).encode("utf-8", "surrogatepass")
    return damaged(content, random)


@dataclass(frozen=True)
class Target:
    """What reads files, and a folder of good ones."""

    name: str
    folder: Path
    files: tuple[str, ...]
    read: Callable[[Path], object]


@dataclass
class Findings:
    """What became of the inputs of a target: how many were refused in a sentence, how many read as if nothing
    were wrong, and what went wrong with the others."""

    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    slowest: float = 0.0
    largest: int = 0

    def add(self, outcome: str, what: str | None = None) -> None:
        self.outcomes[outcome] += 1
        if what is not None:
            self.problems.append(what)


def fuzz(target: Target, scratch: Path, *, inputs: int, seed: int = 0) -> Findings:
    """Have a target read damaged files, one damaged file at a time.

    Args:
        scratch: a folder to work in.
    """
    found, random, peak = Findings(), Random(seed), Peak()  # noqa: S311 - no secret
    folder = scratch / target.name
    shutil.copytree(target.folder, folder)
    target.read(folder)
    for _ in range(inputs):
        name = random.choice(target.files)
        good = (target.folder / name).read_bytes()
        kind, bad = mutated(Path(name), good, random)
        (folder / name).write_bytes(bad)
        peak.start()
        started = time.perf_counter()
        try:
            target.read(folder)
        except MolereError as error:
            several = "\n" in str(error) or len(str(error)) > 2000
            found.add(
                "several lines" if several else "refused", f"{kind} {name}: {error}" if several else None
            )
        except Exception:
            found.add("traceback", f"{kind} {name}: {traceback.format_exc()}")
        else:
            found.add("read")
        seconds, memory = time.perf_counter() - started, peak.grown()
        found.slowest, found.largest = max(found.slowest, seconds), max(found.largest, memory)
        if seconds > SECONDS:
            found.add("slow", f"{kind} {name}: {seconds:.1f} s")
        if memory > TIMES_ITS_SIZE * len(bad) + ROOM:
            found.add("large", f"{kind} {name}: {memory >> 20} MiB for {len(bad)} bytes")
        (folder / name).write_bytes(good)
    shutil.rmtree(folder)
    return found


class Peak:
    """The growth of this process's resident set, 0 where the system does not tell (proc(5))."""

    def start(self) -> None:
        """Give freed memory back first: what the heap keeps (`allocator.py`) would hide growth."""
        if TRIM is not None:
            TRIM(0)
        with suppress(FileNotFoundError):
            Path("/proc/self/clear_refs").write_text("5")  # the peak is now what there is
        self._before = _status("VmRSS")

    def grown(self) -> int:
        """Bytes from the start to the peak."""
        return max(0, _status("VmHWM") - self._before)


def _status(key: str) -> int:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except FileNotFoundError:
        return 0
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(key + ":"))


def targets(run: RunDir, split: Path, data: LoadedDataset, registry: Registry, folder: Path) -> list[Target]:
    """Every reader of MOLERE's own files and of a user's lists.

    Args:
        run: a finished run on `data`, whose checkpoint, records and table serve as good files.
        split: a split of `data`.
        folder: where copies of the good files go.
    """
    shutil.copytree(run.path, folder / "run")
    shutil.copytree(run.path, folder / "older")
    drop_digests(folder / "older")
    _write_lists(folder, split, data)
    records = ("config.json", "environment.json", "metrics.jsonl", "DONE", "pool.parquet")
    checkpoint = tuple(str(path.relative_to(run.path)) for path in sorted(run.path.glob("checkpoint/*")))
    pool, module = data.dataset.pool, _module_of(run)

    def read_split(where: Path) -> None:
        load_split(
            where / "split.parquet",
            labels_N=pool.labels,
            indices_N=data.pool_indices,
            fingerprint=data.fingerprint,
            num_classes=data.num_classes,
        )

    def read_records(where: Path) -> None:
        load_record(RunDir(where))
        if has_score(RunDir(where), "aum"):
            read_score(RunDir(where), "aum")

    def read_checkpoint(where: Path) -> None:
        load_state(where / "checkpoint")
        load_classifier(module, where / "checkpoint")

    def read_noise(where: Path) -> None:
        labels_from_file(
            where / "noise.csv",
            pool.labels,
            data.pool_indices,
            data.dataset.class_names,
            num_full=1 + max(data.pool_indices.tolist()),
        )

    def read_settings(path: Path) -> None:
        validate_config(read_config_file(path), source=str(path))

    def read_manifest(where: Path) -> None:
        load_dataset(RunConfig.of(dataset=f"csv:{where / 'images.csv'}").data, registry)

    return [
        Target("split", folder / "lists", ("split.parquet",), read_split),
        Target("records", folder / "run", records, read_records),
        Target("records-without-digests", folder / "older", records, read_records),
        Target("checkpoint", folder / "run", checkpoint, read_checkpoint),
        Target("toml", folder / "lists", ("run.toml",), lambda where: read_settings(where / "run.toml")),
        Target("json", folder / "lists", ("run.json",), lambda where: read_settings(where / "run.json")),
        Target("noise", folder / "lists", ("noise.csv",), read_noise),
        Target("manifest", folder / "lists", ("images.csv",), read_manifest),
    ]


def _write_lists(folder: Path, split: Path, data: LoadedDataset) -> None:
    from PIL import Image

    lists = folder / "lists"
    lists.mkdir(parents=True)
    shutil.copy(split, lists / "split.parquet")
    settings = {"dataset": "digits", "epochs": 3, "lr": 0.1, "seed": 5, "dataset_option": {"a": "b"}}
    (lists / "run.json").write_text(json.dumps(settings, indent=2))
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items() if key != "dataset_option"]
    (lists / "run.toml").write_text("\n".join([*lines, "[dataset_option]", 'a = "b"', ""]))
    rows = [f"{index},{number % data.num_classes}" for number, index in enumerate(data.pool_indices.tolist())]
    (lists / "noise.csv").write_text("\n".join(["index,label", *rows, ""]))
    images = []
    for number in range(16):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(lists / f"{number}.png")
        images.append(f"{number}.png,{'cat' if number % 2 else 'dog'},{'test' if number > 11 else 'train'}")
    (lists / "images.csv").write_text("\n".join(["path,label,split", *images, ""]))


def _module_of(run: RunDir) -> nn.Module:
    """A module with the names and shapes of a run's classifier."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            with safe_open(run.classifier_path, "pt") as file:
                self.names = {name.replace(".", "/"): file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            for name, value in self.names.items():
                self.register_buffer(name, value)

        def load_state_dict(self, state: Mapping[str, Any], **_rest: Any) -> Any:  # type: ignore[override]
            renamed = {name.replace(".", "/"): value for name, value in state.items()}
            return super().load_state_dict(renamed)

    return Plain()
