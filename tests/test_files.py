import errno
import json

import pytest

from kerasfer.errors import RunError
from kerasfer.files import replace_file, write_json, write_text


def test_the_new_content_takes_the_place_of_the_old(tmp_path):
    path = tmp_path / "model.keras"
    path.write_text("old")
    with replace_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".keras"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt()])
def test_a_failure_leaves_the_old_content_and_passes_on(tmp_path, error):
    path = tmp_path / "metrics.json"
    path.write_text("old")
    with pytest.raises(type(error)), replace_file(path) as temporary:
        temporary.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_content_and_says_so_in_one_line(tmp_path, monkeypatch):
    def refuse(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    path = tmp_path / "metrics.json"
    path.write_text("old")
    monkeypatch.setattr("os.fsync", refuse)
    with pytest.raises(RunError, match=r"metrics\.json: No space left on device.*intact") as caught:
        write_text(path, "new")
    assert "\n" not in str(caught.value)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_one_line(tmp_path):
    with pytest.raises(RunError, match="No such file or directory"):
        write_text(tmp_path / "absent" / "a.txt", "text")


def test_what_a_killed_run_left_is_overwritten(tmp_path):
    path = tmp_path / "model.keras"
    with replace_file(path) as temporary:
        temporary.write_text("first")
    temporary.write_text("half a file of a killed run")
    write_text(path, "second")
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_utf8_and_refuses_nan(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"class": "高兴", "recall": 0.5})
    assert "高兴" in path.read_text(encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == {"class": "高兴", "recall": 0.5}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"recall": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["recall"] == 0.5
