"""Batches by position: augmented for training, plain for evaluation.

`InMemoryFeed` holds all images as one uint8 tensor on the device. `StreamedFeed` decodes in worker
processes, with torchvision's transforms, and keeps no more than a few batches in memory. `FeatureFeed` has
the features of a frozen backbone in place of images.
"""

from __future__ import annotations

import copy
import functools
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from threading import Thread
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from molere_cli.data.as_timm import seeded, timm_transform
from molere_cli.data.augmentation import Augment, CropMode, ImageStore, crop_padding, sent
from molere_cli.foundation.errors import ConfigError, DataError
from molere_cli.foundation.randomness import derived_generator, derived_seed
from molere_cli.foundation.ranks import ALONE, Ranks
from molere_cli.foundation.stopping import SIGNALS
from molere_cli.registry.specs import Examples, ImageReader, PretrainedInput

# Two megabytes of float32 in three channels.
CACHED_PIXELS = 2**21 // 12


class Batch(NamedTuple):
    """positions: int64 (B,) in the set; images: float32 (B, 3, H, W), normalised, channels last, or, where a
    frozen backbone's features are kept, those, float32 (B, D); labels: int64 (B,). All on the device.

    whole_positions: of a batch that several ranks share, those of all of them, None for one that is whole."""

    positions: Tensor
    images: Tensor
    labels: Tensor
    whole_positions: Tensor | None = None

    @property
    def num_whole(self) -> int:
        """Examples on all ranks together."""
        return len(self.positions if self.whole_positions is None else self.whole_positions)


@dataclass(frozen=True, kw_only=True)
class FeedSettings:
    """How images become batches; `image_size` is (height, width) after resizing by `crop_mode`
    (`DataSettings.crop_mode`). rand_augment, random_erasing: what is done to training images beside
    `augment`, as in `DataSettings`. pretrained: in place of `crop_mode`, as the weights that a classifier
    starts from expect images; its size, mean and std are those here. ranks: who shares training batches.
    features: what gives float32 (N, D) for examples, where batches have features in place of images."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    augment: Augment
    image_size: tuple[int, int]
    device: torch.device
    workers: int
    crop_mode: CropMode = "squash"
    pretrained: PretrainedInput | None = None
    rand_augment: int | None = None
    random_erasing: float = 0.0
    ranks: Ranks = ALONE
    features: Callable[[Examples], Tensor] | None = None

    def plain(self) -> FeedSettings:
        """Those of images that nothing is done to at random."""
        return replace(self, augment="none", rand_augment=None, random_erasing=0.0)

    @property
    def is_random(self) -> bool:
        """Whether training images are changed at random."""
        return self != self.plain()

    @property
    def evaluation_batch_size(self) -> int:
        """Examples a forward pass without gradients takes best.

        On a CPU that is what keeps activations in cache and in memory that the allocator reuses: 64 images
        of 32 x 32 pixels ran twice as fast as 512 (docs/dev/performance.md).
        """
        if self.device.type != "cpu":
            return 512
        if self.features is not None:
            return 1024
        height, width = self.image_size
        return min(1024, max(16, 2**16 // (height * width)))


class Feed(Protocol):
    """A set of examples that gives batches. Positions run from 0 to len(feed) - 1."""

    settings: FeedSettings
    labels: Tensor

    def __len__(self) -> int: ...

    def training(self, batches: Sequence[Tensor], *, seed: int, start: int = 0) -> Iterator[Batch]:
        """One augmented batch for each tensor of positions, in order, from number `start` on; a batch is the
        same for the same seed, wherever one starts."""

    def evaluation(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """One batch for each tensor of positions, in order, unaugmented."""


def make_feed(examples: Examples, settings: FeedSettings) -> Feed:
    """The feed that fits where the images are."""
    if settings.features is not None:
        return FeatureFeed(settings.features(examples), examples.labels, settings)
    if not isinstance(examples.images, Tensor):
        return StreamedFeed(examples.images, examples.labels, settings)
    by_image = settings.rand_augment is not None or settings.random_erasing
    if settings.pretrained is not None or by_image:
        # One at a time: that is how the transforms of others work, and in the size of pretrained networks all
        # images might not fit into memory.
        return StreamedFeed(_HeldImages(examples.images), examples.labels, settings)
    return InMemoryFeed(examples.images, examples.labels, settings)


def shared_feed(feed: Feed, ranks: Ranks) -> Feed:
    """The same examples, whose training batches these ranks share."""
    shared = copy.copy(feed)
    shared.settings = replace(feed.settings, ranks=ranks)
    return shared


class _HeldImages:
    """Images in memory as a reader of them."""

    def __init__(self, images: Tensor) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def read(self, position: int) -> Tensor:
        return self._images[position]

    def identities(self) -> Iterator[bytes]:
        raise NotImplementedError("images in memory are told apart by their pixels")


def native_image_size(examples: Examples) -> tuple[int, int]:
    """(height, width) of the images as the dataset has them, read off the first one."""
    first = examples.images[0] if isinstance(examples.images, Tensor) else examples.images.read(0)
    return first.shape[-2], first.shape[-1]


def epoch_batches(positions: Tensor, batch_size: int, *, seed: int, num_ranks: int = 1) -> list[Tensor]:
    """One epoch's batches of positions, shuffled; a last batch of a single example joins the one before,
    since batch normalisation cannot take it, and so does one of fewer examples than ranks share it."""
    generator = derived_generator(seed, "order")
    batches = list(positions[torch.randperm(len(positions), generator=generator)].split(batch_size))
    if len(batches) > 1 and len(batches[-1]) < max(2, num_ranks):
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def batches_in_order(feed: Feed, part: slice = slice(None)) -> list[Tensor]:
    """All positions of a feed, or of a part of it, in order, in batches for passes without gradients."""
    return list(torch.arange(len(feed))[part].split(feed.settings.evaluation_batch_size))


def normalize(images: Tensor, settings: FeedSettings) -> Tensor:
    """uint8 (B, 3, H, W) to float32, normalised, channels last."""
    num_images, channels, height, width = images.shape
    # A row of pixels at a time: by channel, three numbers wide, the arithmetic would not be vectorised.
    rows = images.permute(0, 2, 3, 1).reshape(num_images, height, width * channels)
    pixels = torch.empty(rows.shape, device=images.device)
    means, factors = _by_row(settings.mean, settings.std, width, images.device)
    # On a CPU a few images at a time, so that they stay in cache from one operation to the next.
    chunk = max(1, CACHED_PIXELS // (height * width)) if images.device.type == "cpu" else num_images
    for part, out in zip(rows.split(chunk), pixels.split(chunk), strict=True):
        out.copy_(part).sub_(means).mul_(factors)
    return pixels.view(num_images, height, width, channels).permute(0, 3, 1, 2)


@functools.lru_cache(maxsize=16)
def _by_row(
    mean: tuple[float, float, float], std: tuple[float, float, float], width: int, device: torch.device
) -> tuple[Tensor, Tensor]:
    """What is taken off a row of `width` pixels, and what that is multiplied by, (3 width,) each."""
    # Kept: made anew for each batch, their way to a GPU would make the host wait for it every time.
    mean_3, std_3 = torch.tensor(mean, device=device) * 255, torch.tensor(std, device=device) * 255
    return mean_3.repeat(width), (1 / std_3).repeat(width)


class InMemoryFeed:
    """All images on the device as one uint8 tensor (N, 3, H, W)."""

    def __init__(self, images: Tensor, labels: Tensor, settings: FeedSettings) -> None:
        if tuple(images.shape[-2:]) != settings.image_size:
            images = _resized(images, settings)
        self.settings = settings
        self.store = ImageStore(images.to(settings.device), settings.augment)
        self.labels = labels.to(settings.device)

    def __len__(self) -> int:
        return len(self.labels)

    def training(self, batches: Sequence[Tensor], *, seed: int, start: int = 0) -> Iterator[Batch]:
        generator = derived_generator(seed, "augment")
        if self.store.augment != "none":
            for positions_B in batches[:start]:
                self.store.draw(len(positions_B), generator=generator)
        for positions_B in batches[start:]:
            on_device_B = sent(positions_B, self.settings.device)
            part = self.settings.ranks.part(len(positions_B))
            crops = self.store.augmented(on_device_B, generator=generator, part=part)
            whole_B = on_device_B if self.settings.ranks.are_several else None
            own_b = on_device_B[part]
            yield Batch(own_b, normalize(crops, self.settings), self.labels[own_b], whole_B)

    def evaluation(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        for positions_B in batches:
            on_device_B = sent(positions_B, self.settings.device)
            images = normalize(self.store.plain(on_device_B), self.settings)
            yield Batch(on_device_B, images, self.labels[on_device_B])


class FeatureFeed:
    """The features of all images on the device, float32 (N, D), which nothing is done to at random."""

    def __init__(self, features: Tensor, labels: Tensor, settings: FeedSettings) -> None:
        self.settings = settings
        self.features = features.to(settings.device)
        self.labels = labels.to(settings.device)

    def __len__(self) -> int:
        return len(self.labels)

    def training(self, batches: Sequence[Tensor], *, seed: int, start: int = 0) -> Iterator[Batch]:
        ranks = self.settings.ranks
        for positions_B in batches[start:]:
            on_device_B = sent(positions_B, self.settings.device)
            batch = self._at(on_device_B[ranks.part(len(positions_B))])
            yield batch._replace(whole_positions=on_device_B if ranks.are_several else None)

    def evaluation(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        for positions_B in batches:
            yield self._at(sent(positions_B, self.settings.device))

    def _at(self, positions: Tensor) -> Batch:
        return Batch(positions, self.features[positions], self.labels[positions])


class StreamedFeed:
    """Images decoded by worker processes, one batch after another."""

    def __init__(self, reader: ImageReader, labels: Tensor, settings: FeedSettings) -> None:
        self.settings = settings
        self.reader = reader
        self.labels = labels.to(settings.device)

    def __len__(self) -> int:
        return len(self.labels)

    def training(self, batches: Sequence[Tensor], *, seed: int, start: int = 0) -> Iterator[Batch]:
        ranks = self.settings.ranks
        own = [positions_B[ranks.part(len(positions_B))] for positions_B in batches[start:]]
        loaded = self._load(own, self.settings, seed=seed)
        if not ranks.are_several:
            return loaded
        return (
            batch._replace(whole_positions=sent(positions_B, self.settings.device))
            for batch, positions_B in zip(loaded, batches[start:], strict=True)
        )

    def evaluation(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        return self._load(batches, self.settings.plain(), seed=0)

    def _load(self, batches: Iterable[Tensor], settings: FeedSettings, *, seed: int) -> Iterator[Batch]:
        loader: DataLoader[Any] = DataLoader(
            _DecodedImages(self.reader, settings, seed),
            batch_sampler=[batch.tolist() for batch in batches],
            num_workers=self.settings.workers,
            worker_init_fn=_heed_main_process,
            collate_fn=_collate,
            pin_memory=self.settings.device.type == "cuda",
            # Its own generator, or the loader would draw a base seed from the global one.
            generator=derived_generator(seed, "loader"),
        )
        for loaded in loader:
            if isinstance(loaded, DataError):
                raise loaded
            positions_B, images = loaded
            positions_B = positions_B.to(self.settings.device, non_blocking=True)
            images = images.to(self.settings.device, non_blocking=True)
            with _one_thread() if self.settings.workers else nullcontext():
                images = normalize(images, self.settings)
            yield Batch(positions_B, images, self.labels[positions_B])


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch's operations run on one thread: where worker processes want the cores too, the threads of one
    operation wait for each other for longer than they work (docs/dev/performance.md)."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(num_threads)


class _DecodedImages(Dataset[tuple[int, Tensor] | DataError]):
    """What a worker runs: read, resize or crop, flip, and so on. A batch's chance depends on the seed and its
    positions alone, never on the number of workers.

    An image that cannot be read is returned as its error: raised in a worker, it would reach the user
    wrapped in that worker's traceback.
    """

    def __init__(self, reader: ImageReader, settings: FeedSettings, seed: int) -> None:
        self.reader = reader
        self.transform = _transform(settings)
        self.is_random = settings.is_random
        self.seed = seed

    def __getitems__(self, positions: list[int]) -> list[tuple[int, Tensor] | DataError]:
        if not self.is_random:
            return [self._decoded(position) for position in positions]
        # Seeding once a batch: for each image it took a quarter of the time that decoding takes.
        with seeded(derived_seed(self.seed, *positions)):
            return [self._decoded(position) for position in positions]

    def _decoded(self, position: int) -> tuple[int, Tensor] | DataError:
        try:
            return position, self.transform(self.reader.read(position))
        except DataError as error:
            return error


def _transform(settings: FeedSettings) -> Any:
    """From uint8 (3, H, W) to uint8 of the wanted size. What an operation leaves free gets the mean colour,
    which is 0 once it is normalised."""
    from torchvision.transforms import v2

    mean_colour = [round(255 * value) for value in settings.mean]
    steps: list[Any] = [_cropping(settings)]
    if settings.rand_augment is not None:
        steps.append(v2.RandAugment(magnitude=settings.rand_augment, fill=mean_colour))
    if settings.random_erasing:
        steps.append(v2.RandomErasing(settings.random_erasing, value=mean_colour))
    return v2.Compose(steps)


def _cropping(settings: FeedSettings) -> Any:
    """To the wanted size, by a random crop and flip where these are asked for."""
    from torchvision.transforms import v2

    if settings.pretrained is not None:
        return timm_transform(settings.pretrained, settings.augment)
    image_size, crop_mode, augment = settings.image_size, settings.crop_mode, settings.augment
    if augment == "none":
        return v2.Compose(_to_size(image_size, crop_mode))
    if min(image_size) > 64:
        crop: list[Any] = [
            v2.RandomResizedCrop(image_size, antialias=True)
            if crop_mode == "center"
            else functools.partial(_stretched_crop, image_size=image_size)
        ]
    else:
        padding = crop_padding(image_size[0])
        crop = [*_to_size(image_size, crop_mode), v2.RandomCrop(image_size, padding)]
    return v2.Compose(crop + ([v2.RandomHorizontalFlip()] if augment == "crop-flip" else []))


def _to_size(image_size: tuple[int, int], crop_mode: CropMode) -> list[Any]:
    """What brings an image to a size in training and in testing alike."""
    from torchvision.transforms import v2

    if crop_mode == "squash":
        return [v2.Resize(image_size, antialias=True)]
    return [v2.Resize(min(image_size), antialias=True), v2.CenterCrop(image_size)]


def _stretched_crop(image: Tensor, image_size: tuple[int, int]) -> Tensor:
    """torchvision's random crop of 8% to 100% of an image, brought to size, its sides stretched as squashing
    stretches the whole image's, and by up to 4:3 more or less."""
    from torchvision.transforms import v2

    height, width = image.shape[-2:]
    stretched = (width / height) / (image_size[1] / image_size[0])
    ratio = (3 / 4 * stretched, 4 / 3 * stretched)
    cropped: Tensor = v2.RandomResizedCrop(image_size, ratio=ratio, antialias=True)(image)
    return cropped


def _heed_main_process(_worker: int) -> None:
    """A signal to the whole process group, such as a terminal's Ctrl-C, is the main process's to act on; its
    last step may still need this worker, and ends it by a SIGTERM of its own."""
    for number in SIGNALS:
        if number != signal.SIGTERM:
            signal.signal(number, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # else it ends by anybody's
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_end_by, args=(os.getppid(),), daemon=True).start()


def _end_by(main_process: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != main_process:
        pass
    os._exit(0)


def _collate(examples: list[tuple[int, Tensor] | DataError]) -> tuple[Tensor, Tensor] | DataError:
    decoded = []
    for example in examples:
        if isinstance(example, DataError):
            return example
        decoded.append(example)
    positions, images = zip(*decoded, strict=True)
    # In a worker it stacks into shared memory at once.
    return torch.tensor(positions), default_collate(list(images))


def _resized(images: Tensor, settings: FeedSettings, chunk: int = 2048) -> Tensor:
    resize = _transform(settings.plain())
    return torch.cat([resize(part) for part in images.split(chunk)])


def resolve_image_size(examples: Examples, requested: int | None) -> tuple[int, int]:
    """(height, width) that batches have: what was asked for, else the native size of the images.

    Raises:
        ConfigError: images are streamed, so they may differ in size, and no size was asked for.
    """
    if requested is not None:
        return requested, requested
    if not isinstance(examples.images, Tensor):
        raise ConfigError(
            "these images are read from files and may differ in size; give --image-size, say 224"
        )
    return native_image_size(examples)
