"""Reads the text files of datasets, such as CSV tables and lists, in several encodings."""

import codecs
import contextlib
import csv
import os
import stat

from kerasfer.errors import DataError
from kerasfer.text import printable

# Field of a CSV file: FER2013 has 9 KB of pixels in each. Above this a file is damaged.
MOST_LETTERS = 16 * 1024**2
CHUNK = 1024**2  # Bytes.
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# (offset, first bytes, what the file is)
BINARY = (
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "a gzip archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ", "an XZ archive"),
    (0, b"7z\xbc\xaf", "a 7-Zip archive"),
    (0, b"Rar!", "a RAR archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
    (0, b"%PDF", "a PDF file"),
    (0, b"\xd0\xcf\x11\xe0", "an Excel workbook"),
)
REMEDY = "Unpack the release again."


def read_text(path, remedy=REMEDY):
    """Reads a text file that is UTF-8, UTF-16 or Windows-1252.

    Args:
        path: The file.
        remedy: The advice at the end of an error message.

    Raises:
        DataError: If the file cannot be read, is not a regular file, or is not text.

    Example:

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "list.txt"
    >>> _ = path.write_bytes("café".encode("cp1252"))
    >>> read_text(path)
    'café'
    """
    with (
        _one_line_errors(path, remedy),
        open(path, newline="", encoding=_encoding(path, remedy)) as file,
    ):
        return file.read()


def read_rows(path, columns, remedy=REMEDY, *, optional=()):
    """Reads some columns of a CSV file, one row at a time.

    The header may have its columns in any order, with spaces around their names. Empty lines are
    skipped.

    Args:
        path: The file.
        columns: Names of the columns.
        remedy: The advice at the end of an error message.
        optional: Further columns, whose field is `None` if the file does not have them.

    Yields:
        The number of the line, and the list of the fields. A field that is missing at the end of
        a row is an empty string.

    Raises:
        DataError: If the file cannot be read, is not a CSV file with these columns, or a row is
            damaged. The message names the line.

    Example:

    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp()) / "faces.csv"
    >>> _ = path.write_text("emotion, Usage\\n3,Training\\n")
    >>> list(read_rows(path, ["Usage", "emotion"]))
    [(2, ['Training', '3'])]
    """
    with (
        _one_line_errors(path, remedy),
        open(path, newline="", encoding=_encoding(path, remedy)) as file,
    ):
        csv.field_size_limit(MOST_LETTERS)
        rows = csv.reader(file, skipinitialspace=True)
        header = [name.strip() for name in next(rows, ())]
        if missing := [name for name in columns if name not in header]:
            found = " ".join(", ".join(header[:20])[:200].split()) or "nothing"
            raise DataError(
                f"{printable(path)} must have the columns {', '.join(columns)}. "
                f"Missing: {', '.join(missing)}. Found: {printable(found)}. {remedy}"
            )
        wanted = [*columns, *optional]
        places = [header.index(name) if name in header else None for name in wanted]
        before = rows.line_num
        for row in rows:
            first, before = before + 1, rows.line_num
            if rows.line_num > first and any("\n" in field or "\r" in field for field in row):
                raise DataError(
                    f"{printable(path)}, line {first}: a quotation mark opens a field that spans "
                    f"{rows.line_num - first + 1:,} lines. {remedy}"
                )
            if row:
                yield first, [_field(row, place) for place in places]


def _field(row, place):
    if place is None:
        return None
    return row[place].strip() if place < len(row) else ""


@contextlib.contextmanager
def _one_line_errors(path, remedy):
    """Converts errors of reading a text file to a `DataError` of one line."""
    try:
        yield
    except (OSError, ValueError, csv.Error, MemoryError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise DataError(f"{printable(path)} cannot be read: {reason}. {remedy}") from error


def _encoding(path, remedy):
    """Finds the encoding of a file, which takes one pass over its bytes."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise DataError(f"{printable(path)} is not a regular file. {remedy}")
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open(path, "rb") as file:
        chunk = file.read(CHUNK)
        for offset, magic, what in BINARY:
            if chunk[offset:].startswith(magic):
                raise DataError(
                    f"{printable(path)} is {what}, not a text file. "
                    + ("Unpack it. " if "archive" in what else "")
                    + remedy
                )
        for bom, encoding in BOMS:
            if chunk.startswith(bom):
                return encoding
        if b"\0" in chunk[:1024]:
            # UTF-16 without a byte order mark has a zero in every other byte of English text.
            odd, even = chunk[1:1024:2].count(0), chunk[0:1024:2].count(0)
            if max(odd, even) > 100 * min(odd, even) and max(odd, even) > min(len(chunk), 1024) / 4:
                return "utf-16-le" if odd > even else "utf-16-be"
            raise DataError(f"{printable(path)} is binary, not a text file. {remedy}")
        try:
            while chunk:
                decoder.decode(chunk)
                chunk = file.read(CHUNK)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252"
    return "utf-8"
