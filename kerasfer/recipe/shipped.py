"""Finds the recipes that come with kerasfer by their names."""

import os
from pathlib import Path

import kerasfer

_PACKAGE = Path(kerasfer.__file__).parent


def find(path, folder=""):
    """Returns the path of a file that a user names.

    Args:
        path: A path, or the name of a recipe that comes with kerasfer, such as `"quickstart"`.
        folder: Subfolder of the recipes to look into: `"tables"` for tables.

    Returns:
        The path of the shipped recipe if `path` is its name, and otherwise `path`. A file in the
        working folder with this name, with or without the suffix `.yaml`, has priority.

    Example:

    >>> find("quickstart").name
    'quickstart.yaml'
    """
    path = Path(path)
    if len(path.parts) == 1 and not path.suffix and not os.path.exists(path):
        shipped = _folder() / folder / f"{path.name}.yaml"
        if os.path.isfile(shipped) and not os.path.exists(f"{path}.yaml"):
            return shipped
    return path


def names(folder=""):
    """Lists the names of the recipes that come with kerasfer."""
    return sorted(path.stem for path in (_folder() / folder).glob("*.yaml"))


def _folder():
    # A wheel contains them in the package, and the repository next to it.
    installed = _PACKAGE / "recipes"
    return installed if installed.is_dir() else _PACKAGE.parent / "recipes"
