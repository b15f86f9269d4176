"""`molere export`: what others load gives the checkpoint's logits, and the card says what the run says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from typing import ClassVar

import pytest
import torch
from molere_export import weight_export as export_task
from molere_export.weight_export import export_run
from molere_timm.small_cnn import SmallCNN
from safetensors.torch import load_file, save_file

from molere_cli.api.run_schedule import train_runs
from molere_cli.config.run_config import RunConfig
from molere_cli.foundation.errors import MolereError
from molere_cli.foundation.progress import NoProgress
from molere_cli.registry.registry import load_plugins
from molere_cli.training.trained_model import load_alone

REGISTRY = load_plugins()
SIZES = {"small_cnn": 8, "resnet18": 16, "vit_tiny_patch16_224": 32}
IN_PLAIN_TIMM = """
import sys, timm, torch
from safetensors.torch import load_file, save_file
classifier = timm.create_model(f"local-dir:{sys.argv[1]}", pretrained=True).eval()
with torch.no_grad():
    save_file({"logits": classifier(load_file("images.safetensors")["images"])}, "found.safetensors")
found = timm.data.resolve_model_data_config(classifier)
print(found["input_size"], found["mean"], found["std"], found["crop_pct"], found["crop_mode"])
print(any(name.startswith("molere") for name in sys.modules))
"""


@pytest.fixture(scope="module", params=SIZES)
def run(request, tmp_path_factory):
    """A run of each backbone."""
    root = tmp_path_factory.mktemp(request.param)
    config = RunConfig.of(
        dataset="digits",
        limit_train=60,
        method="erm",
        backbone=request.param,
        image_size=SIZES[request.param],
        epochs=1,
        precision="fp32",
        device="cpu",
    )
    (run,) = train_runs(config, [0], REGISTRY, runs=root, progress=NoProgress())
    return run


@pytest.fixture
def images(run, in_tmp):
    """Input for the run's network, in a file too."""
    _, classifier, _, settings = load_alone(run, REGISTRY)
    images = torch.randn(5, 3, *settings.image_size, generator=torch.Generator().manual_seed(3))
    save_file({"images": images}, "images.safetensors")
    with torch.no_grad():
        return images, classifier.predict(images).logits


@pytest.mark.slow
def test_plain_timm_gives_the_checkpoints_logits(run, images, in_tmp):
    backbone = run.config()["backbone"]
    notes: list[str] = []
    written = export_run(run.path, in_tmp / "out", note=notes.append)
    assert [path.name for path in written] == ["README.md", "config.json", "model.safetensors"]
    if backbone == "small_cnn":
        network = SmallCNN(10)
        network.load_state_dict(load_file("out/model.safetensors"))
        found = network.eval()(images[0]).detach()
        config = json.loads((in_tmp / "out" / "config.json").read_text(encoding="utf-8"))
        assert config["constructor"] == "molere_timm.small_cnn.SmallCNN"
        assert notes == ["timm does not know backbone 'small_cnn'; config.json names its constructor"]
    else:
        process = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", IN_PLAIN_TIMM, "out"], capture_output=True, text=True
        )
        assert process.returncode == 0, process.stderr
        found = load_file("found.safetensors")["logits"]
        size, recorded = SIZES[backbone], run.environment()["input"]
        shown = (3, size, size), recorded["mean"], recorded["std"], 1.0, "squash"
        assert process.stdout.splitlines() == [" ".join(map(str, shown)), "False"]
        assert notes == []
    # Another layout in memory adds in another order.
    torch.testing.assert_close(found, images[1], rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_onnx_runtime_gives_the_checkpoints_logits(run, images, in_tmp, molere):
    onnxruntime = pytest.importorskip("onnxruntime")
    with warnings.catch_warnings(action="ignore"):
        done = molere(f"export {run.path} out --format onnx")
    assert (done.code, done.last_line) == (0, "out/model.onnx")
    session = onnxruntime.InferenceSession("out/model.onnx")
    (found,) = session.run(None, {"images": images[0].numpy()})
    torch.testing.assert_close(torch.from_numpy(found), images[1], rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_a_program_gives_the_checkpoints_logits(run, images, in_tmp):
    export_run(run.path, in_tmp / "out", format="torch-export")
    with warnings.catch_warnings(action="ignore"):
        program = torch.export.load("out/model.pt2").module()
    torch.testing.assert_close(program(images[0]), images[1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("run", ["small_cnn"], indirect=True)
def test_the_card_says_what_the_run_says(run, in_tmp):
    export_run(run.path, in_tmp / "out")
    card = (in_tmp / "out" / "README.md").read_text(encoding="utf-8")
    results = run.metrics()[-1]
    assert card.startswith("---\n")
    assert f"- `test`: accuracy {100 * results['test/accuracy']:.2f}%" in card
    assert f"worst class {100 * results['test/worst_class']:.2f}%" in card
    assert "Trained on 60 images of `digits`, with seed 0" in card
    assert "## What it is not for" in card
    assert "| ERM | 1 | 0 |" in card


@pytest.mark.parametrize("run", ["resnet18"], indirect=True)
def test_other_logits_are_never_written(run, in_tmp, monkeypatch):
    right = export_task.Exported.logits
    monkeypatch.setattr(export_task.Exported, "logits", lambda self, images: 2 * right(self, images))
    with pytest.raises(MolereError, match="gives other logits in timm than the checkpoint"):
        export_run(run.path, in_tmp / "out")
    assert list(in_tmp.iterdir()) == []


@pytest.mark.parametrize("run", ["small_cnn"], indirect=True)
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("nowhere out", "nowhere is not a run directory"),
        ("{run} there", "there exists already; choose another folder"),
        ("{unfinished} out", "is not finished; go on with `molere train --resume"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(run, in_tmp, molere, arguments, sentence):
    (in_tmp / "there").mkdir()
    (in_tmp / "there" / "mine.txt").write_text("mine")
    shutil.copytree(run.path, "unfinished")
    (in_tmp / "unfinished" / "DONE").unlink()
    done = molere(f"export {arguments.format(run=run.path, unfinished='unfinished')}")
    assert (done.code, done.out) == (1, "")
    assert sentence in done.err.splitlines()[-1]
    assert sorted(path.name for path in in_tmp.iterdir()) == ["there", "unfinished"]
    assert [path.name for path in (in_tmp / "there").iterdir()] == ["mine.txt"]


class Hub:
    """What the Hub is asked for."""

    asked: ClassVar[list] = []

    def create_repo(self, name, *, private, exist_ok):
        self.asked.append(("create", name, private, exist_ok))
        return f"https://hub.example/{name}"

    def upload_folder(self, *, repo_id, folder_path, commit_message):
        names = {path.name for path in folder_path.iterdir()}
        self.asked.append(("upload", repo_id, names, commit_message))


def test_push_uploads_what_was_exported(run, in_tmp, molere, monkeypatch):
    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr(Hub, "asked", [])
    done = molere(f"export {run.path} made --push somebody/birds --private")
    assert (done.code, done.out.splitlines()[-1]) == (0, "https://hub.example/somebody/birds")
    assert Hub.asked == [
        ("create", "somebody/birds", True, True),
        ("upload", "somebody/birds", {"README.md", "config.json", "model.safetensors"}, "molere export"),
    ]


@pytest.mark.slow
@pytest.mark.parametrize("run", ["small_cnn"], indirect=True)
def test_a_hub_out_of_reach_loses_nothing(run, in_tmp):
    """Of the real library, in a process of its own, since it reads its environment once."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    command = [
        sys.executable,
        "-m",
        "molere_cli",
        "export",
        str(run.path),
        "made",
        "--push",
        "somebody/birds",
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=in_tmp)
    sentence = done.stderr.splitlines()[-1]
    assert done.returncode == 1
    assert sentence.startswith("molere: made is written, but the Hub did not take it as somebody/birds (")
    assert "`hf upload somebody/birds made` tries again" in sentence
    assert (in_tmp / "made" / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ("--push birds", "--push 'birds': a name is ORG/NAME"),
        ("--push a/b/c", "--push 'a/b/c': "),
        ("--push a/--", "--push 'a/--': "),
        ("--private", "--private goes with --push"),
    ],
)
def test_a_repository_that_cannot_be_is_refused_before_work(run, in_tmp, molere, flags, sentence):
    done = molere(f"export {run.path} made {flags}")
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1) and sentence in done.err
    assert not (in_tmp / "made").exists()
