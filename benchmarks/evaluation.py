"""Passes without gradients: images per second by batch size, and the size that MOLERE takes."""

from __future__ import annotations

from functools import partial

import torch
from harness import (
    interleave,
    median,
    option_parser,
    print_header,
    print_table,
    set_threads,
    spread,
    timed,
    times,
)
from one_step import CPU, NETWORKS, build_network, random_batch

from molere_cli.data.feed import FeedSettings
from molere_cli.engine.classifier import Classifier

SIZES = (16, 32, 64, 128, 256, 512, 1024)


def predict_all(classifier: Classifier, images: torch.Tensor, batch_size: int) -> None:
    """Logits of all images, batch by batch."""
    for part in images.split(batch_size):
        classifier.predict(part)


def main() -> None:
    parser = option_parser(__doc__, repetitions=7)
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=["wrn16_2", "resnet18"])
    parser.add_argument("--images", type=int, default=2048)
    options = parser.parse_args()
    set_threads(options.threads)
    if options.quick:
        options.images, options.repetitions = 64, 2
    sizes = [batch for batch in SIZES if batch <= options.images]
    print_header(
        "Passes without gradients",
        f"{options.images} images in eval mode, fp32, channels last; medians of {options.repetitions} "
        "interleaved rounds",
    )
    for network in options.networks:
        size = NETWORKS[network][1]
        classifier = Classifier(build_network(network), device=CPU, precision=torch.float32)
        images = random_batch(size, options.images, seed=0)[0].contiguous(memory_format=torch.channels_last)
        actions = {str(batch): timed(partial(predict_all, classifier, images, batch)) for batch in sizes}
        seconds = interleave(actions, repetitions=options.repetitions)
        best = min(median(own) for own in seconds.values())
        chosen = FeedSettings(
            mean=(0, 0, 0), std=(1, 1, 1), augment="none", image_size=(size, size), device=CPU, workers=0
        ).evaluation_batch_size
        print(f"### {network}, {size} px; MOLERE takes batches of {chosen}\n")
        print_table(
            ["batch", "s", "+-", "images/s", "/ fastest"],
            [
                [
                    name,
                    f"{median(own):.3f}",
                    spread(own),
                    f"{options.images / median(own):,.0f}",
                    times(median(own) / best),
                ]
                for name, own in seconds.items()
            ],
        )


if __name__ == "__main__":
    main()
