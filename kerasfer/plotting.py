"""Colors, fonts and style of all figures.

Figures are drawn on `Figure` objects, without pyplot, so no global state is opened, closed or
restyled. Blue and orange are distinguishable with any color vision, in print and on dark pages.
"""

import contextlib

import matplotlib
from matplotlib.font_manager import fontManager

from kerasfer.files import replace_file

BLUE, ORANGE = "#0b62ab", "#d2580b"
INK, SOFT_INK = "#2b333d", "#7d8793"  # the soft one reads on white and on black

# Class names come from users' folders; the first of these that is installed completes DejaVu.
CJK_FONTS = (
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "Microsoft YaHei",
    "PingFang SC",
    "WenQuanYi Micro Hei",
    "SimHei",
)


@contextlib.contextmanager
def style(ink):
    """Applies the style of all figures within the block, with text and axes in color `ink`."""
    installed = set(fontManager.get_font_names())
    cjk = [name for name in CJK_FONTS if name in installed][:1]
    with matplotlib.rc_context(
        {
            "font.family": ["DejaVu Sans", *cjk],
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
            "svg.hashsalt": "kerasfer",  # the same figure gives the same file
        }
    ):
        yield


def save(figure, path):
    """Writes a figure in one step; the suffix of `path` chooses the format."""
    with replace_file(path) as temporary:
        figure.savefig(temporary, dpi=160, facecolor="white")
