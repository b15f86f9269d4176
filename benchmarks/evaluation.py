"""Passes without gradients: images per second by batch size, and the size that MOLERE takes."""

from __future__ import annotations

from functools import partial

import harness
import torch
from one_step import CPU, NETWORKS, build_network, random_batch

from molere_cli.data.feed import FeedSettings
from molere_cli.engine.classifier import Classifier

SIZES = (16, 32, 64, 128, 256, 512, 1024)


def predict_all(classifier: Classifier, images: torch.Tensor, batch_size: int) -> None:
    """Logits of all images, batch by batch."""
    for part in images.split(batch_size):
        classifier.predict(part)


def main() -> None:
    parser = harness.option_parser(__doc__, repetitions=7)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=["wrn16_2", "resnet18"])
    parser.add_argument("--images", type=int, default=2048)
    options = harness.parse(parser, quick={"images": 64, "repetitions": 2})
    sizes = [batch for batch in SIZES if batch <= options.images]
    harness.print_header(
        "Passes without gradients",
        f"{options.images} images in eval mode, fp32, channels last; medians of {options.repetitions} "
        "interleaved rounds",
    )
    for network in options.networks:
        size = NETWORKS[network][1]
        classifier = Classifier(build_network(network), device=CPU, precision=torch.float32)
        images = random_batch(size, options.images, seed=0)[0].contiguous(memory_format=torch.channels_last)
        runs = {str(batch): partial(predict_all, classifier, images, batch) for batch in sizes}
        timings = harness.time_runs(runs, repetitions=options.repetitions)
        best = min(timings.values(), key=lambda own: own.median)
        chosen = FeedSettings(
            mean=(0, 0, 0), std=(1, 1, 1), augment="none", image_size=(size, size), device=CPU, workers=0
        ).evaluation_batch_size
        print(f"### {network}, {size} px; MOLERE takes batches of {chosen}\n")
        harness.print_table(
            ["batch", "s", "+-", "images/s", "/ fastest"],
            [
                [name, *own.cells(".3f"), f"{options.images / own.median:,.0f}", own.over(best)]
                for name, own in timings.items()
            ],
        )


if __name__ == "__main__":
    main()
