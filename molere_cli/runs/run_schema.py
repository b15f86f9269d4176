"""What each JSON file of a run must say at least."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

Integer = Annotated[int, Field(ge=-(2**63), lt=2**64)]
"""Of 64 bits, signed or not: what other readers of JSON have too."""

Pixels = Annotated[int, Field(ge=1, le=1 << 14)]

Positive = Annotated[float, Field(gt=0)]


class Settings(BaseModel):
    """What `config.json` says at least."""

    model_config = ConfigDict(strict=True)

    dataset: str
    backbone: str
    method: str
    seed: Integer
    data_seed: Integer = 0


class MadeFrom(BaseModel):
    """What `environment.json` says of a split at least."""

    model_config = ConfigDict(strict=True)

    strategy: str
    score: str | None
    delta: float


class Gpu(BaseModel):
    """What `environment.json` says of a GPU at least."""

    model_config = ConfigDict(strict=True)

    name: str


class Input(BaseModel):
    """What `environment.json` says of how an image becomes the network's input.

    image_size: (height, width) in pixels; crop_mode: how it gets to that (`DataSettings.crop_mode`);
    mean, std: of pixels in [0, 1], per channel. interpolation, crop_share: as of a `PretrainedInput`, where
    images are as pretrained weights expect them.
    """

    model_config = ConfigDict(strict=True)

    image_size: Annotated[list[Pixels], Field(min_length=2, max_length=2)]
    crop_mode: Literal["squash", "center", "border"]
    interpolation: str | None = None
    crop_share: Annotated[float, Field(gt=0, le=1)] | None = None
    mean: Annotated[list[float], Field(min_length=3, max_length=3)]
    std: Annotated[list[Positive], Field(min_length=3, max_length=3)]


class Environment(BaseModel):
    """What `environment.json` says at least; versions of before did not record what has a default."""

    model_config = ConfigDict(strict=True)

    label: str
    precision: str
    device: str
    fingerprint: str
    started: str
    split: MadeFrom | None
    gpu: Gpu | None = None
    cpu: str = ""
    num_pool: Integer | None = None
    class_names: list[str] = []
    input: Input | None = None
    test_fingerprints: dict[str, str] = {}
    digests: dict[str, str] = {}
    extended_from: list[Integer] = []


class RateSearch(BaseModel):
    """How a learning rate was chosen: of each that could be trained, what `by` was on the tuning set, for
    every seed."""

    lr: dict[str, list[float]]
    by: str
    chosen: float


class Finished(BaseModel):
    """What `DONE` says: when the run was finished (ISO 8601), and a digest of each of its files."""

    model_config = ConfigDict(strict=True, extra="forbid")

    finished: str
    digests: dict[str, str]


METRICS = TypeAdapter(dict[str, bool | Integer | float | None], config=ConfigDict(strict=True))
