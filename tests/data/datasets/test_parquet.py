import io
import json
import threading

import numpy as np
import pytest
from PIL import Image

from kerasfer.data import shards
from kerasfer.data.batches import Batches, Training
from kerasfer.data.checks import check
from kerasfer.data.checks.duplicates import exact_duplicates
from kerasfer.data.datasets import parquet
from kerasfer.data.loading import dataset_in
from kerasfer.data.protocols import make_folds
from kerasfer.data.shards import PictureInShard, ShardedPictures
from kerasfer.errors import DataError, RecipeError

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
NAMES = ("happy", "sad", "angry")


def encode(seed, form="PNG"):
    noise = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype="uint8")
    file = io.BytesIO()
    Image.fromarray(noise).save(file, form)
    return file.getvalue()


def write(path, labels, pictures=None, names=NAMES, rows=4, **columns):
    """Writes a file as Hugging Face Datasets does, with a few pictures in each row group."""
    import pyarrow.parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    if pictures is None:
        pictures = [encode(seed + len(str(path)) * 1000) for seed in range(len(labels))]
    table = pa.table(
        {
            "image": [{"bytes": picture, "path": f"{i}.png"} for i, picture in enumerate(pictures)],
            "label": labels,
            **columns,
        }
    )
    if names:
        features = {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": names}}
        table = table.replace_schema_metadata(
            {"huggingface": json.dumps({"info": {"features": features}})}
        )
    pyarrow.parquet.write_table(table, path, row_group_size=rows)
    return path


@pytest.fixture
def faces(tmp_path):
    write(tmp_path / "data" / "train-00000-of-00002.parquet", [0, 1, 2] * 4)
    write(tmp_path / "data" / "train-00001-of-00002.parquet", [2, 1, 0])
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", [0, 1, 2])
    write(tmp_path / "data" / "test-00000-of-00001.parquet", [1, 1])
    return tmp_path


def test_files_are_splits_and_pictures_are_decoded_on_demand(faces):
    samples = parquet.load(faces, path=str(faces))
    assert samples.class_names == NAMES
    assert samples.splits.tolist() == ["train"] * 15 + ["validation"] * 3 + ["test"] * 2
    assert samples.targets.tolist() == [0, 1, 2] * 4 + [2, 1, 0, 0, 1, 2, 1, 1]
    assert samples.ids[12] == "data/train-00001-of-00002.parquet:0"
    assert samples.notes == (
        "used 20 pictures: train 15, validation 3, test 2",
        "test has no picture of: happy, angry",
    )
    assert isinstance(samples.pictures, ShardedPictures)
    path = faces / "data" / "train-00000-of-00002.parquet"
    assert samples.pictures[7] == PictureInShard(path, 7, "image")
    expected = np.asarray(Image.open(io.BytesIO(encode(7 + len(str(path)) * 1000))))
    np.testing.assert_array_equal(samples.picture(7), expected)
    (fold,) = make_folds(samples)
    assert [len(part) for part in (fold.train, fold.validation, fold.test)] == [15, 3, 2]
    np.testing.assert_array_equal(fold.train.take([7]).picture(0), expected)


@pytest.mark.parametrize("split", ["train", ""])
def test_folders_name_splits_and_a_test_split_is_drawn(tmp_path, split):
    write(tmp_path / split / "0000.parquet", [0, 1, 2] * 5)
    write(tmp_path / split / "0001.parquet", [0, 1, 2] * 5)
    samples = parquet.load(tmp_path, path=str(tmp_path))
    assert samples.drawn_splits == ("test",)
    assert np.bincount(samples.targets[samples.splits == "test"]).tolist() == [2, 2, 2]
    assert samples.notes[1] == "no file is for test: drew 6 of train"


def test_labels_may_be_names_in_any_column_and_pictures_plain_bytes(tmp_path):
    labels = pa.array(["sad", "happy"] * 4).dictionary_encode()
    table = pa.table({"face": [encode(i) for i in range(8)], "emotion": labels, "id": range(8)})
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, tmp_path / "all.parquet")
    samples = parquet.load(tmp_path, path="all.parquet", label_column="emotion")
    assert samples.class_names == ("happy", "sad")
    assert samples.targets.tolist() == [1, 0] * 4
    assert samples.picture(3).shape == (24, 24, 3)
    named = parquet.load(
        tmp_path, path="all.parquet", label_column="emotion", class_names=("sad", "happy")
    )
    assert named.targets.tolist() == [0, 1] * 4


def test_numbers_need_names(tmp_path):
    write(tmp_path / "train.parquet", [0, 1, 0, 1, 0, 1], names=None)
    with pytest.raises(DataError, match=r"has numbers, .* Set data\.class_names=\[NAME, NAME"):
        parquet.load(tmp_path, path=str(tmp_path))
    samples = parquet.load(tmp_path, path=str(tmp_path), class_names=("a", "b"))
    assert samples.class_names == ("a", "b")


def test_the_random_order_reads_each_row_group_once(faces, monkeypatch):
    write(faces / "data" / "train-00002.parquet", [0, 1, 2] * 100, rows=10)
    reads = []
    read = shards.Shard.read
    monkeypatch.setattr(shards.Shard, "read", lambda *a: reads.append(a[1:]) or read(*a))
    monkeypatch.setattr(shards, "KEPT_BYTES", 60_000)  # About 30 pictures.
    monkeypatch.setattr(shards, "_ROW_GROUPS", shards._RowGroups(60_000))
    samples = make_folds(parquet.load(faces, path=str(faces)))[0].train
    orders = [samples.pictures.shuffled(np.random.default_rng(seed)) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(orders[0], orders[1])
    assert (orders[0] != orders[2]).any()
    assert sorted(orders[0]) == list(range(len(samples)))
    assert abs(np.corrcoef(orders[0], np.arange(len(samples)))[0, 1]) < 0.5
    for index in orders[0]:
        samples.picture(index)
        kept = [entry[1].nbytes for entry in shards._ROW_GROUPS.entries.values()]
        assert sum(kept) <= 60_000
    assert len(reads) == 34  # 30 of ten pictures, three and one of four.


def test_threads_share_a_row_group(faces, monkeypatch):
    reads = []
    read = shards.Shard.read
    monkeypatch.setattr(shards.Shard, "read", lambda *a: reads.append(a[1:]) or read(*a))
    monkeypatch.setattr(shards, "_ROW_GROUPS", shards._RowGroups(10**6))
    samples = parquet.load(faces, path=str(faces))
    threads = [threading.Thread(target=samples.picture, args=(i % 4,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(reads) == 1


def test_batches_repeat_and_cover_the_epoch(faces):
    samples = make_folds(parquet.load(faces, path=str(faces)))[0].train
    passes = []
    for workers in (0, 2):
        batches = Batches(samples, 24, 4, training=Training(seed=3), workers=workers)
        passes.append([batches[index] for index in range(len(batches))])
    for one, other in zip(*passes, strict=True):
        np.testing.assert_array_equal(one[0], other[0])
    images = np.concatenate([images for images, _ in passes[0]])
    found = {image.tobytes() for image in images}
    assert found == {samples.picture(i).astype("float32").tobytes() for i in range(15)}


def test_duplicates_and_bad_pictures_are_found(tmp_path):
    pictures = [encode(0), encode(1), encode(2), encode(0)]
    write(tmp_path / "train.parquet", [0, 1, 2, 0], pictures)
    write(tmp_path / "test.parquet", [0, 1, 2], [encode(1), encode(9), b"no picture"])
    samples = parquet.load(tmp_path, path=str(tmp_path))
    findings, pairs = check(samples)
    assert findings["unreadable"]["pictures"] == 1
    reason = findings["unreadable"]["list"][0]["reason"]
    assert "test.parquet:2 cannot be read as a picture: it has none of the supported" in reason
    assert [(pair["picture"], pair["other_picture"]) for pair in pairs] == [
        ("train.parquet:0", "train.parquet:3"),
        ("train.parquet:1", "test.parquet:0"),
    ]
    train, test = (samples.take(samples.splits == split) for split in ("train", "test"))
    assert exact_duplicates(train, test).tolist() == [True, False, False]
    skipping = Batches(test, 24, 2, on_bad_image="skip")
    assert skipping.bad_images == ["test.parquet:2"]


def test_a_row_without_bytes_is_named(tmp_path):
    write(tmp_path / "train.parquet", [0, 1, 2] * 2, [None, *map(encode, range(5))])
    samples = parquet.load(tmp_path, path=str(tmp_path))
    with pytest.raises(DataError, match=r"train\.parquet:0 cannot be read .* has no bytes"):
        samples.picture(0)
    assert samples.picture(1).shape == (24, 24, 3)


def problem(folder, **options):
    with pytest.raises(DataError) as caught:
        parquet.load(folder, path=str(folder), **options)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_errors_say_what_was_expected(tmp_path, monkeypatch):
    with pytest.raises(
        RecipeError, match=r"data\.path must name the folder for data\.name=parquet"
    ):
        parquet.load(tmp_path)
    assert "Expected Parquet files in" in problem(tmp_path)
    train = write(tmp_path / "train.parquet", [0, 1, 2] * 2)
    assert "has no column 'labels'. Its columns are: image, label. Did you" in problem(
        tmp_path, label_column="labels"
    )
    assert "Received: image (struct" in problem(tmp_path, image_column="label")
    odd = write(tmp_path / "other.parquet", [0])
    assert f"{odd} does not name a split" in problem(tmp_path)
    odd.unlink()
    test = write(tmp_path / "test.parquet", [0, -1])
    assert "test.parquet, column label, row 1: the label must be 0 to 2. Received: -1" in problem(
        tmp_path
    )
    write(test, [0, 1], names=("happy", "sad"))
    assert "other class names than" in problem(tmp_path)
    write(test, [0, None])
    assert "1 of 2 rows of" in problem(tmp_path)
    write(test, [0.5, 1.0])
    assert "Received the type: double. Set data.label_column" in problem(tmp_path)
    test.write_bytes(train.read_bytes()[:-5])
    assert "test.parquet cannot be read as a Parquet file: damaged" in problem(tmp_path)
    write(test, [0, 1])
    train.unlink()
    assert "has no Parquet files for train" in problem(tmp_path)
    write(train, [0, 1])
    monkeypatch.setattr(shards, "MOST_BYTES", 1000)
    assert "has a row group of 0 MB" in problem(tmp_path)
    monkeypatch.setattr(shards, "find_spec", lambda name: None)
    assert 'pip install "kerasfer[parquet]"' in problem(tmp_path)


def test_commands_accept_a_folder_of_files(faces, tmp_path):
    from click.testing import CliRunner

    from kerasfer.cli import main

    output = tmp_path / "runs"
    arguments = ["data", "check", str(faces / "data"), "--output-dir", str(output)]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0, result.output
    findings = json.loads((output / "check_data" / "check.json").read_text())
    assert findings["counts"]["train"] == {"happy": 5, "sad": 5, "angry": 5}


def test_a_recipe_reads_the_options(faces):
    from kerasfer.data.loading import load_folds
    from kerasfer.recipe import load_recipe

    path = faces / "recipe.yaml"
    data = f"{{name: parquet, path: {faces}, class_names: [a, b, c]}}"
    path.write_text(f"data: {data}\nmodel: {{name: covpool}}\n")
    recipe = load_recipe(path)
    (fold,) = load_folds(recipe.data, 0, None)
    assert fold.train.class_names == ("a", "b", "c")
    assert fold.train.source.endswith("image_column=image, class_names=a/b/c")


def test_a_folder_with_pictures_is_not_taken_for_parquet(faces):
    assert dataset_in(faces) == "parquet"
    picture = faces / "data" / "happy" / "1.png"
    picture.parent.mkdir()
    picture.write_bytes(encode(0))
    assert dataset_in(faces) == "folder"
