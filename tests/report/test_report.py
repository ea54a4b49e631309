import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from kerasfer.errors import KerasferError, RunError
from kerasfer.evaluate.metrics import classification_metrics
from kerasfer.report import write_folds_report, write_report

EVIL = "<script>alert('a')</script>"
RECIPE = """name: fer2013_obsr
data: {name: fer2013}
description: As published.
reproduces: {paper: obsr, table: 3, row: OBSR-Net, accuracy: 77.65}
model: {name: obsr}
train: {monitor: val_loss}
"""
ENVIRONMENT = {"backend": "jax", "backend_version": "0.10.2", "seconds": 3725.0, "seed": 0}
HISTORY = "epoch,loss,accuracy,val_loss,val_accuracy\n1,2,0.2,2,0.2\n2,1,0.5,1.5,0.4\n"


def write_run(folder, *, names=("angry", "happy", "sad"), hits=75, leaking=False, full=True):
    """Leaves a run of 100 pictures behind, `hits` of them right."""
    folder.mkdir(parents=True)
    targets = np.arange(100) % len(names)
    predictions = np.where(np.arange(100) < hits, targets, (targets + 1) % len(names))
    metrics = classification_metrics(
        np.eye(len(names))[predictions],
        targets,
        names,
        dataset="fer2013",
        split="test",
        protocol="official",
        leaking=leaking,
    )
    (folder / "metrics.json").write_text(json.dumps(metrics))
    if full:
        (folder / "recipe.yaml").write_text(RECIPE)
        (folder / "environment.json").write_text(json.dumps(ENVIRONMENT))
        (folder / "history.csv").write_text(HISTORY)
    return folder


def read_page(path):
    """Returns the page's HTML and its text, with single spaces."""
    html = path.read_text(encoding="utf-8")
    text = re.sub(r"<style>.*?</style>", "", html, flags=re.DOTALL)
    return html, " ".join(re.sub(r"<[^>]*>", " ", text).replace("\u202f", " ").split())


class Balance(HTMLParser):
    """Fails where a tag closes that is not the last one opened."""

    VOID = ("meta", "img", "br")

    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attributes):
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_report_compares_the_result_with_the_paper(tmp_path):
    html, text = read_page(write_report(write_run(tmp_path / "run")))
    assert "75.00 %" in text
    assert "65.7 % – 82.5 % (95 % interval), 100 pictures" in text  # Wilson, 75 of 100
    assert "Macro recall" in text
    assert "77.65 %" in text
    assert "this run: 2.65 points lower" in text
    assert "Table 3, OBSR-Net" in text
    assert "lies inside the 95 % interval" in text
    assert "1 h 2 min" in text
    assert "jax 0.10.2" in text
    assert "Epoch 2 is the best epoch by val_loss" in text
    assert "Data leakage" not in text
    assert html.count("data:image/svg+xml;base64,") == 2  # no learning rate was recorded
    assert "row: OBSR-Net" in html


def test_a_paper_outside_the_interval_is_said_to_be(tmp_path):
    _, text = read_page(write_report(write_run(tmp_path / "run", hits=50)))
    assert "lies outside the 95 % interval" in text
    assert "27.65 points" in text


def test_is_whole_in_itself(tmp_path):
    picture = np.full((48, 48, 3), 128, "uint8")
    mistakes = [
        {
            "picture": shape,
            "id": "a.png",
            "target": "sad",
            "prediction": "angry",
            "probability": 0.987,
        }
        for shape in (picture, picture[..., 0], np.repeat(picture, 10, axis=0))
    ]
    html, text = read_page(write_report(write_run(tmp_path / "run"), mistakes=mistakes))
    assert "sad, predicted as angry 99 % a.png" in text
    assert html.count("data:image/png;base64,") == 3
    assert "://" not in html
    assert "<script" not in html
    page = Balance()
    page.feed(html)
    assert not page.open
    assert all(source.startswith("data:image/") for source in page.sources)


def test_heat_maps_of_the_run_are_inside_the_page(tmp_path):
    folder = write_run(tmp_path / "run")
    assert "Heat maps" not in read_page(write_report(folder))[1]
    (folder / "heat_maps.png").write_bytes(b"drawn")
    html, text = read_page(write_report(folder))
    assert "Heat maps" in text
    assert 'src="data:image/png;base64,ZHJhd24="' in html


def test_text_of_users_is_escaped(tmp_path):
    run_dir = write_run(tmp_path / "run", names=(EVIL, "b"), full=False)
    recipe = RECIPE.replace("As published.", f'"{EVIL}"')
    (run_dir / "recipe.yaml").write_text(recipe)
    mistake = {"id": EVIL, "target": EVIL, "prediction": EVIL, "probability": 1.0}
    picture = np.zeros((8, 8), "uint8")
    html, _ = read_page(write_report(run_dir, mistakes=[{"picture": picture, **mistake}]))
    assert "<script" not in html
    assert html.count("&lt;script&gt;") > 8


def test_a_leaking_protocol_is_said_aloud(tmp_path):
    _, text = read_page(write_report(write_run(tmp_path / "a", leaking=True)))
    assert "Data leakage" in text
    _, text = read_page(write_report(write_run(tmp_path / "b"), leaking=True))
    assert "Data leakage" in text


def test_metrics_alone_are_enough(tmp_path):
    html, text = read_page(write_report(write_run(tmp_path / "run", full=False)))
    assert "75.00 %" in text
    for heading in ("Training", "Comparison with the paper", "The recipe", "Most confident errors"):
        assert heading not in text
    assert "None" not in html


def test_an_unfinished_run_gives_one_line(tmp_path):
    with pytest.raises(RunError, match="is not a finished run, since it has no metrics.json"):
        write_report(tmp_path)
    with pytest.raises(RunError, match="finished folds"):
        write_folds_report(tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("metrics.json", '{"a'),
        ("metrics.json", ""),
        ("environment.json", "[1]"),
        ("history.csv", "epoch,loss\n1,half\n"),
        ("recipe.yaml", "a: ["),
        ("recipe.yaml", "- a"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path, name, text):
    run_dir = write_run(tmp_path / "run")
    (run_dir / name).write_text(text)
    with pytest.raises(KerasferError, match=name) as caught:
        write_report(run_dir)
    assert "\n" not in str(caught.value)


def test_folds_are_summed_up_above_them(tmp_path):
    for i, hits in enumerate([70, 80, 90, 70, 80, 90, 70, 80, 90, 70, 80]):
        write_run(tmp_path / f"fold_{i}", hits=hits)
    html, text = read_page(write_folds_report(tmp_path))
    summary = json.loads((tmp_path / "metrics.json").read_text())
    assert summary["num_samples"] == 1100
    assert [fold["name"] for fold in summary["folds"]] == [f"fold_{i}" for i in range(11)]
    assert "mean of 11 folds 79.09 % ± 8.31 % standard deviation" in text
    assert 'href="fold_10/report.html"' in html
    assert (tmp_path / "confusion_matrix.png").exists()
    assert "fer2013_obsr" in text
    assert json.loads((tmp_path / "environment.json").read_text())["seconds"] == 11 * 3725

    write_run(tmp_path / "fold_11")
    assert "mean of 12 folds" in read_page(write_folds_report(tmp_path))[1]
    assert json.loads((tmp_path / "environment.json").read_text())["seconds"] == 12 * 3725
