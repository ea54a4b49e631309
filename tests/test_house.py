"""The structure of the package: imports point in one direction, and files stay short."""

import ast
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
    """Yields the modules of kerasfer that a file imports, inside of functions too."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("kerasfer"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kerasfer"):
            if node.module == "kerasfer":
                yield from (f"kerasfer.{alias.name}" for alias in node.names)
            else:
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
        if (name := room(module)) and not name.startswith("__") and name not in allowed
    ]
    assert wrong == [], f"{own} must only import {', '.join(allowed)}"


def test_the_root_holds_few_modules():
    loose = {file.stem for file in PACKAGE.glob("*.py")} - {"__init__"}
    assert len(loose) <= 8, sorted(loose)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_files_are_short(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= LONGEST
