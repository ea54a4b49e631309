from dataclasses import replace

import numpy as np
from PIL import Image

from kerasfer.data import load_dataset
from kerasfer.data.checks.contact_sheet import plot_contact_sheet
from kerasfer.data.picture_files import PictureFiles


def colored(tmp_path, per_class=3):
    """Two classes, red and blue pictures."""
    samples = load_dataset("synthetic", num_samples=14, size=16).take(range(2 * per_class))
    names = []
    for number in range(2 * per_class):
        names.append(f"{number}.png")
        Image.new("RGB", (20, 30), ("red", "blue")[number % 2]).save(tmp_path / names[-1])
    return replace(
        samples,
        class_names=("$red_1$", "blue"),
        pictures=PictureFiles(tmp_path, names),
        labels=np.eye(2, dtype="float32")[np.arange(2 * per_class) % 2],
    )


def shares(path):
    page = np.asarray(Image.open(path).convert("RGB")).astype(int)
    red = (page[..., 0] > 200) & (page[..., 1:] < 60).all(axis=-1)
    blue = (page[..., 2] > 200) & (page[..., :2] < 60).all(axis=-1)
    return red, blue


def test_each_class_has_a_row_of_its_faces(tmp_path):
    plot_contact_sheet(colored(tmp_path), tmp_path / "sheet.png", faces=5)
    red, blue = shares(tmp_path / "sheet.png")
    for found in (red, blue):
        assert abs(found.sum() - 3 * 96 * 96) < 0.1 * 3 * 96 * 96  # three faces, not five
    assert np.nonzero(red)[0].max() < np.nonzero(blue)[0].min()  # the first class above


def test_unreadable_pictures_are_passed_over(tmp_path):
    samples = colored(tmp_path)
    (tmp_path / "0.png").write_text("<html>")
    plot_contact_sheet(samples, tmp_path / "sheet.png", faces=2)
    red, blue = shares(tmp_path / "sheet.png")
    assert abs(red.sum() / blue.sum() - 1) < 0.1


def test_gray_arrays_and_empty_classes_are_shown(tmp_path):
    samples = load_dataset("synthetic", num_samples=7, size=16)
    gray = replace(samples, pictures=samples.pictures[..., 0]).take([0, 1])
    plot_contact_sheet(gray, tmp_path / "sheet.png", faces=2)
    again = (tmp_path / "sheet.png").read_bytes()
    plot_contact_sheet(gray, tmp_path / "sheet.png", faces=2)
    assert (tmp_path / "sheet.png").read_bytes() == again
