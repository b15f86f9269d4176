"""A run's classifier for others to load: as timm reads it, as ONNX, or as a program of torch.export.

Shapes: B images, C classes, H x W pixels.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from molere_cli import ConfigError, MolereError, PretrainedInput, RunError, open_runs
from molere_cli.commands import json_text, new_folder
from molere_cli.report import RunDir
from molere_export.model_card import model_card

Format = Literal["timm", "onnx", "torch-export"]
TOLERANCE = 1e-4
"""What logits of another runtime may differ by, relative to the largest one."""
CHECKED = 3


@dataclass(frozen=True, eq=False)
class Exported:
    """The network on the CPU in float32 and eval mode, what it is called, and how images become its input."""

    network: nn.Module
    backbone: str
    class_names: Sequence[str]
    input: PretrainedInput

    @property
    def is_of_timm(self) -> bool:
        """Whether timm can build it by itself."""
        return hasattr(self.network, "pretrained_cfg")

    def images(self) -> Tensor:
        """Random input, float32 (B, 3, H, W), the same each time."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(CHECKED, 3, *self.input.image_size, generator=generator)

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """float32 (B, C)."""
        found: Tensor = self.network(images)
        return found


def export_run(
    path: Path,
    folder: Path,
    *,
    format: Format = "timm",
    average: bool = False,
    note: Callable[[str], None] = lambda _message: None,
) -> list[Path]:
    """Write a finished run's classifier into a new folder, with a model card; what was written.

    timm: `model.safetensors` and `config.json`, for `timm.create_model("local-dir:FOLDER", pretrained=True)`;
    of a network that timm does not know, the config names its constructor. onnx: `model.onnx`, torch-export:
    `model.pt2`, both for any number of images, with a config like that. What was written is loaded again, and
    its logits compared with the checkpoint's: exactly for timm, to 1e-4 of the largest for the others.

    Args:
        average: whether it is the moving average of weights.
        note: told if the newest checkpoint is damaged, and if timm does not know the network.

    Raises:
        RunError: no finished run.
        ConfigError: the folder is there already, or a package is missing.
        MolereError: the network cannot be exported, or gives other logits then.
        WriteError: the system refuses.
    """
    run = RunDir(path)
    run.config()
    if not run.is_done:
        raise RunError(f"{path} is not finished; go on with `molere train --resume {path}`")
    (opened,) = open_runs(path)
    trained = opened.classifier(average=average, note=note)
    network = copy.deepcopy(trained.network).float().cpu()
    network = network.to(memory_format=torch.contiguous_format)
    made = Exported(network.eval(), trained.backbone, trained.class_names, trained.input)
    if format == "timm" and not made.is_of_timm:
        note(f"timm does not know backbone {made.backbone!r}; config.json names its constructor")
    try:
        with new_folder(folder) as hidden:
            WRITERS[format](made, hidden)
            card = model_card(
                run,
                made.backbone,
                made.class_names,
                made.input,
                average=average,
                loading=_loading(made, format),
                library="timm" if made.is_of_timm and format == "timm" else None,
            )
            (hidden / "README.md").write_text(card, encoding="utf-8", errors="backslashreplace")
    except FileExistsError as error:
        raise ConfigError(f"{folder} exists already; choose another folder") from error
    return sorted(folder.iterdir())


def _write_timm(made: Exported, folder: Path) -> None:
    if not made.is_of_timm:
        save_file(dict(made.network.state_dict()), folder / "model.safetensors")
        _write_config(made, folder)
        return
    import timm
    from timm.models import save_for_hf

    save_for_hf(
        made.network,
        str(folder),
        model_config={"label_names": list(made.class_names)},
        safe_serialization=True,
        data_config={
            "input_size": (3, *made.input.image_size),
            "mean": made.input.mean,
            "std": made.input.std,
            **_sizing(made.input),
        },
    )
    images = made.images()
    again = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    with torch.no_grad():
        _compare(again(images), made.logits(images), tolerance=0.0, what="timm")


def _write_onnx(made: Exported, folder: Path) -> None:
    _require(("onnx", "onnxscript", "onnxruntime"), format="onnx")
    import onnxruntime

    path, images = folder / "model.onnx", made.images()
    with _quietly("onnx", made):
        torch.onnx.export(
            made.network,
            (images,),
            str(path),
            input_names=["images"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for part in (images, images[:1]):
        (found,) = session.run(["logits"], {"images": part.numpy()})
        _compare(torch.from_numpy(found), made.logits(part), tolerance=TOLERANCE, what="ONNX Runtime")
    _write_config(made, folder)


def _write_program(made: Exported, folder: Path) -> None:
    path, images = folder / "model.pt2", made.images()
    with _quietly("torch.export", made):
        program = torch.export.export(
            made.network, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        torch.export.save(program, path)
        again = torch.export.load(path).module()
    for part in (images, images[:1]):
        with torch.no_grad():
            _compare(again(part), made.logits(part), tolerance=TOLERANCE, what="torch.export")
    _write_config(made, folder)


WRITERS: Mapping[Format, Callable[[Exported, Path], None]] = {
    "timm": _write_timm,
    "onnx": _write_onnx,
    "torch-export": _write_program,
}


@contextmanager
def _quietly(exporter: str, made: Exported) -> Iterator[None]:
    """Exporters warn of what their own next version will do; what fails in them is a sentence."""
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except OSError:
        raise
    except Exception as error:  # whatever an exporter stumbles over in somebody's network
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise MolereError(f"backbone {made.backbone!r} cannot be exported by {exporter}: {first}") from error


def _compare(found: Tensor, expected: Tensor, *, tolerance: float, what: str) -> None:
    off = float((found - expected).abs().max() / expected.abs().max().clamp_min(1e-12))
    if not off <= tolerance:
        raise MolereError(
            f"the exported network gives other logits in {what} than the checkpoint, by {off:.1e} of the "
            "largest; nothing was written"
        )


def _require(packages: Sequence[str], *, format: Format) -> None:
    if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
        raise ConfigError(
            f"--format {format} needs {', '.join(missing)}; install it with `pip install 'molere[export]'`"
        )


def _sizing(taken: PretrainedInput) -> dict[str, Any]:
    """How a picture gets to the input's size, in timm's words."""
    return {
        "interpolation": taken.interpolation,
        "crop_pct": taken.crop_share,
        "crop_mode": taken.crop_mode,
    }


def _write_config(made: Exported, folder: Path) -> None:
    """What a reader needs beside the network, where timm's own config does not say it."""
    taken, kind = made.input, type(made.network)
    config = {
        "backbone": made.backbone,
        "constructor": f"{kind.__module__}.{kind.__qualname__}",
        "num_classes": len(made.class_names),
        "label_names": list(made.class_names),
        "input": {
            "size": [3, *taken.image_size],
            **_sizing(taken),
            "mean": list(taken.mean),
            "std": list(taken.std),
        },
    }
    (folder / "config.json").write_text(json_text(config, indent=2) + "\n", encoding="utf-8")


def _loading(made: Exported, format: Format) -> str:
    """Code that loads what was written."""
    if format == "onnx":
        return 'import onnxruntime\n\nclassifier = onnxruntime.InferenceSession("model.onnx")'
    if format == "torch-export":
        return 'import torch\n\nclassifier = torch.export.load("model.pt2").module()'
    if made.is_of_timm:
        return 'import timm\n\nclassifier = timm.create_model("local-dir:FOLDER", pretrained=True).eval()'
    kind = type(made.network)
    return (
        f"from safetensors.torch import load_file\nfrom {kind.__module__} import {kind.__qualname__}\n\n"
        f"classifier = {kind.__qualname__}(...)  # as backbone {json.dumps(made.backbone)} builds it\n"
        'classifier.load_state_dict(load_file("model.safetensors"))'
    )
