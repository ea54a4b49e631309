"""Draws a contact sheet with some faces of each class, to look for wrong labels and bad crops."""

import numpy as np
from matplotlib.figure import Figure

from kerasfer.data.pictures import resize
from kerasfer.errors import DataError
from kerasfer.plotting import INK, save, style

SIDE = 96  # Pixels of a face.
GAP = 6
DPI = 160  # The resolution that `save` uses.


def plot_contact_sheet(samples, path, *, faces=10, seed=0):
    """Draws some faces of each class in a row, with the name and number of pictures of the class.

    The faces are chosen at random. Unreadable pictures are skipped.

    Args:
        samples: `Samples`.
        path: The file to write. Its suffix determines the format.
        faces: int >= 1, the largest number of faces in a row.
        seed: int, the seed of the choice.
    """
    names, targets = samples.class_names, samples.targets
    pitch = SIDE + GAP
    page = np.full((len(names) * pitch - GAP, faces * pitch - GAP, 3), 255, "uint8")
    for row in range(len(names)):
        members = np.random.default_rng([seed, row]).permutation(np.flatnonzero(targets == row))
        for column, face in enumerate(_faces(samples, members, faces)):
            top, left = row * pitch, column * pitch
            page[top : top + SIDE, left : left + SIDE] = face
    counts = np.bincount(targets, minlength=len(names))
    with style(INK):
        longest = max(8, *map(len, names))
        left, edge = 0.1 * longest + 0.2, 0.1  # Inches.
        width, height = page.shape[1] / DPI, page.shape[0] / DPI
        size = np.array([left + width + edge, height + 2 * edge])
        figure = Figure(figsize=size)
        axes = figure.add_axes([*([left, edge] / size), *([width, height] / size)])
        axes.imshow(page, interpolation="lanczos")
        axes.set_xticks([])
        middles = np.arange(len(names)) * pitch + SIDE / 2
        axes.set_yticks(middles, [f"{n}\n{c:,}" for n, c in zip(names, counts, strict=True)])
        for label in axes.get_yticklabels():
            label.set_parse_math(False)  # A "$" in a class name begins no formula.
        axes.tick_params(length=0)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        save(figure, path)


def _faces(samples, members, number):
    """Yields at most `number` readable pictures among `members`, uint8 `(SIDE, SIDE, 3)`."""
    for index in members:
        if number == 0:
            return
        try:
            picture = resize(samples.picture(index), SIDE)
        except DataError:
            continue
        yield picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
        number -= 1
