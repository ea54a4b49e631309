import threading
from dataclasses import replace

import numpy as np
import pytest

from kerasfer.data import load_dataset, scanning
from kerasfer.data.picture_files import PictureFiles
from kerasfer.data.scanning import scan
from kerasfer.errors import DataError


@pytest.fixture
def samples(tmp_path, tree):
    """Five drawn pictures as files, the third of them damaged."""
    names = [f"{number}.png" for number in range(5)]
    tree(*names)
    (tmp_path / "2.png").write_text("<html>")
    drawn = load_dataset("synthetic", num_samples=5, size=16)
    return replace(drawn, pictures=PictureFiles(tmp_path, names))


@pytest.mark.parametrize("block", [1, 2, 512])
def test_results_come_in_order_with_errors_in_their_place(samples, monkeypatch, block):
    monkeypatch.setattr(scanning, "BLOCK", block)
    done = []
    results = list(scan(samples, np.mean, workers=2, progress=done.append))
    expected = [samples.picture(index).mean() for index in (0, 1, 3, 4)]
    assert [result for index, result in enumerate(results) if index != 2] == expected
    assert isinstance(results[2], DataError) and "2.png cannot be read" in str(results[2])
    assert done[-1] == 5
    assert done == sorted(done)


def test_no_more_than_a_block_is_under_way(samples, monkeypatch):
    monkeypatch.setattr(scanning, "BLOCK", 2)
    started = []
    results = scan(samples, lambda picture: started.append(1), workers=1)
    next(results)
    next(results)
    assert len(started) == 2


def test_several_threads_work(samples):
    barrier = threading.Barrier(2, timeout=20)  # passes only when two decode at the same time
    many = samples.take([0, 1, 3, 4])
    assert len(list(scan(many, lambda picture: barrier.wait(), workers=2))) == 4
