import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

import kerasfer.plotting as plotting
from kerasfer.evaluate import confusion_matrix
from kerasfer.evaluate.confusion_matrix import plot_confusion_matrix


def metrics(names):
    counts = (np.eye(len(names), dtype=int) * 90 + 1).tolist()
    counts[1] = [0] * len(names)  # A class without pictures.
    return {
        "class_names": names,
        "confusion_matrix": counts,
        "accuracy": 0.9,
        "accuracy_interval": [0.85, 0.95],
        "macro_recall": 0.9,
    }


@pytest.mark.parametrize("num_classes", [2, 3, 4, 8])
@pytest.mark.parametrize("length", [3, 30])
def test_the_title_is_inside_of_the_figure(tmp_path, monkeypatch, num_classes, length):
    drawn = []

    def make(**options):
        drawn.append(Figure(**options))
        return drawn[0]

    monkeypatch.setattr(confusion_matrix, "Figure", make)
    names = [f"{number}" * length for number in range(num_classes)]
    plot_confusion_matrix(metrics(names), tmp_path / "confusion_matrix.png")
    (figure,) = drawn
    figure.canvas.draw()
    title = figure._suptitle.get_window_extent()
    assert title.x0 >= 0 and title.x1 <= figure.bbox.x1 and title.y1 <= figure.bbox.y1
    assert "90.0% [85.0%, 95.0%]" in figure._suptitle.get_text()


def test_the_file_is_a_readable_picture(tmp_path):
    path = tmp_path / "confusion_matrix.png"
    plot_confusion_matrix(metrics(["a $x$ folder", "b"]), path)
    with Image.open(path) as picture:
        assert picture.format == "PNG" and picture.width == picture.height > 400


def test_missing_characters_are_reported_once(tmp_path, monkeypatch, capsys, recwarn):
    monkeypatch.setattr(plotting, "_fonts", lambda: ["DejaVu Sans"])
    monkeypatch.setattr(plotting, "_warned", set())
    for _ in range(2):
        plot_confusion_matrix(metrics(["高兴", "sad"]), tmp_path / "confusion_matrix.png")
    (line,) = capsys.readouterr().err.splitlines()
    assert "cannot show 高兴" in line and "Noto Sans CJK SC" in line and "fonts-noto-cjk" in line
    assert not [warning for warning in recwarn if "Glyph" in str(warning.message)]
