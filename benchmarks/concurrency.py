"""What becomes of commands that run at the same time in one folder.

Pairs start together: two processes that have imported everything wait for one another, then each runs its
command line. Readers call what `eval` and `compare` call, beside a process that does nothing but replace its
checkpoint and its metrics.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path

import torch
from harness import ROOT, option_parser, print_header, print_table, progress

sys.path.insert(0, str(ROOT))
from molere_cli.registry.registry import load_plugins
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.trained_model import load_for_evaluation
from molere_cli_tests.processes import Done, Together, is_whole

QUICK = shlex.split("--dataset digits --epochs 1 --limit-train 100 --threads 1 --precision fp32 --device cpu")
ERM = ["train", "--method", "erm", *QUICK]
LRW = [["train", "--split", split, *QUICK] for split in ("hard", "easy")]

# In every checkpoint all parameters are one number, which counts the checkpoints.
TRAINER = """
import itertools, sys
from pathlib import Path
import torch
from molere_cli.engine.checkpoint import save_state
from molere_cli.registry.registry import load_plugins
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.trained_model import load_for_evaluation
run = RunDir(Path(sys.argv[1]))
module = load_for_evaluation(run, load_plugins())[2].module
for number in itertools.count(1):
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(number % 1000)
    run.write_metrics([{"epoch": epoch} for epoch in range(number % 9 + 1)])
    with run.new_checkpoint() as folder:
        save_state({"next_epoch": number}, module, folder)
    if number == 1:
        print("begun", flush=True)
"""


def main() -> None:
    parser = option_parser(__doc__, repetitions=64)
    parser.add_argument("--calls", type=int, default=10_000, help="calls of readers (default: %(default)s)")
    options = parser.parse_args()
    if options.quick:
        options.repetitions, options.calls = min(options.repetitions, 4), min(options.calls, 400)
    print_header("Commands at the same time")
    with tempfile.TemporaryDirectory() as folder:
        pairs(Path(folder), options.repetitions)
        readers(Path(folder), options.calls)


# --- pairs


def pairs(folder: Path, repetitions: int) -> None:
    """A table of what became of pairs of commands."""
    with Together(2) as processes:
        rows = [
            _row("two alike", [ERM] * 2, processes, folder / "alike", repetitions, _of_names),
            _row(
                "two with one --out",
                [[*ERM, "--out", "runs/mine"]] * 2,
                processes,
                folder / "out",
                repetitions,
                _of_names,
            ),
            _row("two that need one ERM run", LRW, processes, folder / "erm", repetitions, _of_erm),
        ]
    few = max(1, repetitions // 16)
    rows.append(_row("two alike, from a shell", [ERM] * 2, None, folder / "shell", few, _of_names))
    print_table(["pairs", "number", "what became of them"], rows)


def _row(
    title: str,
    lines: Sequence[list[str]],
    processes: Together | None,
    folder: Path,
    repetitions: int,
    outcome: Callable[[list[Done], Path], str],
) -> list[str]:
    found: Counter[str] = Counter()
    for number in range(repetitions):
        place = folder / str(number)
        place.mkdir(parents=True)
        done = _from_shell(lines, place) if processes is None else processes.run(lines, cwd=place)
        found[outcome(done, place / "runs")] += 1
        progress(f"{title}: {dict(found)}")
    return [title, str(repetitions), "; ".join(f"{count} {what}" for what, count in found.most_common())]


def _from_shell(lines: Sequence[list[str]], folder: Path) -> list[Done]:
    commands = [shlex.join([sys.executable, "-m", "molere_cli", *line]) for line in lines]
    text = " & ".join(
        f"({command} > {number}.out 2> {number}.err)" for number, command in enumerate(commands)
    )
    subprocess.run(f"{text} & wait", shell=True, cwd=folder, check=True)  # noqa: S602 - lines of ours, as a shell runs them
    read = [(folder / f"{number}.out", folder / f"{number}.err") for number in range(len(lines))]
    return [Done(not out.read_text(), out.read_text(), err.read_text()) for out, err in read]


def _of_names(done: list[Done], runs: Path) -> str:
    named = {runs.parent / each.out.strip() for each in done if not each.code}
    refused = [each.err.splitlines()[-1] for each in done if each.code]
    whole = sum(_is_whole(path) for path in named)
    if len(named) == whole == len(list(runs.iterdir())) == len(done) - len(refused):
        if not refused:
            return "two whole runs"
        if all(sentence.startswith("molere: ") for sentence in refused):
            return "one whole run, one refused in a sentence"
    return f"mixed up: exit codes {sorted(each.code for each in done)}, whole runs {whole}"


def _of_erm(done: list[Done], runs: Path) -> str:
    num_erm = sum("-erm-" in path.name for path in runs.iterdir())
    good = all(each.code == 0 for each in done) and all(_is_whole(path) for path in runs.iterdir())
    return f"{num_erm} ERM run{'s' * (num_erm > 1)}, {'all whole' if good else 'mixed up'}"


def _is_whole(path: Path) -> bool:
    try:
        return is_whole(path)
    except Exception:
        return False


# --- readers


def readers(folder: Path, calls: int) -> None:
    """A table of what readers saw beside a trainer."""
    place = folder / "readers"
    place.mkdir()
    with Together(1) as processes:
        processes.run([ERM], cwd=place)
    run = RunDir(place / "runs" / "digits-erm-s0")
    command = [sys.executable, "-c", TRAINER, str(run.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as trainer:
        assert trainer.stdout is not None
        assert trainer.stdout.readline() == "begun\n"
        started = time.time()
        answers: dict[str, Counter[object]] = {title: Counter() for title in READERS}
        failed: dict[str, Counter[str]] = {title: Counter() for title in READERS}
        for title, read in islice(cycle(READERS.items()), calls):
            try:
                answers[title][read(run)] += 1
            except Exception as error:
                failed[title][type(error).__name__] += 1
        seconds, alive = time.time() - started, trainer.poll() is None
        trainer.kill()
    rows = [
        [
            title,
            str(answers[title].total() + failed[title].total()),
            str(len(answers[title])),
            ", ".join(f"{count} {name}" for name, count in failed[title].items()) or "0",
        ]
        for title in READERS
    ]
    print_table(["calls, in turn", "number", "different answers", "half states"], rows)
    print(f"The trainer {'was alive' if alive else 'had died'} after {seconds:.0f} s.\n")


def _checkpoint(run: RunDir) -> str:
    found = run.checkpoint()
    assert found is not None
    return found.name


def _metrics(run: RunDir) -> int:
    records = run.metrics()
    assert [record["epoch"] for record in records] == list(range(len(records)))
    assert records
    return len(records)


def _config(run: RunDir) -> int:
    return int(run.config()["seed"])


def _classifier(run: RunDir) -> float:
    module = load_for_evaluation(run, PLUGINS)[2].module
    values = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
    assert bool((values == values[0]).all())
    return float(values[0])


PLUGINS = load_plugins()
READERS: dict[str, Callable[[RunDir], object]] = {
    "RunDir.checkpoint()": _checkpoint,
    "RunDir.metrics()": _metrics,
    "RunDir.config()": _config,
    "the classifier, as eval loads it": _classifier,
}


if __name__ == "__main__":
    main()
