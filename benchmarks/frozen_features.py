"""Features of a frozen backbone: what MOLERE takes for them, beside a plain timm loop over them."""

from __future__ import annotations

import io
from functools import partial

import harness
import pyarrow.parquet as pq
import torch
from PIL import Image
from timm import create_model
from timm.data import create_transform
from torch import Tensor, nn
from torch.utils.data import DataLoader

from molere_cli.config.plan import make_plan
from molere_cli.config.run_config import RunConfig
from molere_cli.data.source import load_dataset
from molere_cli.registry.registry import load_plugins
from molere_cli.registry.specs import Examples
from molere_cli.training.build_engine import make_classifier
from molere_cli.training.frozen_features import FrozenFeatures, how_made
from molere_cli.training.input_preprocessing import feed_settings

BACKBONE = "tf_efficientnet_lite0"
WEIGHTS = harness.DATA / "weights" / f"{BACKBONE}.safetensors"
CLOTHING = harness.DATA / "clothing"
IMAGENET_STYLE = {
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
}


class Pictures:
    """Pictures of a Parquet file as timm's transform makes them."""

    def __init__(self, number: int, size: int) -> None:
        table = pq.read_table(CLOTHING / "train.parquet", columns=["image"])
        self._stored = [row["bytes"] for row in table["image"][:number].to_pylist()]
        self._transform = create_transform((3, size, size), is_training=False, **IMAGENET_STYLE)

    def __len__(self) -> int:
        return len(self._stored)

    def __getitem__(self, position: int) -> Tensor:
        return self._transform(Image.open(io.BytesIO(self._stored[position])).convert("RGB"))


@torch.inference_mode()
def by_timm(model: nn.Module, pictures: Pictures) -> Tensor:
    """The features by nothing but timm and a data loader."""
    parts = [
        model.forward_head(model.forward_features(images), pre_logits=True)
        for images in DataLoader(pictures, batch_size=64)
    ]
    return torch.cat(parts)


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=3)
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 224])
    options = harness.parse(parser, quick={"images": 16, "sizes": [32], "repetitions": 1})
    torch.set_num_threads(1)
    harness.print_header(
        "Features of a frozen backbone",
        f"{options.images} photographs through {BACKBONE}, decoding included, one thread; medians of "
        f"{options.repetitions} interleaved rounds",
    )
    model = create_model(BACKBONE, checkpoint_path=WEIGHTS).eval()
    rows = []
    for size in options.sizes:
        config = RunConfig.of(
            dataset=f"parquet:{CLOTHING}",
            backbone=f"timm:{BACKBONE}",
            init_from=WEIGHTS,
            freeze_backbone=True,
            image_size=size,
            device="cpu",
            precision="fp32",
            workers=0,
        )
        plan = make_plan(config, load_plugins())
        data = load_dataset(plan.config.data, plan.registry)
        settings = feed_settings(plan, data)
        classifier = make_classifier(plan, data, settings.image_size)
        assert classifier.take_features(settings.image_size)
        features = FrozenFeatures(classifier, settings, how_made(plan, classifier, settings))
        pool = data.dataset.pool
        some = Examples(images=pool.images, labels=pool.labels)
        feed, positions = features.feed(some), torch.arange(options.images)
        pictures = Pictures(options.images, size)
        runs = {
            "timm": partial(by_timm, model, pictures),
            "MOLERE": partial(features.computed, feed, positions),
        }
        timings = harness.time_runs(runs, repetitions=options.repetitions)
        rows += [
            [
                f"{size} px, {name}",
                *own.cells(".2f"),
                f"{options.images / own.median:,.0f}",
                own.over(timings["timm"]),
            ]
            for name, own in timings.items()
        ]
    harness.print_table(["", "s", "+-", "images/s", "/ timm"], rows)


if __name__ == "__main__":
    main()
