import os

import pytest

from kerasfer.data.text_files import read_rows, read_text
from kerasfer.errors import DataError


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16"])
def test_every_usual_encoding_is_read(tmp_path, encoding):
    path = tmp_path / "list.csv"
    path.write_text("picture,label\ncafé.jpg,3\n", encoding=encoding)
    assert list(read_rows(path, ["label", "picture"])) == [(2, ["3", "café.jpg"])]
    assert "café" in read_text(path)


def test_long_fields_are_read(tmp_path):
    path = tmp_path / "long.csv"
    path.write_text("a,b\n" + "7 " * 200_000 + ",1\n")
    ((line, fields),) = read_rows(path, ["a", "b"])
    assert line == 2 and len(fields[0]) == 399_999 and fields[1] == "1"


def test_columns_may_be_optional(tmp_path):
    path = tmp_path / "few.csv"
    path.write_text("\ufeffa , b\n1,2\n\n3\n")
    assert list(read_rows(path, ["b"], optional=["c"])) == [(2, ["2", None]), (4, ["", None])]


def test_a_damaged_header_is_shown_in_one_line(tmp_path):
    path = tmp_path / "header.csv"
    path.write_text('"a\nx",b\n1,2\n')
    with pytest.raises(DataError, match="Missing: a. Found: a x, b. Unpack") as raised:
        list(read_rows(path, ["a"]))
    assert "\n" not in str(raised.value)


@pytest.mark.timeout(20)
def test_what_is_not_a_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    for path in (tmp_path / "pipe.csv", tmp_path, "/dev/zero"):
        with pytest.raises(DataError, match="is not a regular file"):
            read_text(path)
    with pytest.raises(DataError, match="none.csv cannot be read: No such file"):
        list(read_rows(tmp_path / "none.csv", ["a"]))
