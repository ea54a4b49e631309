import errno
import json

import pytest

from kerasfer.errors import RunError
from kerasfer.files import read_json, replace_file, write_json, write_text


def test_the_new_content_replaces_the_old(tmp_path):
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


def test_a_full_disk_keeps_the_old_content_and_gives_one_line(tmp_path, monkeypatch):
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


def test_files_of_a_killed_run_are_overwritten(tmp_path):
    path = tmp_path / "model.keras"
    with replace_file(path) as temporary:
        temporary.write_text("first")
    temporary.write_text("half a file of a killed run")
    write_text(path, "second")
    assert path.read_text() == "second"
    assert list(tmp_path.iterdir()) == [path]


def test_a_planted_link_is_not_followed(tmp_path):
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    (tmp_path / ".partial.a.txt").symlink_to(precious)
    write_text(tmp_path / "a.txt", "new")
    assert precious.read_text() == "mine"
    assert (tmp_path / "a.txt").read_text() == "new"
    assert not (tmp_path / "a.txt").is_symlink()


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError(errno.ENOENT, "No such file or directory", "other.png"),
        OSError("image file is truncated"),
        ConnectionRefusedError(errno.ECONNREFUSED, "Connection refused"),
    ],
)
def test_errors_about_something_else_pass_unchanged(tmp_path, error):
    with pytest.raises(type(error)) as caught, replace_file(tmp_path / "a.png") as temporary:
        temporary.write_text("new")
        raise error
    assert caught.value is error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError("Can't write data (errno = 28, error message = 'No space left on device')"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
    ],
)
def test_errors_of_the_disk_name_the_file(tmp_path, error):
    with pytest.raises(RunError, match="Cannot write .*a.png"), replace_file(tmp_path / "a.png"):
        raise error


def test_names_that_are_not_utf8_are_escaped(tmp_path):
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    write_json(tmp_path / "a.json", {"name": name})
    assert "caf\\udce9" in (tmp_path / "a.json").read_text(encoding="utf-8")
    assert read_json(tmp_path / "a.json") == {"name": name}


def test_json_is_utf8_and_refuses_nan(tmp_path):
    path = tmp_path / "metrics.json"
    write_json(path, {"class": "高兴", "recall": 0.5})
    assert "高兴" in path.read_text(encoding="utf-8")
    assert json.loads(path.read_text(encoding="utf-8")) == {"class": "高兴", "recall": 0.5}
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"recall": float("nan")})
    assert json.loads(path.read_text(encoding="utf-8"))["recall"] == 0.5
