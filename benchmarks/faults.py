"""What becomes of MOLERE's files when disks, copies and hands spoil them, and of a run that cannot write.

    python benchmarks/faults.py fuzz --inputs 20000     every reader on damaged files
    python benchmarks/faults.py damage --trials 1000    every command on a run with one damaged file
    python benchmarks/faults.py disk                    a run whose n-th file operation fails, for every n

Each prints a table, and exits with 1 if there was a traceback, a number that is not what it was, or an
outcome that no sentence names.
"""

from __future__ import annotations

import argparse
import builtins
import errno
import io
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import safetensors.torch
from harness import ROOT, print_header, print_table, progress

sys.path.insert(0, str(ROOT))
from molere_cli.api.evaluation import evaluate_run
from molere_cli.api.new_split import new_split_file
from molere_cli.api.run_schedule import train_runs
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import load_dataset
from molere_cli.foundation.errors import MolereError
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry.registry import load_plugins
from molere_cli.report import compare_runs, render
from molere_cli.runs.run_directory import RunDir
from molere_cli.splits.split_file import read_split
from molere_cli.training.resume_run import resume_run
from molere_cli_tests.fuzzing import damaged, fuzz, targets

TINY = {
    "dataset": "digits",
    "limit_train": 100,
    "backbone": "small_cnn",
    "epochs": 2,
    "batch_size": 32,
    "precision": "fp32",
    "device": "cpu",
    "threads": 1,
}
LRW = {"method": "lrw", "split": "random", "delta": 0.25}
REGISTRY = load_plugins()
SHOWN, SHOWN_LENGTH = 20, 1500


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    for name, run, option, default, what in (
        ("fuzz", run_fuzz, "--inputs", 20_000, "damaged files for each reader"),
        ("damage", run_damage, "--trials", 1000, "damaged runs"),
        ("disk", run_disk, "--step", 1, "fail every so manieth operation"),
    ):
        command = commands.add_parser(name)
        command.add_argument(option, type=int, default=default, help=f"{what} (default: %(default)s)")
        command.add_argument("--seed", type=int, default=0)
        command.set_defaults(run=run)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        run: Callable[[argparse.Namespace, Path], int] = options.run
        return run(options, Path(scratch))


def trained(folder: Path, **settings: object) -> RunDir:
    """A tiny run under `folder`."""
    config = RunConfig.of(**{**TINY, **settings})
    (run,) = train_runs(config, [0], REGISTRY, runs=folder, progress=NoProgress())
    return run


class Stopped(NoProgress):
    """Stops a run once its first epoch is on the disk."""

    def epoch_ended(self, metrics: object) -> None:
        raise KeyboardInterrupt


def unfinished(folder: Path, **settings: object) -> RunDir:
    """A tiny run under `folder` that was stopped after an epoch."""
    config = RunConfig.of(**{**TINY, **settings})
    try:
        list(train_runs(config, [0], REGISTRY, runs=folder, progress=Stopped()))
    except KeyboardInterrupt:
        (path,) = folder.iterdir()
        return RunDir(path)
    raise AssertionError("the run was not stopped")


def result(run: RunDir) -> tuple[object, ...]:
    """What a run has come to: its records without times, and its classifier, bit for bit."""
    records = [
        {key: value for key, value in record.items() if not key.startswith(("time/", "memory/"))}
        for record in run.metrics()
    ]
    return records, run.classifier_path.read_bytes()


def run_fuzz(options: argparse.Namespace, scratch: Path) -> int:
    print_header("Readers on damaged files", f"{options.inputs} inputs a reader, seed {options.seed}.")
    run = trained(scratch / "runs", **LRW)
    data = load_dataset(RunConfig.of(**TINY).data, REGISTRY)
    rows, problems = [], []
    for target in targets(run, run.split_path, data, REGISTRY, scratch / "good"):
        started = time.perf_counter()
        found = fuzz(target, scratch, inputs=options.inputs, seed=options.seed)
        problems += [f"{target.name}: {problem}" for problem in found.problems]
        wrong = ("traceback", "several lines", "slow", "large")
        counts = [str(found.outcomes[name]) for name in ("refused", "read", *wrong)]
        rows.append(
            [
                target.name,
                *counts,
                f"{1000 * found.slowest:.0f}",
                f"{found.largest / 2**20:.0f}",
                f"{time.perf_counter() - started:.0f}",
            ]
        )
        progress(f"{target.name}: {dict(found.outcomes)}")
    print_table(
        [
            *("reader", "refused", "read", "tracebacks", "no sentence", "over 1 s", "over 10x"),
            *("slowest, ms", "most memory, MiB", "took, s"),
        ],
        rows,
    )
    return report(problems)


# --- a run with one damaged file


def evaluated(path: Path) -> object:
    return evaluate_run(path, REGISTRY, runs=path.parent).as_json()


def compared(path: Path) -> object:
    return render(compare_runs([path]), "json")


def split_from(path: Path) -> object:
    out = path.parent / "split.parquet"
    out.unlink(missing_ok=True)
    config = RunConfig.of(split="hard")
    split = new_split_file(config, REGISTRY, erm=path, out=out, runs=path.parent, progress=NoProgress()).split
    return split.in_validation.tolist(), None if split.score is None else split.score.tolist()


def its_split(path: Path) -> object:
    split = read_split(RunDir(path).split_path)
    return split.in_validation.tolist(), split.labels.tolist(), split.indices.tolist(), split.info


def resumed(path: Path) -> object:
    return result(resume_run(path, REGISTRY, progress=NoProgress()))


def called_finished(path: Path) -> object:
    return resume_run(path, REGISTRY, progress=NoProgress()).metrics()


COMMANDS: dict[str, tuple[Callable[[Path], object], ...]] = {
    "finished ERM": (evaluated, compared, split_from, called_finished),
    "finished LRW": (evaluated, compared, its_split, called_finished),
    "unfinished LRW": (evaluated, resumed),
}


def run_damage(options: argparse.Namespace, scratch: Path) -> int:
    print_header("Commands on a run with one damaged file", f"{options.trials} trials, seed {options.seed}.")
    good = {
        "finished ERM": trained(scratch / "erm", method="erm"),
        "finished LRW": trained(scratch / "lrw", **LRW),
        "unfinished LRW": unfinished(scratch / "cut", **LRW),
    }
    path, random = scratch / "work" / "run", Random(options.seed)  # noqa: S311 - no secret
    path.parent.mkdir()
    expected: dict[tuple[str, str], object] = {}
    for name, run in good.items():
        for command in COMMANDS[name]:
            fresh_copy(run.path, path)
            expected[name, command.__name__] = command(path)
    files = [
        (name, file) for name, run in good.items() for file in sorted(run.path.rglob("*")) if file.is_file()
    ]
    outcomes: defaultdict[str, Counter[str]] = defaultdict(Counter)
    problems = []
    for trial in range(options.trials):
        name, file = files[trial % len(files)]
        inner = file.relative_to(good[name].path)
        kind, content = damaged(file.read_bytes(), random)
        if content == file.read_bytes():
            continue
        if random.random() < 0.05:
            kind = "deleted"
        for command in COMMANDS[name]:
            fresh_copy(good[name].path, path)
            if kind == "deleted":
                (path / inner).unlink()
            else:
                (path / inner).write_bytes(content)
            outcome, detail = outcome_of(command, path, expected[name, command.__name__])
            outcomes[f"{name}: {inner}"][outcome] += 1
            if outcome in {"traceback", "other numbers", "several lines"}:
                problems.append(f"{command.__name__} of {name}, {kind} {inner}: {outcome}\n{detail}")
        if trial % 100 == 99:
            progress(f"trial {trial + 1} of {options.trials}: {len(problems)} problems")
    kinds = ("named", "without effect", "other numbers", "several lines", "traceback")
    print_table(
        ("damaged file", *kinds),
        [(name, *(str(found[kind]) for kind in kinds)) for name, found in outcomes.items()],
    )
    return report(problems)


def fresh_copy(source: Path, path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(source, path)


def outcome_of(command: Callable[[Path], object], path: Path, expected: object) -> tuple[str, str]:
    try:
        found = command(path)
    except MolereError as error:
        return ("several lines" if "\n" in str(error) else "named"), str(error)
    except Exception:
        return "traceback", traceback.format_exc()
    if found == expected:
        return "without effect", ""
    return "other numbers", str(command.__name__)


# --- a run whose file operations fail


class Failing:
    """Counts the file operations below a folder, and fails one of them.

    fail_at: the number of the operation that fails, from 0; None for none. lasting: whether all after it
    fail too, as on a disk that has gone.
    """

    OPERATIONS = (
        "open",
        "replace",
        "rename",
        "link",
        "mkdir",
        "fsync",
        "unlink",
        "scandir",
        "rmdir",
        "utime",
    )

    def __init__(self, root: Path, number: int, fail_at: int | None, *, lasting: bool = False) -> None:
        self.root, self.number, self.fail_at, self.lasting = str(root), number, fail_at, lasting
        self.count, self.failed = 0, ""

    def counts(self, what: str, path: object) -> bool:
        """Whether this operation is to fail."""
        if not isinstance(path, int) and self.root not in os.fspath(path):  # type: ignore[call-overload]
            return False
        self.count += 1
        past = -1 if self.fail_at is None else self.count - 1 - self.fail_at
        if past < 0 or (past > 0 and not self.lasting):
            return False
        self.failed = self.failed or f"{what} {path}"
        return True

    def refuse(self) -> OSError:
        return OSError(self.number, os.strerror(self.number))

    def around(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(path: object = ".", *arguments: Any, **rest: Any) -> Any:
            if self.counts(name, path):
                raise self.refuse()
            return real(path, *arguments, **rest)

        return wrapped

    def half_written(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        """As `around`, of a call that writes its second argument, and has come half way."""

        def wrapped(value: object, path: Path, *arguments: Any, **rest: Any) -> Any:
            fails = self.counts(name, path)
            real(value, path, *arguments, **rest)
            if not fails:
                return
            os.truncate(path, Path(path).stat().st_size // 2)
            if name == "save_file":
                text = (
                    f"Error while serializing: I/O error: {os.strerror(self.number)} (os error {self.number})"
                )
                raise safetensors.SafetensorError(text)
            raise self.refuse()

        return wrapped

    @contextmanager
    def in_force(self) -> Iterator[None]:
        with ExitStack() as stack:
            for name in self.OPERATIONS:
                stack.enter_context(patch.object(os, name, self.around(name, getattr(os, name))))
            opened = self.around("open", io.open)
            stack.enter_context(patch.object(io, "open", opened))
            stack.enter_context(patch.object(builtins, "open", opened))
            saved = self.half_written("save_file", safetensors.torch.save_file)
            stack.enter_context(patch("molere_cli.engine.checkpoint.save_file", saved))
            stack.enter_context(
                patch.object(pq, "write_table", self.half_written("write_table", pq.write_table))
            )
            yield


def run_disk(options: argparse.Namespace, scratch: Path) -> int:
    print_header(
        "A run whose file operations fail",
        "In each run one operation fails, or all from one on; then it goes on without failures.",
    )
    expected = result(trained(scratch / "whole", **LRW))
    problems, rows = [], []
    failures = ((errno.ENOSPC, False), (errno.EIO, False), (errno.EACCES, False), (errno.EIO, True))
    for number, lasting in failures:
        outcomes: Counter[str] = Counter()
        name = errno.errorcode[number] + (" from then on" if lasting else "")
        for fail_at in range(0, num_operations(scratch), options.step):
            root = scratch / "disk"
            shim = Failing(root, number, fail_at, lasting=lasting)
            outcome, detail = after_failure(root, shim, expected)
            outcomes[outcome] += 1
            if outcome not in {"named", "without effect"}:
                problems.append(f"{name} at {shim.failed}: {outcome}\n{detail}")
        progress(f"{name}: {dict(outcomes)}")
        rows.append((name, outcomes))
    rows.append(("a full tmpfs", on_a_full_disk(scratch, expected, problems)))
    kinds = ("named", "without effect", "traceback", "other bits", "left behind")
    print_table(
        ("failure", "runs", *kinds),
        [
            (name, str(found.total()) if found else "not allowed here", *(str(found[kind]) for kind in kinds))
            for name, found in rows
        ],
    )
    return report(problems)


def num_operations(scratch: Path) -> int:
    shim = Failing(scratch / "disk", 0, None)
    with shim.in_force():
        trained(scratch / "disk", **LRW)
    shutil.rmtree(scratch / "disk")
    return shim.count


def after_failure(root: Path, shim: Failing, expected: object) -> tuple[str, str]:
    """What a run comes to if an operation fails, once it has gone on without failures."""
    with shim.in_force():
        outcome, detail = begun(root)
    found = gone_on(root)
    left = [str(path.relative_to(root)) for path in root.rglob(".*")]
    shutil.rmtree(root)
    if outcome != "traceback" and found != expected:
        return "other bits", detail
    if outcome != "traceback" and left:
        return "left behind", f"{detail}: {left}"
    return outcome, detail


def begun(root: Path) -> tuple[str, str]:
    try:
        trained(root, **LRW)
    except MolereError as error:
        return "named", str(error)
    except Exception:
        return "traceback", traceback.format_exc()
    return "without effect", ""


def gone_on(root: Path) -> object:
    """The result of the run under `root`, resumed or, if it had not begun, begun anew."""
    runs = [path for path in root.glob("[!.]*") if path.is_dir()] if root.exists() else []
    run = resume_run(runs[0], REGISTRY, progress=NoProgress()) if runs else trained(root, **LRW)
    return result(run)


def on_a_full_disk(scratch: Path, expected: object, problems: list[str]) -> Counter[str]:
    """Runs on file systems that are too small, and then large enough; none where `mount` is not allowed."""
    outcomes: Counter[str] = Counter()
    folder = scratch / "tmpfs"
    folder.mkdir()
    for kibibytes in (*range(4, 64, 12), *range(64, 1984, 128)):
        if subprocess.run(mount(folder, f"size={kibibytes}k"), capture_output=True).returncode:
            progress("mount is not allowed here: nothing has been run on a full disk")
            return outcomes
        try:
            outcome, detail = begun(folder / "runs")
            subprocess.run(mount(folder, "remount,size=64m"), check=True)
            if outcome != "traceback" and gone_on(folder / "runs") != expected:
                outcome = "other bits"
        finally:
            subprocess.run(["umount", str(folder)], check=True)
        outcomes[outcome] += 1
        if outcome not in {"named", "without effect"}:
            problems.append(f"{kibibytes} KiB of tmpfs: {outcome}\n{detail}")
    progress(f"tmpfs: {dict(outcomes)}")
    return outcomes


def mount(folder: Path, options: str) -> list[str]:
    return ["mount", "-t", "tmpfs", "-o", options, "none", str(folder)]


def report(problems: list[str]) -> int:
    """Show problems, one of each last line; the exit code."""
    distinct = {problem.rstrip().splitlines()[-1]: problem for problem in problems}
    for problem in list(distinct.values())[:SHOWN]:
        print(problem[-SHOWN_LENGTH:], file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
