"""Reads pictures from Parquet files, each of which stores many of them.

A picture is the value of a binary column, or the field `bytes` of a struct, as Hugging Face
Datasets writes it. Files are read by row groups, and those read last are kept in memory, so that
neighboring pictures cost one access to the disk.
"""

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from kerasfer.errors import DataError
from kerasfer.text import did_you_mean, printable

KEPT_BYTES = 256 * 1024**2  # Of row groups in memory.
MOST_BYTES = 512 * 1024**2  # Of one row group.
OPEN_FILES = 64  # Files whose metadata is kept in memory.


@dataclass(frozen=True, slots=True)
class PictureInShard:
    """Names a picture in a Parquet file.

    Args:
        path: The file.
        row: The row in the file, from 0.
        column: The column of the pictures.
    """

    path: Path
    row: int
    column: str

    def __str__(self):
        return f"{self.path}:{self.row}"

    def read(self):
        """Returns the bytes of the picture.

        Raises:
            OSError: If the file cannot be read.
            ValueError: If the file is damaged, or the row has no bytes.
        """
        shard = open_shard(self.path)
        group = int(np.searchsorted(shard.starts, self.row, side="right")) - 1
        picture = _ROW_GROUPS.get(shard, group, self.column)[self.row - int(shard.starts[group])]
        if not picture.is_valid:
            raise ValueError("its row has no bytes, so the picture is not stored in the file")
        return picture.as_py()


class ShardedPictures(Sequence):
    """Lists pictures in Parquet files without reading them. Each item is a `PictureInShard`.

    Args:
        paths: The files.
        column: The column of the pictures.
        rows: int `(n, 2)`, the number of the file and the row of each picture; `None` for all rows.
    """

    def __init__(self, paths, column, rows=None):
        self.paths = [Path(path) for path in paths]
        self.column = column
        if rows is None:
            numbers = [open_shard(path).metadata.num_rows for path in self.paths]
            files = np.repeat(np.arange(len(numbers), dtype="int32"), numbers)
            rows = np.stack([files, np.concatenate([np.arange(n) for n in numbers])], axis=1)
        self.rows = np.asarray(rows, dtype="int32")

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return self.take(index)
        file, row = self.rows[index].tolist()
        return PictureInShard(self.paths[file], row, self.column)

    def take(self, indices):
        """Returns the pictures at `indices`, an int array."""
        return ShardedPictures(self.paths, self.column, self.rows[indices])

    def shuffled(self, rng):
        """Returns a random order that reads each row group once.

        The row groups are shuffled, and then the pictures of as many consecutive row groups as fit
        in half of the memory for row groups.

        Args:
            rng: `numpy.random.Generator`.

        Returns:
            int `(n,)`, a permutation of the indices.
        """
        groups, sizes = np.empty(len(self), dtype="int64"), []
        for file in np.unique(self.rows[:, 0]):
            members, shard = self.rows[:, 0] == file, open_shard(self.paths[file])
            group = np.searchsorted(shard.starts, self.rows[members, 1], side="right") - 1
            groups[members] = group + len(sizes)
            sizes += shard.sizes(self.column)
        together = max(1, int(KEPT_BYTES // 2 // max(1, np.mean(sizes))))
        turn = rng.permutation(len(sizes))[groups] // together
        return np.lexsort([rng.random(len(self)), turn])


class Shard:
    """Holds the metadata of a Parquet file.

    Args:
        path: The file.

    Attributes:
        metadata: `pyarrow.parquet.FileMetaData`.
        starts: int `(row groups,)`, the first row of each row group.

    Raises:
        DataError: If the file is damaged or not a Parquet file.
    """

    def __init__(self, path):
        import pyarrow as pa
        from pyarrow import parquet

        self.path = path
        try:
            self.metadata = parquet.read_metadata(path)
            self.schema = self.metadata.schema.to_arrow_schema()
        except (pa.ArrowException, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else "damaged"
            raise DataError(
                f"{printable(path)} cannot be read as a Parquet file: {reason}. Get the file again."
            ) from error
        numbers = [self.metadata.row_group(i).num_rows for i in range(self.metadata.num_row_groups)]
        self.starts = np.cumsum([0, *numbers])[:-1]

    def leaf(self, column):
        """Returns the name of the binary values of a column of pictures, or `None`."""
        import pyarrow as pa

        kind = self.schema.field(column).type
        if pa.types.is_struct(kind) and (index := kind.get_field_index("bytes")) >= 0:
            column, kind = f"{column}.bytes", kind.field(index).type
        binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
        return column if binary else None

    def find_pictures(self, column=None):
        """Returns the column of the pictures.

        Args:
            column: Its name, which is checked, or `None` for the only possible one.

        Raises:
            DataError: If there is no such column, or a row group is too large.
        """
        if column is not None:
            self.check_column(column)
        names = self.schema.names if column is None else [column]
        found = [name for name in names if self.leaf(name)]
        if len(found) != 1:
            columns = ", ".join(f"{field.name} ({field.type})" for field in self.schema)
            raise DataError(
                f"{printable(self.path)} must have one column of pictures, which is binary or a "
                f"struct with the binary field bytes. Received: {columns}. Set data.image_column."
            )
        largest = max(self.sizes(found[0]), default=0)
        if largest > MOST_BYTES:
            raise DataError(
                f"{printable(self.path)} has a row group of {largest / 1e6:,.0f} MB, which does "
                f"not fit in the {MOST_BYTES >> 20} MiB for one. Write it with smaller row groups, "
                "such as row_group_size=100."
            )
        return found[0]

    def check_column(self, name):
        """Raises a `DataError` if the file has no column of this name."""
        if name not in self.schema.names:
            raise DataError(
                f"{printable(self.path)} has no column {name!r}. Its columns are: "
                f"{', '.join(self.schema.names)}.{did_you_mean(name, self.schema.names)}"
            )

    def sizes(self, column):
        """Lists the uncompressed bytes of a column in each row group."""
        paths = [self.metadata.schema.column(i).path for i in range(self.metadata.num_columns)]
        leaf = paths.index(self.leaf(column))
        return [
            self.metadata.row_group(group).column(leaf).total_uncompressed_size
            for group in range(self.metadata.num_row_groups)
        ]

    def read(self, group, column):
        """Reads a column of pictures of one row group as a `pyarrow.Array` of bytes."""
        from pyarrow import compute, parquet

        with parquet.ParquetFile(self.path, metadata=self.metadata) as file:
            table = file.read_row_group(group, columns=[self.leaf(column)], use_threads=False)
        pictures = table[column].combine_chunks()
        nested = self.leaf(column) != column
        return compute.struct_field(pictures, "bytes") if nested else pictures


def open_shard(path):
    """Returns the `Shard` of a Parquet file, which is kept until the file changes."""
    try:
        changed = os.stat(path).st_mtime_ns
    except OSError as error:
        raise DataError(f"{printable(path)} cannot be read: {error.strerror}.") from error
    return _open(path, changed)


@lru_cache(OPEN_FILES)
def _open(path, changed):
    return Shard(path)


def check_installed():
    """Checks that pyarrow is installed.

    Raises:
        DataError: If it is not.
    """
    if find_spec("pyarrow") is None:
        raise DataError(
            'Parquet files need pyarrow, which is not installed: pip install "kerasfer[parquet]".'
        )


class _RowGroups:
    """Keeps the row groups that were read last, up to a number of bytes.

    Several threads may read different row groups at the same time. One that needs a row group that
    another thread is reading waits for it.
    """

    def __init__(self, most_bytes):
        self.most_bytes = most_bytes
        self.entries = OrderedDict()  # A lock and the pictures, or no pictures yet.
        self.lock = threading.Lock()

    def get(self, shard, group, column):
        key = (shard, group, column)
        with self.lock:
            entry = self.entries.setdefault(key, [threading.Lock(), None])
            self.entries.move_to_end(key)
        with entry[0]:
            if entry[1] is None:
                entry[1] = shard.read(group, column)
                self._drop_oldest(key)
            return entry[1]

    def _drop_oldest(self, newest):
        with self.lock:
            sizes = {
                key: pictures.nbytes
                for key, (_, pictures) in self.entries.items()
                if pictures is not None
            }
            total = sum(sizes.values())
            for key, size in sizes.items():
                if total > self.most_bytes and key != newest:
                    total -= size
                    del self.entries[key]


_ROW_GROUPS = _RowGroups(KEPT_BYTES)
