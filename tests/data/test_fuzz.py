"""Damaged pictures, tables and lists give a result or one line, never a traceback or a hang."""

import io
import os
import tarfile
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features

from kerasfer.data.datasets import affectnet, ckplus, fer2013, ferplus, folder, rafdb
from kerasfer.data.landmarks import read_landmarks
from kerasfer.data.lists import load_list
from kerasfer.data.pictures import picture_size, read_picture
from kerasfer.errors import DataError

pytestmark = pytest.mark.fuzz
FEW, MANY = 150, 1500
FORMATS = ["AVIF", "BMP", "DDS", "GIF", "ICO", "JPEG", "PNG", "PPM", "TGA", "TIFF", "WEBP"]


def encode(file_format, mode, size):
    noise = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype="uint8")
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a face"
    options = {"exif": exif} if file_format in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") else {}
    Image.fromarray(noise).convert(mode).save(buffer, file_format, **options)
    return buffer.getvalue()


PICTURES = [
    encode(file_format, mode, size)
    for file_format in FORMATS
    for mode in (("RGB", "L") if file_format not in ("AVIF", "DDS") else ("RGB",))
    for size in ((48, 40), (9, 64))
    if file_format != "AVIF" or features.check("avif")
]
PIXELS = " ".join(["7"] * 2304)
FER = f"emotion,pixels,Usage\n3,{PIXELS},Training\n0,{PIXELS},PublicTest\n1,{PIXELS},PrivateTest\n"
VOTES = (
    "Usage,Image name,neutral,happiness,surprise,sadness,anger,disgust,fear,contempt,unknown,NF\n"
    "Training,fer0.png,4,0,0,1,3,2,0,0,0,0\nPublicTest,,9,1,0,0,0,0,0,0,0,0\n"
    "PrivateTest,fer2.png,0,0,10,0,0,0,0,0,0,0\n"
)
AFFECTNET = (
    "subDirectory_filePath,face_x,face_y,face_width,face_height,facial_landmarks,expression,"
    "valence,arousal\n1/0.png,0,0,40,40,1;2,3,0.1,0.2\n"
)


def archive(kind):
    buffer = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(buffer, "w") as file:
            file.writestr("fer2013.csv", FER)
    else:
        with tarfile.open(fileobj=buffer, mode=f"w:{kind}") as file:
            entry = tarfile.TarInfo("fer2013.csv")
            entry.size = len(FER)
            file.addfile(entry, io.BytesIO(FER.encode()))
    return buffer.getvalue()


@st.composite
def damaged(draw, contents):
    """One of some files, of which bytes are replaced, removed, inserted or cut off."""
    content = bytearray(draw(st.sampled_from(contents)))
    for _ in range(draw(st.integers(0, 6))):
        reach = min(len(content), draw(st.sampled_from([64, 10**9])))  # Headers more often.
        place = draw(st.integers(0, max(0, reach - 1)))
        change = draw(st.sampled_from(["replace", "remove", "insert", "cut"]))
        if change == "replace":
            new = draw(st.binary(min_size=1, max_size=8))
            content[place : place + len(new)] = new
        elif change == "remove":
            del content[place : place + draw(st.integers(1, 300))]
        elif change == "insert":
            content[place:place] = draw(st.binary(max_size=40))
        else:
            del content[place:]
    return bytes(content)


@pytest.fixture
def tries(request, inputs):
    """The number of inputs to try, and the `Counter` of those that were tried."""
    return MANY if "fuzz" in request.config.getoption("-m") else FEW, inputs


def attempt(strategy, tries, function, mixed=True):
    """Calls a function with many inputs; it may only return, or raise a `DataError` of one line.

    If the inputs are `mixed`, some must be accepted and others refused.
    """
    limit, inputs = tries

    @settings(
        max_examples=limit,
        deadline=10_000,  # Milliseconds.
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def run(value):
        try:
            function(value)
            inputs["accepted"] += 1
        except DataError as error:
            message = str(error)
            assert "\n" not in message and len(message) < 2000
            message.encode("utf-8")
            inputs["refused"] += 1

    run()
    assert inputs.total() >= limit / 2
    assert not mixed or (inputs["accepted"] and inputs["refused"])


def test_pictures(tmp_path, tries):
    path = tmp_path / "face.jpg"

    def read(content):
        path.write_bytes(content)
        picture_size(path)
        read_picture(path, shortest=8)
        assert read_picture(path).dtype == np.uint8

    attempt(damaged(PICTURES), tries, read)
    assert list(tmp_path.iterdir()) == [path]


TABLES = [FER.encode(), FER.encode("utf-16")]
ARCHIVES = [archive(kind) for kind in ("zip", "", "gz", "xz", "bz2")]


@pytest.mark.parametrize("contents", [TABLES, ARCHIVES], ids=["tables", "archives"])
def test_fer2013(tmp_path, tries, contents):
    path = tmp_path / "fer2013" / "fer2013.csv"
    path.parent.mkdir()

    def read(content):
        path.write_bytes(content)
        fer2013.load(tmp_path)

    # An archive must be unpacked first, so all of them are refused.
    attempt(damaged(contents), tries, read, mixed=contents is TABLES)


def test_ferplus(tmp_path, tries):
    (tmp_path / "ferplus").mkdir()
    (tmp_path / "ferplus" / "fer2013.csv").write_text(FER)

    def read(content):
        (tmp_path / "ferplus" / "fer2013new.csv").write_bytes(content)
        ferplus.load(tmp_path)

    attempt(damaged([VOTES.encode(), VOTES.encode("utf-16"), archive("xz")]), tries, read)


def test_affectnet(tmp_path, tree, tries):
    base = tmp_path / "affectnet"
    tree("Manually_Annotated_Images/1/0.png", root=base)
    (base / "Manually_Annotated_file_lists").mkdir()
    for name in ("training.csv", "validation.csv"):
        (base / "Manually_Annotated_file_lists" / name).write_text(AFFECTNET)

    def read(content):
        (base / "Manually_Annotated_file_lists" / "validation.csv").write_bytes(content)
        samples = affectnet.load(tmp_path)
        for index in range(len(samples)):
            samples.picture(index)

    attempt(damaged([AFFECTNET.encode(), AFFECTNET.encode("cp1252")]), tries, read)


def test_affectnet_labels(tmp_path, tree, tries):
    base = tmp_path / "affectnet"
    tree("train_set/images/0.jpg", "val_set/images/0.jpg", root=base)
    buffer = io.BytesIO()
    np.save(buffer, np.array("3"))
    for half in ("train_set", "val_set"):
        (base / half / "annotations").mkdir()
        (base / half / "annotations" / "0_exp.npy").write_bytes(buffer.getvalue())

    def read(content):
        (base / "val_set" / "annotations" / "0_exp.npy").write_bytes(content)
        affectnet.load(tmp_path)

    attempt(damaged([buffer.getvalue()]), tries, read)


@pytest.mark.parametrize("kind", ["rafdb", "ckplus", "list", "landmarks"])
def test_small_files(tmp_path, tree, tries, kind):
    if kind == "rafdb":
        tree("rafdb/Image/aligned/train_1_aligned.jpg", "rafdb/Image/aligned/test_2_aligned.jpg")
        path, content = tmp_path / "rafdb/EmoLabel/list_patition_label.txt", "train_1.jpg 5\n"
        content, load = content + "test_2.jpg 3\n", lambda: rafdb.load(tmp_path)
    elif kind == "ckplus":
        frames = "ckplus/cohn-kanade-images/S005/001/S005_001_0000000{}.png"
        tree(*(frames.format(number) for number in range(1, 5)))
        path = tmp_path / "ckplus/Emotion/S005/001/S005_001_00000004_emotion.txt"
        content, load = "   3.0000000e+00\n", lambda: ckplus.load(tmp_path)
    elif kind == "list":
        path = tmp_path / "lists/RAF_DB_dir/rafdb_occlusion_list.txt"
        content = "test_0003_aligned 3 4\r\ntest_0004_aligned 1 2\r\n"

        def load():
            load_list("rafdb", "occlusion", tmp_path)

    else:
        path, content = tmp_path / "points.csv", "picture,x0,y0\na.jpg,1.5,2\nb.jpg,,\n"

        def load():
            read_landmarks(path)

    path.parent.mkdir(parents=True, exist_ok=True)

    def read(changed):
        path.write_bytes(changed)
        load()

    attempt(damaged([content.encode(), content.encode("utf-16")]), tries, read)


def test_names_of_files(tmp_path, tries):
    """Folders whose names hold any bytes are loaded, with ids that can be written."""
    names = st.binary(min_size=1, max_size=20).filter(
        lambda name: not set(name) & set(b"/\0") and name not in (b".", b"..")
    )
    number = [0]

    def read(pair):
        number[0] += 1
        root = tmp_path / str(number[0])
        for part in (b"one", pair[0]):
            for name in (b"a", pair[1]):
                place = bytes(root) + b"/" + part
                os.makedirs(place, exist_ok=True)
                with open(place + b"/" + name + b".png", "wb") as file:
                    file.write(PICTURES[0])
        samples = folder.load(tmp_path, path=str(root))
        "".join([*samples.ids, *samples.class_names, *samples.notes]).encode("utf-8")
        assert samples.picture(0).ndim == 3

    limit, inputs = tries
    attempt(st.tuples(names, names), (limit // 2, inputs), read, mixed=False)
