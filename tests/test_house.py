"""The structure of the package: imports point in one direction, and files stay short."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from itertools import chain
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "kerasfer"

# A room may import itself and the rooms before it. The root modules are part of the order.
ROOMS = [
    "errors",
    "files",
    "text",
    "options",
    "plotting",
    "keras_internals",
    "linalg",
    "layers",
    "optimizers",
    "models",
    "data",
    "faces",
    "recipe",
    "runs",
    "evaluate",
    "report",
    "predict",
    "explain",
    "train",
    "export",
    "video",
    "tables",
    "scale",
    "demo",
    "cli",
]
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 350  # lines


def room(module):
    return module.split(".")[1] if "." in module else None


def imports(file):
    """Yields the modules that a file imports, inside of functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module == "kerasfer":
            yield from (f"kerasfer.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_to_earlier_rooms(file):
    own = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    allowed = ROOMS[: ROOMS.index(own) + 1]
    wrong = [
        module
        for module in imports(file)
        if module.startswith("kerasfer")
        and (name := room(module))
        and not name.startswith("__")
        and name not in allowed
    ]
    assert wrong == [], f"{own} must only import {', '.join(allowed)}"


def test_every_imported_package_is_declared():
    project = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    extras = project["project"]["optional-dependencies"]
    required = [*project["project"]["dependencies"], *chain.from_iterable(extras.values())]
    declared = {re.match(r"[\w.-]+", one)[0].lower() for one in required}
    # A part of pydantic, which requires one exact version of it.
    declared.add("pydantic_core")
    packages = {module.split(".")[0] for file in FILES for module in imports(file)}
    known = packages_distributions()  # Extras that are not installed have the name of the package.
    missing = [
        package
        for package in packages - set(sys.stdlib_module_names) - {"kerasfer"}
        if not declared & {name.lower().replace("_", "-") for name in known.get(package, [])}
        and package not in declared
    ]
    assert missing == []


def test_the_root_holds_few_modules():
    loose = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__"}
    assert len(loose) <= 8, sorted(loose)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_are_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST
