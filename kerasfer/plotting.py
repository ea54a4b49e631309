"""Defines the colors, fonts and style of all figures.

Figures are drawn on `Figure` objects, without pyplot, so no global state is opened, closed or
restyled. Blue and orange are distinguishable with any color vision, in print and on dark pages.
"""

import contextlib
import sys
import warnings

import matplotlib
from matplotlib.font_manager import findfont, fontManager, get_font

from kerasfer.files import replace_file
from kerasfer.text import printable

BLUE, ORANGE = "#0b62ab", "#d2580b"
INK, SOFT_INK = "#2b333d", "#7d8793"  # The soft color is readable on white and on black.

# Class names come from users' folders; the first of these that is installed completes DejaVu.
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "WenQuanYi Micro Hei",
    "SimHei",
)


_warned = set()


@contextlib.contextmanager
def style(ink):
    """Applies the style of all figures within the block, with text and axes in color `ink`."""
    with (
        warnings.catch_warnings(),
        matplotlib.rc_context(
            {
                "font.family": _fonts(),
                "font.size": 10,
                "axes.titlesize": 11,
                "axes.titlepad": 10,
                "axes.facecolor": "white",
                "axes.edgecolor": ink,
                "axes.labelcolor": ink,
                "axes.titlecolor": ink,
                "text.color": ink,
                "xtick.color": ink,
                "ytick.color": ink,
                "axes.spines.top": False,
                "axes.spines.right": False,
                "axes.grid": True,
                "grid.color": SOFT_INK,
                "grid.alpha": 0.25,
                "legend.frameon": False,
                "lines.linewidth": 1.8,
                "lines.markersize": 4.5,
                "svg.hashsalt": "kerasfer",  # The same figure gives the same file.
            }
        ),
    ):
        # `warn_about_missing_characters` says it once, instead of once for each character.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def warn_about_missing_characters(texts):
    """Prints which font to install if no installed font has all characters of the texts.

    Args:
        texts: Strings that a figure shows. Each of them is reported once in a process.
    """
    fonts = [get_font(findfont(name)) for name in _fonts()]
    lacking = [
        text
        for text in texts
        if text not in _warned
        and any(c.isprintable() and not any(f.get_char_index(ord(c)) for f in fonts) for c in text)
    ]
    if lacking:
        _warned.update(lacking)
        print(
            f"The figures cannot show {', '.join(map(printable, lacking))}, since no installed "
            f"font has the characters. Install one of these fonts: {', '.join(CJK_FONTS)} (on "
            "Debian and Ubuntu, the package fonts-noto-cjk).",
            file=sys.stderr,
        )


def _fonts():
    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *[name for name in CJK_FONTS if name in installed][:1]]


def save(figure, path):
    """Writes a figure atomically. The suffix of `path` determines the format."""
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=160, facecolor="white")
