"""The datasets that are registered here, with what the page about datasets says of each."""

from __future__ import annotations

from molere_cli import DatasetCard, DatasetSpec

FETCHED = "--download fetches it."
HOLDOUT, FOLDER = "molere_torchvision.folder:HoldoutOptions", "molere_torchvision.folder:FolderOptions"

DATASETS = (
    DatasetSpec(
        name="cifar10",
        description=f"CIFAR-10, 32 px; {FETCHED}",
        load="molere_torchvision.cifar:load_cifar10",
        options=HOLDOUT,
        card=DatasetCard(
            task="10 classes of objects and animals",
            sizes="50,000 train, 10,000 test; 32 px",
            paper="table 3 (label noise)",
        ),
    ),
    DatasetSpec(
        name="cifar100",
        description=f"CIFAR-100, 32 px; {FETCHED}",
        load="molere_torchvision.cifar:load_cifar100",
        options=HOLDOUT,
        card=DatasetCard(
            task="100 classes of objects and animals",
            sizes="50,000 train, 10,000 test; 32 px",
            paper="figures 1, 3; table 2 (class skew)",
        ),
    ),
    DatasetSpec(
        name="svhn",
        description=f"Street View House Numbers, 32 px; {FETCHED}",
        load="molere_torchvision.small:SVHN.load",
        options=HOLDOUT,
        card=DatasetCard(
            task="10 digits on house numbers",
            sizes="73,257 train, 26,032 test; 32 px",
            licence="non-commercial use",
        ),
    ),
    DatasetSpec(
        name="stl10",
        description=f"STL-10, 96 px, its labelled part; {FETCHED}",
        load="molere_torchvision.small:STL10.load",
        options=HOLDOUT,
        card=DatasetCard(
            task="10 classes of objects and animals",
            sizes="5,000 train, 8,000 test; 96 px",
        ),
    ),
    DatasetSpec(
        name="mnist",
        description=f"MNIST, 28 px; {FETCHED}",
        load="molere_torchvision.small:MNIST.load",
        options=HOLDOUT,
        card=DatasetCard(
            task="10 handwritten digits",
            sizes="60,000 train, 10,000 test; 28 px",
            licence="CC BY-SA 3.0",
        ),
    ),
    DatasetSpec(
        name="fashion-mnist",
        description=f"Fashion-MNIST, 28 px; {FETCHED}",
        load="molere_torchvision.small:FASHION_MNIST.load",
        options=HOLDOUT,
        card=DatasetCard(
            task="10 kinds of clothing",
            sizes="60,000 train, 10,000 test; 28 px",
            licence="MIT",
        ),
    ),
    DatasetSpec(
        name="pets",
        description=f"Oxford-IIIT Pet, 37 breeds; {FETCHED}",
        load="molere_torchvision.streamed:PETS.load",
        options=HOLDOUT,
        card=DatasetCard(
            task="37 breeds of cat and dog",
            sizes="3,680 train and validation, 3,669 test; photographs",
            licence="CC BY-SA 4.0",
        ),
    ),
    DatasetSpec(
        name="pets-cats-vs-dogs",
        description=f"Oxford-IIIT Pet by species, with the breeds as groups; {FETCHED}",
        load="molere_torchvision.streamed:CATS_VS_DOGS.load",
        options=HOLDOUT,
        card=DatasetCard(
            task="cat or dog",
            sizes="3,680 train and validation, 3,669 test; photographs",
            licence="CC BY-SA 4.0",
            groups="the 37 breeds",
            paper="figure 1 (the paper's Cats v Dogs is another, larger set)",
        ),
    ),
    DatasetSpec(
        name="stanford-cars",
        description="Stanford Cars, 196 models of car; to be put into DATA_DIR/stanford_cars.",
        load="molere_torchvision.streamed:CARS.load",
        options=HOLDOUT,
        card=DatasetCard(
            task="196 models of car",
            sizes="8,144 train, 8,041 test; photographs",
            source="its files into DATA_DIR/stanford_cars; the original site is gone",
            paper="figure 1",
        ),
    ),
    DatasetSpec(
        name="aircraft",
        description=f"FGVC-Aircraft, 100 variants; {FETCHED}",
        load="molere_torchvision.streamed:AIRCRAFT.load",
        options=HOLDOUT,
        card=DatasetCard(
            task="100 variants of aircraft",
            sizes="6,667 train and validation, 3,333 test; photographs",
            licence="non-commercial research",
            paper="figure 1",
        ),
    ),
    DatasetSpec(
        name="flowers102",
        description=f"Flowers-102; {FETCHED}",
        load="molere_torchvision.streamed:FLOWERS102.load",
        options=HOLDOUT,
        card=DatasetCard(
            task="102 kinds of flower",
            sizes="2,040 train and validation, 6,149 test; photographs",
        ),
    ),
    DatasetSpec(
        name="food101",
        description=f"Food-101; {FETCHED}",
        load="molere_torchvision.streamed:FOOD101.load",
        options=HOLDOUT,
        card=DatasetCard(
            task="101 dishes",
            sizes="75,750 train, with wrong labels, 25,250 test; up to 512 px",
            licence="images of Foodspotting: scientific fair use",
        ),
    ),
    DatasetSpec(
        name="imagenet",
        description="ImageNet-1K from DATA_DIR/imagenet/train/WNID/* and val/WNID/*.",
        load="molere_torchvision.imagenet:load_imagenet",
        options=HOLDOUT,
        card=DatasetCard(
            task="1,000 classes",
            sizes="1,281,167 train, 50,000 test (its validation set); photographs",
            source="DATA_DIR/imagenet/train/WNID/* and val/WNID/*, on request from image-net.org",
            licence="non-commercial research",
            paper="figure 1; table 4",
        ),
    ),
    DatasetSpec(
        name="imagenet100",
        description="ImageNet-100: a hundred classes out of DATA_DIR/imagenet.",
        load="molere_torchvision.imagenet:load_imagenet100",
        options=HOLDOUT,
        card=DatasetCard(
            task="100 of ImageNet's classes, those of Tian et al. 2020",
            sizes="about 127,000 train, 5,000 test; photographs",
            source="as imagenet",
            licence="non-commercial research",
            paper="figure 1",
        ),
    ),
    DatasetSpec(
        name="imagenet-a",
        description="To test on: ImageNet-A, 200 classes that classifiers get wrong, from "
        "DATA_DIR/imagenet-a/WNID/*.",
        load="molere_torchvision.imagenet:IMAGENET_A.load",
        card=DatasetCard(
            task="200 of ImageNet's classes, images that ResNet-50 got wrong; to test on",
            sizes="7,500; photographs",
            source="DATA_DIR/imagenet-a/WNID/*, from github.com/hendrycks/natural-adv-examples",
            licence="MIT (the collection)",
            paper="figure 2; table 4",
        ),
        test_only=True,
    ),
    DatasetSpec(
        name="imagenet-r",
        description="To test on: ImageNet-R, renditions of 200 classes, from DATA_DIR/imagenet-r/WNID/*.",
        load="molere_torchvision.imagenet:IMAGENET_R.load",
        card=DatasetCard(
            task="200 of ImageNet's classes as art, toys, tattoos; to test on",
            sizes="30,000; pictures",
            source="DATA_DIR/imagenet-r/WNID/*, from github.com/hendrycks/imagenet-r",
            licence="MIT (the collection)",
            paper="table 4",
        ),
        test_only=True,
    ),
    DatasetSpec(
        name="imagenet-sketch",
        description="To test on: ImageNet-Sketch, drawings of all classes, from DATA_DIR/sketch/WNID/*.",
        load="molere_torchvision.imagenet:IMAGENET_SKETCH.load",
        card=DatasetCard(
            task="ImageNet's 1,000 classes as sketches; to test on",
            sizes="50,889; drawings",
            source="DATA_DIR/sketch/WNID/*, from github.com/HaohanWang/ImageNet-Sketch",
        ),
        test_only=True,
    ),
    DatasetSpec(
        name="imagenet-v2",
        description="To test on: ImageNet-V2, from "
        "DATA_DIR/imagenetv2-matched-frequency-format-val/NUMBER/*.",
        load="molere_torchvision.imagenet:IMAGENET_V2.load",
        card=DatasetCard(
            task="ImageNet's 1,000 classes, collected anew; to test on",
            sizes="10,000; photographs",
            source="DATA_DIR/imagenetv2-matched-frequency-format-val/NUMBER/*, from Hugging Face",
            licence="MIT (the collection)",
        ),
        test_only=True,
    ),
    DatasetSpec(
        name="clothing1m",
        description="Clothing-1M with noisy labels, from DATA_DIR/clothing1m; tuning and test are clean.",
        load="molere_torchvision.clothing:load_clothing1m",
        card=DatasetCard(
            task="14 kinds of clothing",
            sizes="1,000,000 train with noisy labels, 14,313 tuning and 10,526 test with "
            "clean ones; photographs",
            source="its lists and images/ into DATA_DIR/clothing1m; on request from its makers",
            licence="non-commercial research",
            paper="table 3",
        ),
    ),
    DatasetSpec(
        name="diabetic-retinopathy",
        description="Retinas in five grades, from DATA_DIR/diabetic-retinopathy; patients held out.",
        load="molere_torchvision.retinopathy:load_retinopathy",
        options=FOLDER,
        card=DatasetCard(
            task="5 grades of diabetic retinopathy",
            sizes="35,126 of 17,563 patients, part of the patients held out as the test; photographs",
            source="trainLabels.csv and train/ into DATA_DIR/diabetic-retinopathy, from Kaggle (2015)",
            licence="the competition's rules",
            paper="figure 1",
        ),
    ),
    DatasetSpec(
        name="eurosat",
        description=f"EuroSAT, 64 px satellite images, part of it held out as the test; {FETCHED}",
        load="molere_torchvision.streamed:load_eurosat",
        options=FOLDER,
        card=DatasetCard(
            task="10 kinds of land use from above",
            sizes="27,000 in all, part of them held out as the test; 64 px",
            licence="MIT",
        ),
    ),
    DatasetSpec(
        name="folder",
        description="A folder of images: DIR/train/CLASS/* and DIR/test/CLASS/*, or DIR/CLASS/*.",
        load="molere_torchvision.folder:load_folder",
        options=FOLDER,
        argument="DIR",
        argument_is_path=True,
    ),
    DatasetSpec(
        name="csv",
        description="A CSV file of images: path,label and, where wanted, group,split; paths relative to it.",
        load="molere_torchvision.manifest:load_manifest",
        options=FOLDER,
        argument="FILE",
        argument_is_path=True,
    ),
)
