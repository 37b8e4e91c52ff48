"""Tiny data sets on disk as torchvision lays them out, with the labels that must come of them."""

from __future__ import annotations

import bz2
import csv
import itertools
import json
import pickle
import struct
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

Expected = Counter[tuple[str | None, str]]

FLOWERS = ("pink primrose", "hard-leaved pocket orchid", "canterbury bells")


def noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def photo(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(noise(seed, 8, 10, 3)).save(path)


def text(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")


def mat(path: Path, **values: object) -> None:
    from scipy.io import savemat

    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, values)


def cifar10(root: Path) -> Expected:
    folder = root / "cifar-10-batches-py"
    batches = [f"data_batch_{number}" for number in range(1, 6)]
    return _cifar(folder, batches, "test_batch", "batches.meta", "labels", "label_names")


def cifar100(root: Path) -> Expected:
    folder = root / "cifar-100-python"
    return _cifar(folder, ["train"], "test", "meta", "fine_labels", "fine_label_names")


def _cifar(
    folder: Path, train: Sequence[str], test: str, meta: str, labels: str, names: str
) -> Expected:
    folder.mkdir(parents=True)
    for seed, name in enumerate((*train, test)):
        batch = {"data": noise(seed, 2, 3072), labels: [0, 2]}
        (folder / name).write_bytes(pickle.dumps(batch))
    (folder / meta).write_bytes(pickle.dumps({names: ["airplane", "automobile", "bird"]}))
    each = len(train)
    return Counter(
        {("train", "airplane"): each, ("train", "bird"): each}
        | {("test", "airplane"): 1, ("test", "bird"): 1}
    )


def idx(path: Path, values: np.ndarray, kind: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, kind, values.ndim, *values.shape)
    path.write_bytes(header + values.tobytes())


def mnist(kind: str, names: Sequence[str]) -> Callable[[Path], Expected]:
    def write(root: Path) -> Expected:
        for part, n in (("train", 3), ("t10k", 2)):
            raw = root / kind / "raw"
            idx(raw / f"{part}-images-idx3-ubyte", noise(n, n, 28, 28))
            idx(raw / f"{part}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8))
        return Counter(
            [*(("train", name) for name in names[:3]), *(("test", name) for name in names[:2])]
        )

    return write


def emnist(root: Path) -> Expected:
    raw = root / "EMNIST" / "raw"
    for part, n in (("train", 3), ("test", 2)):
        idx(raw / f"emnist-letters-{part}-images-idx3-ubyte", noise(n, n, 28, 28))
        idx(raw / f"emnist-letters-{part}-labels-idx1-ubyte", np.arange(1, n + 1, dtype=np.uint8))
    return Counter([("train", "a"), ("train", "b"), ("train", "c"), ("test", "a"), ("test", "b")])


def qmnist(root: Path) -> Expected:
    raw = root / "QMNIST" / "raw"
    for part, n in (("train", 2), ("test", 2)):
        labels = np.zeros((n, 8), ">i4")
        labels[:, 0] = np.arange(n)
        idx(raw / f"qmnist-{part}-images-idx3-ubyte", noise(n, n, 28, 28))
        idx(raw / f"qmnist-{part}-labels-idx2-int", labels, kind=12)
    names = ("0 - zero", "1 - one")
    return Counter((part, name) for part in ("train", "test") for name in names)


def usps(root: Path) -> Expected:
    for name in ("usps.bz2", "usps.t.bz2"):
        values = np.random.default_rng(0).uniform(-1, 1, (2, 256))
        lines = [
            " ".join([str(label), *(f"{i}:{v:.4f}" for i, v in enumerate(row, 1))])
            for label, row in zip((1, 10), values, strict=True)
        ]
        (root / name).write_bytes(bz2.compress("\n".join(lines).encode()))
    return Counter((part, label) for part in ("train", "test") for label in ("0", "9"))


def svhn(root: Path) -> Expected:
    for seed, part in enumerate(("train", "test")):
        mat(root / f"{part}_32x32.mat", X=noise(seed, 32, 32, 3, 2), y=np.array([[10], [3]]))
    return Counter((part, label) for part in ("train", "test") for label in ("0", "3"))


def stl10(root: Path) -> Expected:
    folder = root / "stl10_binary"
    text(folder / "class_names.txt", "airplane", "bird", "car")
    for seed, part in enumerate(("train", "test", "unlabeled")):
        (folder / f"{part}_X.bin").write_bytes(noise(seed, 2 * 3 * 96 * 96).tobytes())
        (folder / f"{part}_y.bin").write_bytes(bytes([1, 3]))
    return Counter((part, label) for part in ("train", "test") for label in ("airplane", "car"))


def semeion(root: Path) -> Expected:
    rows = np.zeros((3, 266))
    rows[:, :256] = noise(0, 3, 256) % 2
    rows[np.arange(3), 256 + np.arange(3)] = 1
    np.savetxt(root / "semeion.data", rows)
    return Counter([(None, "0"), (None, "1"), (None, "2")])


def flowers102(root: Path) -> Expected:
    folder = root / "flowers-102"
    for number in range(1, 8):
        photo(folder / "jpg" / f"image_{number:05d}.jpg", number)
    mat(folder / "imagelabels.mat", labels=np.array([[1, 2, 3, 1, 2, 3, 1]]))
    mat(folder / "setid.mat", trnid=[[1, 2, 3]], valid=[[5, 4]], tstid=[[6, 7]])
    parts = {"train": FLOWERS, "val": FLOWERS[1::-1], "test": FLOWERS[::-2]}
    return Counter((part, name) for part, names in parts.items() for name in names)


def pets(root: Path) -> Expected:
    folder = root / "oxford-iiit-pet"
    for part, first in (("trainval", 1), ("test", 3)):
        names = [f"Abyssinian_{first}", f"great_pyrenees_{first + 1}"]
        for name in names:
            photo(folder / "images" / f"{name}.jpg", first)
        text(folder / "annotations" / f"{part}.txt", f"{names[0]} 1 1 1", f"{names[1]} 2 2 1")
    labels = ("Abyssinian", "Great Pyrenees")
    return Counter((part, label) for part in ("train", "test") for label in labels)


def eurosat(root: Path) -> Expected:
    return _folders(root / "eurosat" / "2750", None, ("AnnualCrop", "Forest"), "jpg")


def _folders(
    folder: Path,
    part: str | None,
    classes: Sequence[str],
    ending: str,
    names: Sequence[str] | None = None,
) -> Expected:
    for number, (name, image) in enumerate(itertools.product(classes, range(2))):
        photo(folder / name / f"{name}_{image + 1}.{ending}", number)
    return Counter({(part, name): 2 for name in names or classes})


def dtd(root: Path) -> Expected:
    folder = root / "dtd" / "dtd"
    expected: Expected = Counter()
    for seed, part in enumerate(("train", "val", "test")):
        names = [f"{name}/{name}_{seed:04d}.jpg" for name in ("banded", "woven")]
        for name in names:
            photo(folder / "images" / name, seed)
        text(folder / "labels" / f"{part}1.txt", *names)
        expected += Counter({(part, "banded"): 1, (part, "woven"): 1})
    return expected


def food101(root: Path) -> Expected:
    folder = root / "food-101"
    for seed, part in enumerate(("train", "test")):
        names = {name: [f"{name}/{seed}"] for name in ("waffles", "apple_pie")}
        for (name,) in names.values():
            photo(folder / "images" / f"{name}.jpg", seed)
        text(folder / "meta" / f"{part}.json", json.dumps(names))
    return Counter((part, name) for part in ("train", "test") for name in ("apple_pie", "waffles"))


def gtsrb(root: Path) -> Expected:
    folder = root / "gtsrb"
    for label in range(3):
        photo(folder / "GTSRB" / "Training" / f"{label:05d}" / "00000_00000.ppm", label)
    rows = ["Filename;Width;ClassId"]
    for number, label in enumerate((2, 0)):
        photo(folder / "GTSRB" / "Final_Test" / "Images" / f"{number:05d}.ppm", 10 + label)
        rows.append(f"{number:05d}.ppm;10;{label}")
    text(folder / "GT-final_test.csv", *rows)
    train = [("train", name) for name in ("00", "01", "02")]
    return Counter([*train, ("test", "02"), ("test", "00")])


def aircraft(level: str, names: Sequence[str]) -> Callable[[Path], Expected]:
    def write(root: Path) -> Expected:
        folder = root / "fgvc-aircraft-2013b" / "data"
        plural = {"variant": "variants", "manufacturer": "manufacturers"}[level]
        text(folder / f"{plural}.txt", *names)
        for seed, part in enumerate(("train", "val", "test")):
            images = [f"{seed}{number:06d}" for number in range(len(names))]
            for image in images:
                photo(folder / "images" / f"{image}.jpg", int(image))
            lines = (f"{image} {name}" for image, name in zip(images, names, strict=True))
            text(folder / f"images_{level}_{part}.txt", *lines)
        return Counter((part, name) for part in ("train", "val", "test") for name in names)

    return write


def cars(root: Path) -> Expected:
    folder = root / "stanford_cars"
    names = np.array(["AM General Hummer SUV 2000", "Acura RL Sedan 2012"], object)
    mat(folder / "devkit" / "cars_meta.mat", class_names=names)
    kind = [("fname", object), ("class", "u1")]
    for part, file in (
        ("train", folder / "devkit" / "cars_train_annos.mat"),
        ("test", folder / "cars_test_annos_withlabels.mat"),
    ):
        mat(file, annotations=np.array([("00001.jpg", 2), ("00002.jpg", 1)], kind))
        for number in (1, 2):
            photo(folder / f"cars_{part}" / f"{number:05d}.jpg", number)
    return Counter((part, str(name)) for part in ("train", "test") for name in names)


def sun397(root: Path) -> Expected:
    folder = root / "SUN397"
    text(folder / "ClassName.txt", "/a/abbey", "/a/apartment_building/outdoor")
    photo(folder / "a" / "abbey" / "sun_aaa.jpg", 1)
    photo(folder / "a" / "apartment_building" / "outdoor" / "sun_aab.jpg", 2)
    return Counter([(None, "abbey"), (None, "apartment_building/outdoor")])


def caltech101(root: Path) -> Expected:
    folder = root / "caltech101" / "101_ObjectCategories"
    for name, number in itertools.product(("BACKGROUND_Google", "ant", "bass"), (1, 2)):
        photo(folder / name / f"image_{number:04d}.jpg", number)
    return Counter({(None, "ant"): 2, (None, "bass"): 2})


def caltech256(root: Path) -> Expected:
    folder = root / "caltech256" / "256_ObjectCategories"
    for label, number in itertools.product((1, 2), (1, 2)):
        name = ("001.ak47", "002.american-flag")[label - 1]
        photo(folder / name / f"{label:03d}_{number:04d}.jpg", 10 * label + number)
    return Counter({(None, "001.ak47"): 2, (None, "002.american-flag"): 2})


def country211(root: Path) -> Expected:
    expected: Expected = Counter()
    for folder, part in (("train", "train"), ("valid", "val"), ("test", "test")):
        expected += _folders(root / "country211" / folder, part, ("AD", "ZW"), "jpg")
    return expected


def sst2(root: Path) -> Expected:
    expected: Expected = Counter()
    for folder, part in (("train", "train"), ("valid", "val"), ("test", "test")):
        where = root / "rendered-sst2" / folder
        expected += _folders(where, part, ("negative", "positive"), "png")
    return expected


def pcam(root: Path) -> Expected:
    import h5py

    (root / "pcam").mkdir()
    parts = {"train": "train", "valid": "val", "test": "test"}
    for seed, part in enumerate(parts):
        base = f"pcam/camelyonpatch_level_2_split_{part}"
        with h5py.File(root / f"{base}_x.h5", "w") as file:
            file["x"] = noise(seed, 3, 6, 6, 3)
        with h5py.File(root / f"{base}_y.h5", "w") as file:
            file["y"] = np.array([0, 1, 1], np.uint8).reshape(3, 1, 1, 1)
    labels = ("0", "1", "1")
    return Counter((part, label) for part in parts.values() for label in labels)


def imagenette(root: Path) -> Expected:
    wordnet, names = ("n01440764", "n02979186"), ("tench", "cassette player")
    expected: Expected = Counter()
    for folder, part in (("train", "train"), ("val", "test")):
        expected += _folders(root / "imagenette2-160" / folder, part, wordnet, "jpeg", names)
    return expected


def imagenet(root: Path) -> Expected:
    import torch

    wordnet = {"n02012849": ("crane",), "n03126707": ("crane",), "n01440764": ("tench", "Tinca")}
    torch.save((wordnet, []), root / "meta.bin")
    names = ("tench", "crane (1)", "crane (2)")
    expected: Expected = Counter()
    for folder, part in (("train", "train"), ("val", "test")):
        expected += _folders(root / folder, part, sorted(wordnet), "JPEG", names)
    return expected


def fer2013(root: Path) -> Expected:
    (root / "fer2013").mkdir()
    with (root / "fer2013" / "fer2013.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(("emotion", "pixels", "Usage"))
        for label, usage in ((0, "Training"), (6, "Training"), (6, "PublicTest")):
            rows.writerow((label, " ".join(map(str, noise(label, 48 * 48))), usage))
    return Counter([("train", "0"), ("train", "6"), ("test", "6")])


def clevr(root: Path) -> Expected:
    folder = root / "clevr" / "CLEVR_v1.0"
    expected: Expected = Counter()
    for folder_name, part in (("train", "train"), ("val", "test")):
        scenes = []
        for count in (3, 10):
            name = f"CLEVR_{folder_name}_{count:06d}.png"
            photo(folder / "images" / folder_name / name, count)
            scenes.append({"image_filename": name, "objects": [{}] * count})
            expected[part, f"{count:02d}"] += 1
        text(folder / "scenes" / f"CLEVR_{folder_name}_scenes.json", json.dumps({"scenes": scenes}))
    return expected


def places365(root: Path) -> Expected:
    names = ("/a/airfield", "/a/alley")
    text(root / "categories_places365.txt", *(f"{name} {i}" for i, name in enumerate(names)))
    lists = {
        "train_standard": [f"{name}/0000000{i}.jpg {i}" for i, name in enumerate(names)],
        "val": ["Places365_val_00000001.jpg 1", "Places365_val_00000002.jpg 0"],
    }
    folders = {"train_standard": "data_256_standard", "val": "val_256"}
    for part, lines in lists.items():
        text(root / f"places365_{part}.txt", *lines)
        for seed, line in enumerate(lines):
            photo(root / folders[part] / line.split()[0].lstrip("/"), seed)
    return Counter((part, name) for part in ("train", "test") for name in names)


DIGITS = ("0 - zero", "1 - one", "2 - two")

LAYOUTS: dict[str, Callable[[Path], Expected]] = {
    "CIFAR10": cifar10,
    "CIFAR100": cifar100,
    "CLEVRClassification": clevr,
    "Caltech101": caltech101,
    "Caltech256": caltech256,
    "Country211": country211,
    "DTD": dtd,
    "EMNIST-letters": emnist,
    "EuroSAT": eurosat,
    "FER2013": fer2013,
    "FGVCAircraft": aircraft("variant", ("707-320", "A340-300")),
    "FGVCAircraft-manufacturer": aircraft("manufacturer", ("Airbus", "de Havilland")),
    "FashionMNIST": mnist("FashionMNIST", ("T-shirt/top", "Trouser", "Pullover")),
    "Flowers102": flowers102,
    "Food101": food101,
    "GTSRB": gtsrb,
    "ImageNet": imagenet,
    "Imagenette-160px": imagenette,
    "KMNIST": mnist("KMNIST", ("o", "ki", "su")),
    "MNIST": mnist("MNIST", DIGITS),
    "OxfordIIITPet": pets,
    "PCAM": pcam,
    "Places365-small": places365,
    "QMNIST": qmnist,
    "RenderedSST2": sst2,
    "SEMEION": semeion,
    "STL10": stl10,
    "SUN397": sun397,
    "SVHN": svhn,
    "StanfordCars": cars,
    "USPS": usps,
}
