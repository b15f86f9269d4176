"""What a run leaves on disk: loads elsewhere, survives a kill, and is never a pickle."""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import shlex
import shutil
import subprocess
import sys
from copy import copy
from pathlib import Path
from threading import Semaphore, Thread, current_thread, main_thread

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, load_file, save, save_file
from typer.testing import CliRunner

from molere_cli.api.evaluation import evaluate_run
from molere_cli.commands import app as entry
from molere_cli.engine.checkpoint import load_state, save_state
from molere_cli.foundation.errors import DamagedCheckpoint, RunError
from molere_cli.foundation.files import json_text, parse_json
from molere_cli.foundation.packing import pack, unpack
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry.registry import load_plugins
from molere_cli.runs.run_directory import RunDir
from molere_cli.training.resume_run import resume_run
from molere_cli.training.trained_model import load_for_evaluation
from molere_cli_tests.fake_runs import drop_digests

ROOT = Path(__file__).parents[2]


def trained(line: str, out: Path) -> RunDir:
    arguments = shlex.split(f"train --method erm --precision fp32 --device cpu --quiet --out {out} {line}")
    done = CliRunner().invoke(entry.app, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return RunDir(out)


# --- loading elsewhere

ELSEWHERE = """
import sys, timm, torch
from safetensors.torch import load_file, save_file
weights, images, logits = sys.argv[1:]
network = timm.create_model("resnet18", num_classes=10)
network.load_state_dict(load_file(weights))
network.eval()
with torch.inference_mode():
    save_file({"logits": network(load_file(images)["images"])}, logits)
assert not [name for name in sys.modules if name.startswith("molere")]
"""


@pytest.mark.slow
def test_a_timm_classifier_loads_with_timm_alone(tmp_path):
    run = trained(
        "--backbone resnet18 --dataset digits --image-size 32 --epochs 1 --limit-train 200", tmp_path / "run"
    )
    images = torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 4 - 2
    classifier = load_for_evaluation(run, load_plugins())[2]
    expected = classifier.predict(images.contiguous(memory_format=torch.channels_last)).logits
    save_file({"images": images}, tmp_path / "images.safetensors")
    paths = [run.classifier_path, tmp_path / "images.safetensors", tmp_path / "logits.safetensors"]
    done = subprocess.run([sys.executable, "-c", ELSEWHERE, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    logits = load_file(paths[-1])["logits"]
    assert expected.std() > 0.01
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)


def test_the_checkpoint_is_the_classifier_that_was_evaluated(tmp_path):
    run = trained("--epochs 1 --limit-train 100", tmp_path / "run")
    logged = run.metrics()[-1]["test/nll"]
    assert nll_of(run) == pytest.approx(logged, abs=1e-6)
    without_digests(run)
    noisy = {name: value + torch.rand_like(value) for name, value in load_file(run.classifier_path).items()}
    save_file(noisy, run.classifier_path)
    assert nll_of(run) != pytest.approx(logged, abs=1e-3)


def without_digests(run: RunDir) -> None:
    """Make a finished run one of a version that kept none."""
    path = run.path / "checkpoint" / "state.json"
    state = json.loads(path.read_text())
    assert state.pop("$digests").keys() == {"classifier.safetensors", "state.safetensors", "state.json"}
    path.write_text(json.dumps(state))
    drop_digests(run.path)


def nll_of(run: RunDir) -> float:
    return evaluate_run(run.path, load_plugins(), runs=run.path.parent).summaries["test"]["nll"]


DAMAGES = {
    "missing": (Path.unlink, "No such file or directory"),
    "truncated": (lambda path: path.write_bytes(path.read_bytes()[:100]), "it is not what was written"),
    "one bit": (lambda path: flip(path, place=path.stat().st_size // 2), "it is not what was written"),
    "of a run beside": (
        lambda path: save_file({"fc.weight": torch.zeros(2, 2)}, path),
        "it is not what was written",
    ),
}


def flip(path: Path, *, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_classifier_is_named(tmp_path, damage):
    run = trained("--epochs 1 --limit-train 100", tmp_path / "run")
    do, reason = DAMAGES[damage]
    do(run.classifier_path)
    with pytest.raises(RunError) as caught:
        evaluate_run(run.path, load_plugins(), runs=tmp_path)
    assert str(caught.value) == (
        f"{run.classifier_path} is damaged: {reason}; put it back from a copy, or train a new run"
    )


def test_a_classifier_of_another_network_is_named(tmp_path):
    run = trained("--epochs 1 --limit-train 100", tmp_path / "run")
    without_digests(run)
    save_file({"fc.weight": torch.zeros(2, 2)}, run.classifier_path)
    with pytest.raises(RunError) as caught:
        evaluate_run(run.path, load_plugins(), runs=tmp_path)
    assert str(caught.value).startswith(f"{run.classifier_path} does not fit this backbone: ")
    assert "\n" not in str(caught.value)


def test_a_damaged_checkpoint_of_a_finished_run_is_not_quietly_replaced_by_the_one_before(tmp_path):
    """Whose numbers are others."""
    run = trained("--epochs 2 --limit-train 100", tmp_path / "run")
    whole = run.classifier_path.read_bytes()
    flip(run.classifier_path, place=2000)
    with pytest.raises(RunError) as caught:
        evaluate_run(run.path, load_plugins(), runs=tmp_path)
    assert str(caught.value) == (
        f"{run.classifier_path} is damaged: it is not what was written; put it back from a copy, or delete "
        f"{run.path}/DONE and train the end of the run again with `molere train --resume {run.path}`"
    )
    (run.path / "DONE").unlink()
    evaluate_run(run.path, load_plugins(), runs=tmp_path, note=(told := []).append)
    assert told == [
        f"{run.classifier_path} is damaged: it is not what was written; the checkpoint before it is used"
    ]
    resume_run(run.path, load_plugins(), progress=NoProgress())
    assert run.classifier_path.read_bytes() == whole


@pytest.mark.parametrize("damage", ["deleted", "older"])
def test_a_finished_run_whose_last_state_is_gone_is_not_taken_for_what_it_was_before(tmp_path, damage):
    run = trained("--epochs 2 --limit-train 100", tmp_path / "run")
    last = run.path / "checkpoint" / "state.json"
    if damage == "deleted":
        last.unlink()
    else:
        shutil.rmtree(run.path / "checkpoint")
        shutil.copytree(run.path / "checkpoint.old", run.path / "checkpoint")
    with pytest.raises(
        RunError, match=rf"^{last} .* train the end of the run again with `molere train --resume"
    ):
        evaluate_run(run.path, load_plugins(), runs=tmp_path)


def test_a_classifier_does_not_start_from_a_damaged_checkpoint(tmp_path):
    run = trained("--epochs 1 --limit-train 100", tmp_path / "run")
    line = f"--epochs 1 --limit-train 100 --init-from {run.classifier_path}"
    trained(line, tmp_path / "other")
    flip(run.classifier_path, place=2000)
    with pytest.raises(DamagedCheckpoint, match="it is not what was written"):
        trained(line, tmp_path / "third")
    assert not (tmp_path / "third").exists()


def test_what_is_said_of_a_damaged_checkpoint_crosses_processes():
    damage = DamagedCheckpoint(Path("a"), "it is wet")
    assert str(copy(damage)) == str(damage) == "a is damaged: it is wet"


# --- kills


def write_checkpoint(run: RunDir, number: int) -> None:
    with run.new_checkpoint() as folder:
        module = torch.nn.Linear(2, 2)
        torch.nn.init.constant_(module.weight, number)
        save_state({"number": number, "tensor": torch.tensor(number)}, module, folder)


def number_in(checkpoint: Path | None) -> int:
    assert checkpoint is not None
    return load_state(checkpoint)["number"]


def test_the_newest_checkpoint_replaces_the_one_before(tmp_path):
    run = RunDir(tmp_path)
    assert run.checkpoint() is None
    for number in (1, 2, 3):
        write_checkpoint(run, number)
        assert number_in(run.checkpoint()) == number
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint", "checkpoint.old"]
    assert number_in(tmp_path / "checkpoint.old") == 2
    assert sorted(path.name for path in (tmp_path / "checkpoint").iterdir()) == [
        "classifier.safetensors",
        "state.json",
        "state.safetensors",
    ]


STEPS = (Path, "replace"), (Path, "mkdir"), (Path, "unlink"), (shutil, "rmtree")


def before_each_step(patched, do) -> None:
    """Calls `do` before each change that a writer of checkpoints makes to the run directory."""
    for owner, name in STEPS:
        change = getattr(owner, name)

        def step(*args, change=change, **kwargs):
            do()
            return change(*args, **kwargs)

        patched.setattr(owner, name, step)


def killed_at(patched, num_steps: int):
    """The writer is killed before its step `num_steps`."""
    left = [num_steps]

    def step():
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1

    before_each_step(patched, step)


def names_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.parametrize("first", range(19))
def test_a_kill_at_any_step_leaves_a_complete_checkpoint(tmp_path, monkeypatch, first):
    """Once, and again in the writer that comes after; and reading changes nothing."""
    for second in range(0, 19, 3):
        run = RunDir(tmp_path / str(second))
        write_checkpoint(run, 1)
        for number, num_steps in ((2, first), (3, second)):
            before = number_in(run.checkpoint())
            with monkeypatch.context() as patched, contextlib.suppress(KeyboardInterrupt):
                killed_at(patched, num_steps)
                write_checkpoint(run, number)
            left = names_in(run.path)
            assert run.read_checkpoint(number_in, note=print) in {before, number}
            assert names_in(run.path) == left
            assert all(number_in(path) for path in run.path.iterdir() if (path / "state.json").exists())
        before = number_in(run.checkpoint())
        write_checkpoint(run, 4)
        assert number_in(run.checkpoint()) == 4
        assert sorted(path.name for path in run.path.iterdir()) == ["checkpoint", "checkpoint.old"]
        assert number_in(run.path / "checkpoint.old") == before


def test_a_reader_between_the_renames_leaves_the_writer_alone(tmp_path, monkeypatch):
    """It did put `checkpoint.new` in its place itself, and the writer found nothing to rename."""
    run, seen = RunDir(tmp_path), []
    write_checkpoint(run, 1)
    with monkeypatch.context() as patched:
        before_each_step(patched, lambda: seen.append(run.read_checkpoint(number_in, note=print)))
        write_checkpoint(run, 2)
    assert seen == sorted(seen)
    assert set(seen) == {1, 2}
    assert number_in(run.checkpoint()) == 2


@pytest.mark.parametrize("start", range(11))
def test_what_a_reader_opens_one_after_the_other_is_of_one_epoch(tmp_path, monkeypatch, start):
    """The writer goes on by some steps whenever the reader has looked for a file or opened one."""
    for number, steps in enumerate(itertools.product((0, 1, 3), (0, 1, 2, 10), (0, 2))):
        run = RunDir(tmp_path / str(number))
        numbers = numbers_read(run, monkeypatch, start, itertools.cycle(steps))
        assert numbers is not None, steps
        assert len(set(numbers)) == 1, steps


def numbers_read(run, monkeypatch, start, steps):
    turns, is_file = Turns(), Path.is_file
    write_checkpoint(run, 1)

    def write_on():
        with contextlib.suppress(Over):
            for number in itertools.count(2):
                write_checkpoint(run, number)

    def let():
        if turns.num_let < 100:
            turns.let(next(steps))

    def look(path):
        found = is_file(path)
        if current_thread() is main_thread():
            let()
        return found

    def read(folder: Path) -> tuple[int, int, int]:
        let()
        classifier = int(load_file(folder / "classifier.safetensors")["weight"][0, 0])
        let()
        tensors = int(load_file(folder / "state.safetensors")["0/tensor"])
        let()
        return classifier, tensors, json.loads((folder / "state.json").read_text())["number"]

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "rmtree", rmtree_file_by_file)
        before_each_step(patched, turns.wait)
        patched.setattr(Path, "is_file", look)
        with turns.writing(write_on):
            turns.let(start)
            return run.read_checkpoint(read, note=print)


def rmtree_file_by_file(folder: Path, **_options) -> None:
    for path in sorted(folder.glob("*")):
        path.unlink()
    if folder.exists():
        folder.rmdir()


class Over(BaseException):
    """The writer is to end."""


class Turns:
    """A writer in a thread that takes its next step when it is let."""

    def __init__(self):
        self.allowed, self.done, self.num_let, self.over = Semaphore(0), Semaphore(0), 0, False

    def wait(self):
        self.done.release()
        self.allowed.acquire()
        if self.over:
            raise Over

    def let(self, num_steps):
        """Return when the writer stands before the step after these."""
        for _ in range(num_steps):
            self.allowed.release()
            self.done.acquire()
        self.num_let += num_steps

    @contextlib.contextmanager
    def writing(self, write):
        thread = Thread(target=write)
        thread.start()
        self.done.acquire()
        yield
        self.over = True
        self.allowed.release(100)
        thread.join()


@pytest.mark.parametrize("with_older", [True, False])
def test_a_partial_new_checkpoint_is_ignored(tmp_path, with_older):
    run = RunDir(tmp_path)
    if with_older:
        write_checkpoint(run, 1)
    with pytest.raises(KeyboardInterrupt), run.new_checkpoint() as folder:
        save_file({"weight": torch.zeros(2)}, folder / "classifier.safetensors")
        raise KeyboardInterrupt
    assert (tmp_path / "checkpoint.new").is_dir()
    if with_older:
        assert number_in(run.checkpoint()) == 1
    else:
        assert run.checkpoint() is None
    write_checkpoint(run, 2)
    assert number_in(run.checkpoint()) == 2


def test_a_kill_in_the_midst_of_the_last_file_leaves_no_checkpoint(tmp_path, monkeypatch):
    def half(path, text, **_options):
        path.write_bytes(text.encode()[:5])
        raise KeyboardInterrupt

    run = RunDir(tmp_path)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Path, "write_text", half)
        write_checkpoint(run, 1)
    assert run.checkpoint() is None


def test_a_run_that_was_killed_at_its_last_checkpoint_has_it_in_place_once_resumed(tmp_path):
    run = trained("--epochs 1 --limit-train 100", tmp_path / "run")
    (run.path / "checkpoint").rename(run.path / "checkpoint.new")
    (run.path / "DONE").unlink()
    resume_run(run.path, load_plugins(), progress=NoProgress())
    assert run.is_done
    assert run.classifier_path.is_file()
    assert not (run.path / "checkpoint.new").exists()


def test_a_run_evaluates_from_a_recovered_checkpoint(tmp_path):
    run = trained("--epochs 1 --limit-train 100", tmp_path / "run")
    (run.path / "DONE").unlink()
    (run.path / "checkpoint").rename(run.path / "checkpoint.new")
    found = evaluate_run(run.path, load_plugins(), runs=tmp_path).summaries
    assert found["test"]["accuracy"] == run.metrics()[-1]["test/accuracy"]


# --- state

DTYPES = (torch.float32, torch.bfloat16, torch.float64, torch.int64, torch.bool)
tensors = st.builds(
    lambda shape, dtype, seed: torch.randint(0, 100, shape, generator=torch.Generator().manual_seed(seed)).to(
        dtype
    ),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(DTYPES),
    st.integers(0, 100),
)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | tensors
# Names of parameters and of what optimizers keep: no slash, which separates the parts of a path.
names = st.text(st.characters(exclude_characters="/", codec="utf-8"), max_size=6) | st.sampled_from(
    ["$tensor", "$items", "$tuple", "$float", "$"]
)
states = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(names, inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=3)
    ),
    max_leaves=12,
)


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and one.dtype == other.dtype and torch.equal(one, other)
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


@given(state=st.dictionaries(names, states, max_size=4))
def test_a_state_comes_back_as_it_was(state):
    found: dict[str, torch.Tensor] = {}
    packed = json_text(pack(state, found))
    assert same(unpack(parse_json(packed), load(save(found))), state)


def test_the_state_of_an_optimizer_comes_back_through_files(tmp_path):
    network = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(network.parameters())
    network(torch.ones(4, 3)).sum().backward()
    optimizer.step()
    save_state({"optimizer": optimizer.state_dict()}, network, tmp_path)
    assert same(load_state(tmp_path), {"optimizer": optimizer.state_dict()})
    other = torch.nn.Linear(3, 2)
    other.load_state_dict(load_file(tmp_path / "classifier.safetensors"))
    assert same(dict(other.state_dict()), dict(network.state_dict()))


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(TypeError, match=r"'/a/b' is a set, which a checkpoint cannot hold"):
        pack({"a": {"b": {1, 2}}}, {})


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
@pytest.mark.parametrize("damage", ["missing", "truncated"])
def test_a_damaged_state_is_named(tmp_path, name, damage):
    save_state({"weight": torch.ones(3), "epoch": 4}, torch.nn.Linear(2, 2), tmp_path)
    if damage == "missing":
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:10])
    with pytest.raises(DamagedCheckpoint, match=rf"{tmp_path / name} is damaged: "):
        load_state(tmp_path)


@pytest.mark.parametrize("name", ["state.json", "state.safetensors"])
def test_one_flipped_bit_anywhere_in_a_state_is_seen(tmp_path, name):
    state = {"weight": torch.arange(4.0), "next_epoch": 4}
    save_state(state, torch.nn.Linear(2, 2), tmp_path)
    content = (tmp_path / name).read_bytes()
    for place in range(len(content)):
        flip(tmp_path / name, place=place)
        # A bit of what names the digests hides them, but leaves the state as it is.
        with contextlib.suppress(DamagedCheckpoint):
            found = load_state(tmp_path)
            assert same({key: found[key] for key in state}, state), place
        (tmp_path / name).write_bytes(content)


# --- no pickle

STARTS = {".json": b"{", ".jsonl": b"{", ".parquet": b"PAR1"}


@pytest.mark.parametrize("method", ["erm", "molere"])
def test_no_file_of_a_run_is_a_pickle(tmp_path, method):
    run = trained(f"--epochs 1 --limit-train 100 --method {method}", tmp_path / "run")
    files = [path for path in run.path.rglob("*") if path.is_file()]
    assert len(files) >= 9
    for path in files:
        content = path.read_bytes()
        # A pickle starts with its protocol's opcode, torch's own files with that of a zip archive.
        assert not content.startswith((b"\x80", b"PK")), path
        if path.suffix == ".safetensors":
            assert content[8:9] == b"{", path
            load_file(path)
        elif path.name != "DONE":
            assert content.startswith(STARTS[path.suffix]), path


UNPICKLING_MODULES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def parts_of_safe_loads(tree: ast.AST) -> set[ast.AST]:
    """The function and the keyword of every `np.load(..., allow_pickle=False)` in so many words."""
    parts: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load":
            refusing = [each for each in node.keywords if ast.unparse(each) == "allow_pickle=False"]
            parts |= {node.func, *refusing} if refusing else set()
    return parts


def unpickling(tree: ast.AST) -> list[str]:
    """What in a source might read or write a pickle."""
    found = []
    safe = parts_of_safe_loads(tree)
    for node in ast.walk(tree):
        if node in safe:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names if alias.name.split(".")[0] in UNPICKLING_MODULES]
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found += sorted(names & {"torch.load", "torch.save", "numpy.load", "pandas.read_pickle"})
            found += [node.module] if (node.module or "").split(".")[0] in UNPICKLING_MODULES else []
        elif isinstance(node, ast.Attribute):
            name = ast.unparse(node)
            found += [name] if name in {"torch.load", "torch.save", "np.load", "numpy.load"} else []
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            found.append("allow_pickle")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from joblib import load",
        "from torch import load",
        "torch.load(path, weights_only=True)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=wanted)",
        "np.load(path, allow_pickle=False)(np.load)",
        "read(path, allow_pickle=True)",
    ],
)
def test_unpickling_would_be_seen(source):
    assert unpickling(ast.parse(source))


def test_numpy_told_to_refuse_pickles_is_let_through():
    assert unpickling(ast.parse("np.load(path, allow_pickle=False)")) == []


def test_no_source_reads_or_writes_a_pickle():
    sources = [*(ROOT / "molere_cli").rglob("*.py"), *(ROOT / "plugins").rglob("*.py")]
    assert len(sources) > 60
    found = {str(path): unpickling(ast.parse(path.read_text(encoding="utf-8"))) for path in sources}
    assert {path: names for path, names in found.items() if names} == {}
