"""Images per second: MOLERE's feeds against torchvision's transforms and timm's loader in a DataLoader."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import harness
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2

from molere_cli import DatasetRequest
from molere_cli.data.feed import Feed, FeedSettings, InMemoryFeed, epoch_batches, make_feed
from molere_cli.registry.registry import load_plugins

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
NUM_CLASSES, JPEG_SIZE = 10, 224


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=5, memory=True)
    parser.add_argument("--examples", type=int, default=10_240, help="CIFAR-shaped images")
    parser.add_argument("--jpegs", type=int, default=2_000, help=f"JPEGs of {JPEG_SIZE} pixels")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = harness.parse(parser, quick={"examples": 2048, "jpegs": 256, "repetitions": 2})
    if options.memory_row:
        epoch = folder_epochs(options.folder, options)[options.memory_row]
        harness.report_peak_with_workers(epoch)
        return
    harness.print_header(
        "Input pipeline",
        f"One epoch of batches of {options.batch_size}, float32 and normalised, nothing trained on them; "
        f"medians of {options.repetitions} interleaved rounds after an untimed one; {options.workers} "
        "worker processes where there are any",
        "Peers keep their workers between epochs; MOLERE's streamed feed starts them anew, which counts",
        "Memory: one epoch in a process of its own and its workers together, Python and torch included",
    )
    cifar = cifar_epochs(options)
    _report("CIFAR shapes: crop with padding 4, flip", cifar, options.examples, options, memory={})
    with tempfile.TemporaryDirectory() as folder:
        write_jpegs(Path(folder), options.jpegs)
        title = f"A folder of {options.jpegs} JPEGs of {JPEG_SIZE} px: random resized crop, flip"
        epochs = folder_epochs(Path(folder), options)
        rows = [] if options.no_memory else list(epochs)
        measured = {row: harness.peak_memory(row, options, "--folder", folder) for row in rows}
        _report(title, epochs, options.jpegs, options, memory=measured)


def _report(
    title: str,
    epochs: dict[str, harness.Run],
    num_images: int,
    options: argparse.Namespace,
    *,
    memory: dict[str, float],
) -> None:
    """A table of images per second; ratios to the first peer, which is the second row."""
    found = harness.time_runs(epochs, repetitions=options.repetitions)
    peer = found[list(epochs)[1]]
    rows = [
        [
            label,
            f"{num_images / own.median:,.0f}",
            own.spread,
            peer.over(own),
            *([harness.mebibytes(memory[label])] if memory else []),
        ]
        for label, own in found.items()
    ]
    print(f"### {title}\n")
    columns = ["pipeline", "images/s", "+-", "/ second row"]
    harness.print_table([*columns, "peak memory"] if memory else columns, rows)


def _exhaust(batches: Iterable[object], num_images: int) -> None:
    """Run an epoch, and see to it that every image came."""
    seen = 0
    for batch in batches:
        assert isinstance(batch, tuple | list)
        images = next(part for part in batch if isinstance(part, Tensor) and part.dim() == 4)
        assert images.dtype == torch.float32
        seen += len(images)
    assert seen == num_images, (seen, num_images)


def _feed_epoch(feed: Feed, batch_size: int) -> harness.Run:
    def run() -> None:
        batches = epoch_batches(torch.arange(len(feed)), batch_size, seed=0)
        _exhaust(feed.training(batches, seed=0), len(feed))

    return run


# --- CIFAR shapes


class PerImage(Dataset[Any]):
    """As torchvision's CIFAR10: from an array to a PIL image to the transforms; or from a tensor."""

    def __init__(self, images: Tensor, labels: Tensor, transform: Any, *, as_pil: bool) -> None:
        self.images: Any = images.permute(0, 2, 3, 1).numpy() if as_pil else images
        self.labels = labels.tolist()
        self.transform = transform
        self.as_pil = as_pil

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[position]) if self.as_pil else self.images[position]
        return self.transform(image), self.labels[position]


def cifar_epochs(options: argparse.Namespace) -> dict[str, harness.Run]:
    """MOLERE's batched augmentation, and torchvision's transforms image by image."""
    generator = torch.Generator().manual_seed(0)
    shape = (options.examples, 3, 32, 32)
    images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    labels = torch.arange(options.examples) % NUM_CLASSES
    settings = FeedSettings(
        mean=MEAN,
        std=STD,
        augment="crop-flip",
        image_size=(32, 32),
        device=torch.device("cpu"),
        workers=options.workers,
    )
    epochs = {
        "MOLERE, batched, in memory": _feed_epoch(InMemoryFeed(images, labels, settings), options.batch_size)
    }
    for label, as_pil in (("from PIL images", True), ("from tensors", False)):
        data = PerImage(images, labels, _torchvision_transform(), as_pil=as_pil)
        loader = DataLoader(
            data,
            batch_size=options.batch_size,
            shuffle=True,
            num_workers=options.workers,
            persistent_workers=options.workers > 0,
        )
        epochs[f"torchvision v2 in a DataLoader, {label}"] = _loader_epoch(loader, options.examples)
    return epochs


def _torchvision_transform() -> Any:
    return v2.Compose(
        [
            v2.RandomCrop(32, padding=4),
            v2.RandomHorizontalFlip(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(MEAN, STD),
        ]
    )


def _loader_epoch(loader: Iterable[object], num_images: int) -> harness.Run:
    return lambda: _exhaust(loader, num_images)


# --- a folder of JPEGs


def write_jpegs(root: Path, num_images: int) -> None:
    """`root/train/CLASS/*.jpg` and one test image a class: smooth colours with some grain."""
    harness.progress(f"writing {num_images} JPEGs")
    rng = np.random.default_rng(0)
    for number in range(num_images):
        _write_jpeg(rng, root / "train" / f"class{number % NUM_CLASSES}" / f"{number}.jpg")
    for number in range(NUM_CLASSES):
        _write_jpeg(rng, root / "test" / f"class{number}" / f"{number}.jpg")


def _write_jpeg(rng: np.random.Generator, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = Image.fromarray(rng.integers(0, 256, (14, 14, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize((JPEG_SIZE, JPEG_SIZE), Image.Resampling.BICUBIC), dtype=np.float32)
    pixels = (smooth + rng.normal(0, 8, smooth.shape)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=90)


def folder_epochs(root: Path, options: argparse.Namespace) -> dict[str, harness.Run]:
    """MOLERE's streamed feed and timm's loader, with and without its prefetcher, on the same files."""
    spec = load_plugins().datasets.get("folder")
    dataset = spec.load(
        DatasetRequest(argument=str(root), options=spec.options(), data_seed=0, data_dir=root, download=False)
    )
    settings = FeedSettings(
        mean=dataset.mean,
        std=dataset.std,
        augment="crop-flip",
        image_size=(JPEG_SIZE, JPEG_SIZE),
        device=torch.device("cpu"),
        workers=options.workers,
    )
    feed = make_feed(dataset.pool, settings)
    epochs = {"MOLERE, streamed": _feed_epoch(feed, options.batch_size)}
    for label, prefetch in (("", False), (", its prefetcher", True)):
        loader = _timm_loader(root / "train", options, use_prefetcher=prefetch)
        epochs[f"timm create_loader{label}"] = _loader_epoch(loader, options.jpegs)
    return epochs


def _timm_loader(root: Path, options: argparse.Namespace, *, use_prefetcher: bool) -> Iterable[object]:
    """timm's training loader, reduced to random resized crop and flip as ours is."""
    from timm.data import create_dataset, create_loader
    from timm.data.loader import PrefetchLoader

    loader: Any = create_loader(
        create_dataset("folder", root=str(root)),
        input_size=(3, JPEG_SIZE, JPEG_SIZE),
        batch_size=options.batch_size,
        is_training=True,
        hflip=0.5,
        color_jitter=0.0,
        interpolation="bilinear",
        mean=MEAN,
        std=STD,
        num_workers=options.workers,
        use_prefetcher=use_prefetcher,
        device=torch.device("cpu"),
        pin_memory=False,
        persistent_workers=options.workers > 0,
    )
    # Its training loader leaves out the last, smaller batch; ours does not.
    inner = loader.loader if isinstance(loader, PrefetchLoader) else loader
    inner.batch_sampler.drop_last = False
    batches: Iterable[object] = loader
    return batches


if __name__ == "__main__":
    main()
