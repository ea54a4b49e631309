"""From what a user names, files, folders and patterns, to pictures; and names for what is made."""

import glob
from pathlib import Path

from kerasfer.data.listing import SUFFIXES, list_pictures
from kerasfer.errors import DataError


def find_pictures(names):
    """Lists the pictures that files, folders and patterns name, each once, in the given order.

    A file is taken whatever its suffix; of a folder and of what a pattern matches, the pictures.
    Folders below a folder are left out; the pattern `folder/**/*` takes them in.

    Args:
        names: sequence of strings or paths. Patterns, which a shell may have left as they are, hold
            `*`, `?`, `[...]` or `**`.

    Returns:
        A list of `Path`.

    Raises:
        DataError: something does not exist, a folder holds no picture, or a pattern matches none.

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
            missing = _what_is_missing(path, matches)
        if not pictures:
            raise DataError(missing)
        found |= dict.fromkeys(pictures)
    return list(found)


def name_outputs(pictures, folder, ending):
    """Names a file for each picture: `folder/<its stem><ending>`.

    Pictures of the same name get numbers, and no name is one of the pictures'.

    Args:
        pictures: list of paths.
        folder: where the files will be written.
        ending: such as `".annotated.png"`.

    Returns:
        A list of `Path`, all different.

    Example:

    >>> [path.name for path in name_outputs(["a/1.jpg", "b/1.jpg"], "out", ".annotated.png")]
    ['1.annotated.png', '1_2.annotated.png']
    """
    taken = {Path(picture).resolve() for picture in pictures}
    outputs = []
    for picture in pictures:
        stem, number = Path(picture).stem, 1
        output = Path(folder) / f"{stem}{ending}"
        while output.resolve() in taken:
            number += 1
            output = Path(folder) / f"{stem}_{number}{ending}"
        taken.add(output.resolve())
        outputs.append(output)
    return outputs


def _what_is_missing(path, matches):
    if not glob.has_magic(str(path)):
        return f"Expected a picture, a folder or a pattern. Received: {path}, which does not exist."
    what = "only files that are no pictures" if matches else "nothing"
    return f"The pattern {path} matches {what}: expected names that end in {', '.join(SUFFIXES)}."
