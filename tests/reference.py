"""Writes the README's list of public layers, optimizers and models from their docstrings.

python tests/reference.py
"""

import inspect
import re
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"
BEGIN, END = (
    "<!-- reference: written by `python tests/reference.py` -->",
    "<!-- end of reference -->",
)


def write_reference():
    """Returns the Markdown of the list."""
    import kerasfer.layers
    import kerasfer.models
    import kerasfer.optimizers

    sections = {
        "Layers": kerasfer.layers,
        "Optimizers": kerasfer.optimizers,
        "Models": kerasfer.models,
    }
    lines = ["## Reference", ""]
    for title, module in sections.items():
        lines += [f"| {title}: `{module.__name__}` | |", "|---|---|"]
        for name in sorted(module.__all__, key=str.lower):
            if callable(member := getattr(module, name)):
                lines.append(f"| `{name}` | {summary(member)} |")
        lines.append("")
    return "\n".join(lines)


def summary(member):
    """Returns the first sentence of a docstring as one line."""
    first = inspect.getdoc(member).split("\n\n")[0]
    return " ".join(first.split()).replace("|", "\\|")


def replace_reference(text):
    """Returns the README's text with the list of today."""
    pattern = re.compile(re.escape(BEGIN) + ".*?" + re.escape(END), re.DOTALL)
    return pattern.sub(lambda _: f"{BEGIN}\n{write_reference()}{END}", text)


if __name__ == "__main__":
    README.write_text(replace_reference(README.read_text(encoding="utf-8")), encoding="utf-8")
