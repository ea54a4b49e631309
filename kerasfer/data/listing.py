"""Finds picture files and class folders, and counts skipped files."""

import os
from pathlib import Path

from kerasfer.text import printable

SUFFIXES = (
    *(".avif", ".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png"),
    *(".pnm", ".ppm", ".tif", ".tiff", ".webp"),
)
SHARD = ".parquet"
HEIC = (".heic", ".heif")
# Made by file managers, archives and network drives.
CLUTTER_FOLDERS = ("@eadir", "__macosx", "__pycache__", "lost+found", "$recycle.bin")
CLUTTER_FILES = ("thumbs.db", "desktop.ini")


def locate(path, data_dir):
    """Returns the path of a file or folder that a recipe or an argument names.

    Args:
        path: The path. A relative one is looked up in the working folder first, and in `data_dir`
            second.
        data_dir: The folder that holds the datasets.

    Returns:
        `pathlib.Path`, in `data_dir` if it exists in neither.

    Example:

    >>> locate("no/faces", "data").as_posix()
    'data/no/faces'
    """
    path = os.path.expanduser(path)
    return Path(path) if os.path.exists(path) else Path(data_dir, path)


def list_pictures(folder):
    """Lists the picture files of a folder, sorted by name, without hidden files."""
    return sorted(path for path in Path(folder).iterdir() if is_picture(path.name))


def list_class_folders(folder):
    """Maps class names to the subfolders of a folder, sorted by name.

    Hidden folders and those of file managers and archives, such as `@eaDir` and `__MACOSX`, are
    left out.
    """
    return {
        path.name: path
        for path in sorted(Path(folder).iterdir())
        if not is_clutter(path.name) and path.is_dir()
    }


def walk_pictures(folder, skipped):
    """Lists the picture files of a folder and of the folders in it, sorted by path.

    Symbolic links are followed, and each folder is visited once.

    Args:
        folder: The folder.
        skipped: A `collections.Counter`, which receives the number of files of each kind that are
            not pictures.
    """
    found, visited = [], set()
    for place, folders, names in os.walk(folder, followlinks=True):
        identity = os.path.realpath(place)
        if identity in visited:
            folders.clear()
            continue
        visited.add(identity)
        folders[:] = [name for name in folders if not is_clutter(name)]
        for name in names:
            if is_picture(name):
                found.append(Path(place, name))
            elif not is_clutter(name):
                skipped[os.path.splitext(name)[1].lower() or "no suffix"] += 1
    return sorted(found)


def find_shards(path):
    """Yields the Parquet files of a folder and of the folders in it, or the one file.

    Example:

    >>> [path.name for path in find_shards("train-0.parquet")]
    ['train-0.parquet']
    """
    path = Path(path)
    if not path.is_dir() and path.suffix == SHARD:
        yield path
    for file in path.rglob(f"*{SHARD}"):
        if not any(map(is_clutter, file.relative_to(path).parts)):
            yield file


def describe_skipped(skipped):
    """Describes the files that `walk_pictures` skipped.

    Example:

    >>> from collections import Counter
    >>> describe_skipped(Counter({".txt": 2, ".heic": 1}))
    'skipped 3 files that are not supported pictures: 2 .txt, 1 .heic (convert HEIC to JPEG)'
    """
    kinds = ", ".join(
        f"{number:,} {printable(suffix)}" + " (convert HEIC to JPEG)" * (suffix in HEIC)
        for suffix, number in skipped.most_common()
    )
    number = skipped.total()
    are = "that are not supported pictures" if number > 1 else "that is not a supported picture"
    return f"skipped {number:,} file{'s' * (number > 1)} {are}: {kinds}"


def is_clutter(name):
    """Returns whether a file or folder is hidden, or made by a file manager or an archive."""
    return name.startswith((".", "__")) or name.lower() in (*CLUTTER_FOLDERS, *CLUTTER_FILES)


def is_picture(name):
    """Returns whether a file name has the suffix of a supported picture."""
    return name.lower().endswith(SUFFIXES) and not name.startswith(".")
