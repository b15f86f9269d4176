"""From a folder of photos to a classifier that others load, by the commands of the guide."""

from __future__ import annotations

import csv
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

GUIDE = Path(__file__).parents[2] / "docs" / "guide" / "photos.md"
BACKBONE = "convnext_femto.d1_in1k"
SMALL = "test_resnet.r160_in1k"
CLASSES = ("bird", "boat", "cat", "tree")
INK = ((200, 60, 60), (60, 200, 60), (60, 60, 200), (200, 200, 60))
IN_PLAIN_TIMM = """
import sys, timm, torch
from pathlib import Path
from PIL import Image
from safetensors.torch import save_file
classifier = timm.create_model("local-dir:classifier", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(classifier), is_training=False)
paths = sorted(Path("new").iterdir())
images = torch.stack([transform(Image.open(path).convert("RGB")) for path in paths])
with torch.no_grad():
    save_file({"logits": classifier(images)}, "plain.safetensors")
assert not any(name.startswith("molere") for name in sys.modules)
"""


def commands() -> list[str]:
    section = GUIDE.read_text(encoding="utf-8")
    block = re.search(r"```console\n(.*?)```", section, re.DOTALL)[1]
    lines = [line.removeprefix("$ molere ") for line in block.splitlines()]
    assert [line.split()[0] for line in lines] == ["train", "predict", "export"] and BACKBONE in lines[0]
    return [line.replace(BACKBONE, SMALL) for line in lines]


def photograph(path: Path, kind: int, number: int) -> None:
    generator = np.random.default_rng((kind, number))
    height, width = generator.integers(60, 140, 2)
    pixels = np.array(INK[kind]) + generator.normal(0, 40, (height, width, 3))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path, quality=90)


@pytest.mark.long
@pytest.mark.slow
def test_five_hundred_photos_become_a_classifier_that_timm_loads(in_tmp, molere):
    for kind, name in enumerate(CLASSES):
        for number in range(125):
            photograph(in_tmp / "photos" / name / f"{number:03d}.jpg", kind, number)
    for number in range(8):
        photograph(in_tmp / "new" / f"{number}.jpg", number % 4, 1000 + number)
    torch.manual_seed(0)
    save_file(
        timm.create_model(SMALL.partition(".")[0], num_classes=1000).state_dict(), "weights.safetensors"
    )

    train, predict, export = commands()
    done = molere(f"{train} --epochs 1 --device cpu --precision fp32")
    assert done.code == 0, done.err
    assert "160 x 160 pixels" in done.err and "classification layer starts at random" in done.err
    assert molere(predict).code == 0
    done = molere(export)
    assert done.code == 0, done.err

    subprocess.run([sys.executable, "-c", IN_PLAIN_TIMM], check=True, timeout=300)
    logits = load_file("plain.safetensors")["logits"]
    with open("found.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    paths = sorted(Path("new").iterdir())
    assert [Path(row["path"]).name for row in rows] == [path.name for path in paths]
    probabilities = logits.softmax(dim=1)
    for row, found in zip(rows, probabilities, strict=True):
        order = found.argsort(descending=True)
        assert row["prediction"] == CLASSES[order[0]]
        assert float(row["probability"]) == pytest.approx(float(found[order[0]]), abs=1e-5)
    checkpoint = load_file("mine/checkpoint/classifier.safetensors")
    exported = load_file("classifier/model.safetensors")
    assert checkpoint.keys() == exported.keys()
    assert all(torch.equal(checkpoint[name], exported[name]) for name in checkpoint)


def test_the_readme_names_files_that_the_commands_write():
    train, predict, export = (shlex.split(line) for line in commands())
    assert train[train.index("--out") + 1] == predict[1] == export[1]
