import subprocess
import sys

import matplotlib
import numpy as np
import pytest
from PIL import Image

from kerasfer.errors import RunError
from kerasfer.report.figures import best_epoch, curve_panels, plot_curves
from kerasfer.runs.history import read_history

HISTORY = """epoch,loss,accuracy,val_loss,val_accuracy,learning_rate,seconds
1,1.9,0.25,1.8,0.30,0.1,40
2,1.5,0.40,1.6,0.45,0.1,41
3,1.2,0.50,1.7,0.42,0.01,41
"""


@pytest.fixture
def history(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text(HISTORY)
    return path


def open_picture(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB"))


@pytest.mark.parametrize("num_epochs", [0, 1, 3])
def test_curves_of_any_number_of_epochs(tmp_path, history, num_epochs):
    path = tmp_path / "curves.png"
    plot_curves(read_history(history)[:num_epochs], path)
    height, width, _ = open_picture(path).shape
    assert (width, height) == (2080, 576)


def test_curves_from_the_file_and_with_missing_columns(tmp_path, history):
    plot_curves(history, tmp_path / "a.png")
    plot_curves([{"epoch": 1, "loss": 1.0}, {"epoch": 2, "loss": 0.5}], tmp_path / "b.png")
    assert open_picture(tmp_path / "a.png").shape == open_picture(tmp_path / "b.png").shape


def test_panels_are_svgs_and_skip_missing_columns(history):
    panels = curve_panels(read_history(history))
    assert list(panels) == ["Loss", "Accuracy", "Learning rate"]
    assert all(b"<svg" in svg for svg in panels.values())
    assert curve_panels(read_history(history)) == panels  # the same file each time
    assert list(curve_panels([{"epoch": 1, "loss": 1.0}])) == ["Loss"]
    assert curve_panels([]) == {}


def test_best_epoch(history):
    rows = read_history(history)
    assert best_epoch(rows) == 2
    assert best_epoch(rows, "val_loss") == 2
    assert best_epoch(rows, "loss") == 3
    assert best_epoch([{"epoch": 1, "loss": 1.0}]) is None
    assert best_epoch([]) is None


def test_history_with_gaps_and_damage(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,loss,val_loss\n1,0.5,\n2,0.4\n")
    assert np.isnan([row["val_loss"] for row in read_history(path)]).all()
    path.write_text("epoch,loss\n1,half\n")
    with pytest.raises(RunError, match=r"history\.csv.*half"):
        read_history(path)
    with pytest.raises(RunError, match="Cannot read"):
        read_history(tmp_path / "absent.csv")


def test_nothing_global_changes(tmp_path, history):
    before = dict(matplotlib.rcParams)
    plot_curves(history, tmp_path / "curves.png")
    assert dict(matplotlib.rcParams) == before


def test_pyplot_and_keras_stay_out():
    code = "import kerasfer.report, sys; print({'matplotlib.pyplot', 'keras'} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "set()"
