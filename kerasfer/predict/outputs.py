"""Finds input pictures by file, folder or pattern, and chooses the names of output files."""

import glob
from pathlib import Path

from kerasfer.data.listing import SUFFIXES, list_pictures
from kerasfer.errors import DataError


def find_pictures(names):
    """Lists the pictures of files, folders and patterns, each once, in the given order.

    A file is listed even if it does not have the suffix of a picture. In folders and among the
    matches of a pattern, other files are ignored. Subfolders are not searched. Use the pattern
    `folder/**/*` to search them.

    Args:
        names: Sequence of strings or paths. Patterns contain `*`, `?`, `[...]` or `**`.

    Returns:
        A list of `Path`.

    Raises:
        DataError: If a file does not exist, a folder contains no picture, or a pattern matches
            no picture.

    Example:

    >>> from tempfile import mkdtemp
    >>> folder = Path(mkdtemp())
    >>> for name in ("b.png", "a.jpg", "notes.txt"):
    ...     (folder / name).touch()
    >>> [path.name for path in find_pictures([folder])]
    ['a.jpg', 'b.png']
    """
    found = {}
    for name in names:
        path = Path(name)
        if path.is_dir():
            pictures = list_pictures(path)
            missing = f"Expected pictures in {path}, but none ends in {', '.join(SUFFIXES)}."
        elif path.exists():
            pictures, missing = [path], ""
        else:
            matches = sorted(Path(match) for match in glob.glob(str(name), recursive=True))
            pictures = [path for path in matches if path.suffix.lower() in SUFFIXES]
            missing = _describe_missing(path, matches)
        if not pictures:
            raise DataError(missing)
        found |= dict.fromkeys(pictures)
    return list(found)


class OutputNames:
    """Chooses unique names for output files, `folder/<stem of the picture><ending>`.

    The names for pictures with the same stem are numbered. An output file never has the path of
    an input picture.

    Args:
        pictures: List of the paths of the input pictures.
        folder: The folder of the output files.
        ending: The end of each name, such as `".annotated.png"`.

    Example:

    >>> names = OutputNames(["a/1.jpg", "b/1.jpg"], "out", ".annotated.png")
    >>> [names.take(path).name for path in ("a/1.jpg", "b/1.jpg")]
    ['1.annotated.png', '1_2.annotated.png']
    """

    def __init__(self, pictures, folder, ending):
        self.folder = Path(folder)
        self.ending = ending
        self._taken = {Path(picture).resolve() for picture in pictures}

    def take(self, picture, face=1):
        """Returns an unused path for the output of a picture, or of one of its faces.

        Args:
            picture: The path of the picture.
            face: The number of the face. From 2 on it is part of the name, as in `.face2`.

        Returns:
            A `pathlib.Path`.
        """
        stem, number = Path(picture).stem + (f".face{face}" if face > 1 else ""), 1
        output = self.folder / f"{stem}{self.ending}"
        while output.resolve() in self._taken:
            number += 1
            output = self.folder / f"{stem}_{number}{self.ending}"
        self._taken.add(output.resolve())
        return output


def _describe_missing(path, matches):
    if not glob.has_magic(str(path)):
        return f"Expected a picture, a folder or a pattern. Received: {path}, which does not exist."
    what = "only files that are not pictures" if matches else "nothing"
    return f"The pattern {path} matches {what}. Expected names that end in {', '.join(SUFFIXES)}."
