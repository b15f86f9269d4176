"""What the page about datasets says of those here."""

from __future__ import annotations

from molere_cli import DatasetCard

FETCHED = "`--download`"
UNSTATED = "none stated"

CARDS = {
    "cifar10": DatasetCard(
        task="10 classes of objects and animals",
        sizes="50,000 train, 10,000 test; 32 px",
        source=FETCHED,
        licence=UNSTATED,
        paper="table 3 (label noise)",
    ),
    "cifar100": DatasetCard(
        task="100 classes of objects and animals",
        sizes="50,000 train, 10,000 test; 32 px",
        source=FETCHED,
        licence=UNSTATED,
        paper="figures 1, 3; table 2 (class skew)",
    ),
    "svhn": DatasetCard(
        task="10 digits on house numbers",
        sizes="73,257 train, 26,032 test; 32 px",
        source=FETCHED,
        licence="non-commercial use",
    ),
    "stl10": DatasetCard(
        task="10 classes of objects and animals",
        sizes="5,000 train, 8,000 test; 96 px",
        source=FETCHED,
        licence=UNSTATED,
    ),
    "mnist": DatasetCard(
        task="10 handwritten digits",
        sizes="60,000 train, 10,000 test; 28 px",
        source=FETCHED,
        licence="CC BY-SA 3.0",
    ),
    "fashion-mnist": DatasetCard(
        task="10 kinds of clothing",
        sizes="60,000 train, 10,000 test; 28 px",
        source=FETCHED,
        licence="MIT",
    ),
    "pets": DatasetCard(
        task="37 breeds of cat and dog",
        sizes="3,680 train and validation, 3,669 test; photographs",
        source=FETCHED,
        licence="CC BY-SA 4.0",
    ),
    "pets-cats-vs-dogs": DatasetCard(
        task="cat or dog",
        sizes="3,680 train and validation, 3,669 test; photographs",
        source=FETCHED,
        licence="CC BY-SA 4.0",
        groups="the 37 breeds",
        paper="figure 1 (the paper's Cats v Dogs is another, larger set)",
    ),
    "stanford-cars": DatasetCard(
        task="196 models of car",
        sizes="8,144 train, 8,041 test; photographs",
        source="its files into DATA_DIR/stanford_cars; the original site is gone",
        licence=UNSTATED,
        paper="figure 1",
    ),
    "aircraft": DatasetCard(
        task="100 variants of aircraft",
        sizes="6,667 train and validation, 3,333 test; photographs",
        source=FETCHED,
        licence="non-commercial research",
        paper="figure 1",
    ),
    "flowers102": DatasetCard(
        task="102 kinds of flower",
        sizes="2,040 train and validation, 6,149 test; photographs",
        source=FETCHED,
        licence=UNSTATED,
    ),
    "food101": DatasetCard(
        task="101 dishes",
        sizes="75,750 train, with wrong labels, 25,250 test; up to 512 px",
        source=FETCHED,
        licence="images of Foodspotting: scientific fair use",
    ),
    "eurosat": DatasetCard(
        task="10 kinds of land use from above",
        sizes="27,000 in all, part of them held out as the test; 64 px",
        source=FETCHED,
        licence="MIT",
    ),
    "clothing1m": DatasetCard(
        task="14 kinds of clothing",
        sizes="1,000,000 train with noisy labels, 14,313 tuning and 10,526 test with clean ones; photographs",
        source="its lists and images/ into DATA_DIR/clothing1m; on request from its makers",
        licence="non-commercial research",
        paper="table 3",
    ),
    "diabetic-retinopathy": DatasetCard(
        task="5 grades of diabetic retinopathy",
        sizes="35,126 of 17,563 patients, part of the patients held out as the test; photographs",
        source="trainLabels.csv and train/ into DATA_DIR/diabetic-retinopathy, from Kaggle (2015)",
        licence="the competition's rules",
        paper="figure 1",
    ),
    "imagenet": DatasetCard(
        task="1,000 classes",
        sizes="1,281,167 train, 50,000 test (its validation set); photographs",
        source="DATA_DIR/imagenet/train/WNID/* and val/WNID/*, on request from image-net.org",
        licence="non-commercial research",
        paper="figure 1; table 4",
    ),
    "imagenet100": DatasetCard(
        task="100 of ImageNet's classes, those of Tian et al. 2020",
        sizes="about 127,000 train, 5,000 test; photographs",
        source="as imagenet",
        licence="non-commercial research",
        paper="figure 1",
    ),
    "imagenet-a": DatasetCard(
        task="200 of ImageNet's classes, images that ResNet-50 got wrong; to test on",
        sizes="7,500; photographs",
        source="DATA_DIR/imagenet-a/WNID/*, from github.com/hendrycks/natural-adv-examples",
        licence="MIT (the collection)",
        paper="figure 2; table 4",
    ),
    "imagenet-r": DatasetCard(
        task="200 of ImageNet's classes as art, toys, tattoos; to test on",
        sizes="30,000; pictures",
        source="DATA_DIR/imagenet-r/WNID/*, from github.com/hendrycks/imagenet-r",
        licence="MIT (the collection)",
        paper="table 4",
    ),
    "imagenet-sketch": DatasetCard(
        task="ImageNet's 1,000 classes as sketches; to test on",
        sizes="50,889; drawings",
        source="DATA_DIR/sketch/WNID/*, from github.com/HaohanWang/ImageNet-Sketch",
        licence=UNSTATED,
    ),
    "imagenet-v2": DatasetCard(
        task="ImageNet's 1,000 classes, collected anew; to test on",
        sizes="10,000; photographs",
        source="DATA_DIR/imagenetv2-matched-frequency-format-val/NUMBER/*, from Hugging Face",
        licence="MIT (the collection)",
    ),
}
