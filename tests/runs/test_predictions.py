import doctest

import numpy as np
import pytest

import kerasfer.runs.predictions
from kerasfer.errors import RunError
from kerasfer.runs.predictions import read_predictions, select_mistakes, write_predictions


def test_reads_back_what_was_written(tmp_path):
    path = tmp_path / "predictions.csv"
    names = ("happy", 'sad, "very"', "高兴")
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 5).astype("float32")
    targets = np.array([0, 1, 2, 0, 1])
    ids = [f"S{i:03d}/a,b.png" for i in range(5)]
    write_predictions(path, ids, targets, probabilities, names)
    read = read_predictions(path)
    assert (read.ids, read.class_names) == (ids, names)
    np.testing.assert_array_equal(read.targets, targets)
    np.testing.assert_array_equal(read.probabilities, probabilities)


def test_a_row_is_readable(tmp_path):
    path = tmp_path / "predictions.csv"
    write_predictions(path, ["a.png"], [0], [[0.25, 0.75]], ["happy", "sad"])
    assert b"\r" not in path.read_bytes()
    assert path.read_text().split() == [
        "id,target,prediction,happy,sad",
        "a.png,happy,sad,0.25,0.75",
    ]


def test_a_name_that_is_not_utf8_is_escaped(tmp_path):
    path = tmp_path / "predictions.csv"
    name = b"caf\xe9.png".decode("utf-8", "surrogateescape")
    write_predictions(path, [name], [0], [[0.25, 0.75]], ["happy", "sad"])
    assert read_predictions(path).ids == ["caf\\udce9.png"]


@pytest.mark.parametrize("text", [None, "", "a,b\n1,2\n", "id,target,prediction,x\n1,y,x,1\n"])
def test_another_file_is_one_clear_line(tmp_path, text):
    path = tmp_path / "predictions.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(RunError, match=r"predictions\.csv as `kerasfer train` writes it"):
        read_predictions(path)


def test_mistakes_come_most_confident_first():
    probabilities = [[0.6, 0.4], [0.1, 0.9], [0.2, 0.8], [0.3, 0.7]]
    assert select_mistakes(probabilities, [1, 1, 0, 0]).tolist() == [2, 3, 0]
    assert select_mistakes(probabilities, [1, 1, 0, 0], n=1).tolist() == [2]
    assert select_mistakes(probabilities, [0, 1, 1, 1]).tolist() == []


def test_the_examples_run():
    assert doctest.testmod(kerasfer.runs.predictions).failed == 0
