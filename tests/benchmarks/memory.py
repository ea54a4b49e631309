"""How much memory a large dataset takes: a generated AffectNet, small and large, trained on once.

The pictures are hard links of a few drawn faces in the official tree, so that 100,000 of them need
no room on the disk. Each size loads and trains one epoch of a tiny network in a process of its own.
What it prints is the resident memory of that process.

    python tests/benchmarks/memory.py [--pictures 1000 100000] [--release 2017|2021] [--folder DIR]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

SIDE, BATCH = 32, 64


def plant(folder, number, release):
    """Writes a tree of `number` training and 64 validation pictures in the official form."""
    from PIL import Image

    from kerasfer.data import load_dataset

    faces = load_dataset("synthetic", num_samples=16, size=64)
    sources = []
    for index, picture in enumerate(faces.pictures):
        sources.append(folder / f"face_{index}.jpg")
        Image.fromarray(picture).save(sources[-1])
    root = folder / "affectnet"
    for part, count in (("train", number), ("val", 64)):
        (_plant_2017 if release == 2017 else _plant_2021)(root, part, count, sources)


def _plant_2017(root, part, count, sources):
    lists = root / "Manually_Annotated_file_lists"
    lists.mkdir(parents=True, exist_ok=True)
    marks = ";".join(["31.5;31.5"] * 68)
    name = {"train": "training.csv", "val": "validation.csv"}[part]
    with open(lists / name, "w") as file:
        file.write(
            "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,"
            "expression,valence,arousal\r\n"
        )
        for index in range(count):
            folder = root / "Manually_Annotated_Images" / f"{part}{index // 1000}"
            if index % 1000 == 0:
                folder.mkdir(parents=True)
            picture = f"{folder.name}/{index:056x}.jpg"
            os.link(sources[index % len(sources)], folder / f"{index:056x}.jpg")
            file.write(f"{picture},4,4,56,56,{marks},{index % 8},-0.1,0.2\r\n")


def _plant_2021(root, part, count, sources):
    images, labels = (root / f"{part}_set" / name for name in ("images", "annotations"))
    images.mkdir(parents=True)
    labels.mkdir()
    for code in range(8):
        np.save(root / f"{part}_{code}.npy", np.array(str(code)))
    for index in range(count):
        os.link(sources[index % len(sources)], images / f"{index}.jpg")
        if index % 40_000 < 8:  # a file has at most 65,000 names
            np.save(labels / f"{index}_exp.npy", np.array(str(index % 8)))
        else:
            os.link(labels / f"{index - index % 40_000 + index % 8}_exp.npy",
                    labels / f"{index}_exp.npy")  # fmt: skip


def measure(data_dir):
    """Loads and trains; prints the resident memory after each step."""
    import keras

    from kerasfer.data import load_dataset
    from kerasfer.data.batches import Batches, Training
    from kerasfer.data.datasets.affectnet import CLASS_NAMES
    from kerasfer.data.protocols import make_folds

    # What is imported and compiled only once is paid for by two other pictures.
    few = load_dataset("synthetic", num_samples=2)
    few = replace(few, class_names=CLASS_NAMES, labels=np.eye(8, dtype="float32")[:2])
    model = keras.Sequential(
        [
            keras.layers.Conv2D(4, 3, 4, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(8, activation="softmax"),
        ]
    )
    model.compile("sgd", "categorical_crossentropy")
    model.fit(Batches(few, SIDE, 2), shuffle=False, verbose=0)
    before = resident()
    start = time.perf_counter()
    (fold,) = make_folds(load_dataset("affectnet", data_dir))
    loaded, seconds = resident(), time.perf_counter() - start
    batches = Batches(fold.train, SIDE, BATCH, training=Training({"flip": True}), workers=2)
    start = time.perf_counter()
    model.fit(batches, shuffle=False, verbose=0)
    rate = len(fold.train) / (time.perf_counter() - start)
    print(
        f"{len(fold.train) + len(fold.validation):>9,} pictures: {before:.0f} MB before, "
        f"{loaded:.0f} MB after loading in {seconds:.1f} s, {resident():.0f} MB after an epoch at "
        f"{rate:,.0f} pictures a second; most ever {most():.0f} MB",
        flush=True,
    )


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def most():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) * 1024 / 1e6


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--pictures", type=int, nargs="+", default=[1000, 100_000])
    parser.add_argument("--release", type=int, choices=[2017, 2021], default=2017)
    parser.add_argument("--folder", help="where the trees are generated, and removed again")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        sys.exit()
    for number in options.pictures:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            plant(Path(folder), number, options.release)
            subprocess.run([sys.executable, __file__, "--measure", folder], check=True)
