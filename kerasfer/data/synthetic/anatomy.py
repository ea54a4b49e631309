"""Computes the curves of a face from facial action units.

For every part of the face, a function maps a person and the activations of action units to control
points. Points are `(n, 2)` arrays in head coordinates: the origin is the middle of the head, x
points to the right of the picture, y points down, and the unit is half the height of the head. For
parts that exist twice, the points are those of the part at x > 0. The other part is a mirror image
with the activations of its own side.

Source: P. Ekman, W. V. Friesen, J. C. Hager, Facial Action Coding System, 2002.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

ACTION_UNITS = {
    1: "inner brow raiser",
    2: "outer brow raiser",
    4: "brow lowerer",
    5: "upper lid raiser",
    6: "cheek raiser",
    7: "lid tightener",
    9: "nose wrinkler",
    10: "upper lip raiser",
    12: "lip corner puller",
    15: "lip corner depressor",
    16: "lower lip depressor",
    17: "chin raiser",
    20: "lip stretcher",
    23: "lip tightener",
    24: "lip pressor",
    25: "lips part",
    26: "jaw drop",
    43: "eye closure",
}


class Actions(dict):
    """The activations of action units, `{unit: strength in [0, 1]}`. Missing units are 0."""

    def __missing__(self, unit):
        return 0.0


@dataclass(frozen=True)
class Person:
    """The appearance of a person.

    Lengths are in half head heights, and colors are RGB tuples in [0, 255].
    """

    head_width: float = 0.76
    jaw: float = 0.8  # Width of the jaw, relative to the head.
    eye_distance: float = 0.34  # From the middle of the face to the pupil.
    eye_width: float = 0.175
    eye_height: float = 1.0  # Relative to the average.
    eye_level: float = -0.10
    brow_height: float = 0.23  # Above the eyes.
    brow_arch: float = 0.05
    brow_thickness: float = 0.055
    nose_width: float = 0.13
    nose_level: float = 0.27
    mouth_width: float = 0.27
    mouth_level: float = 0.56
    lips: float = 1.0  # Thickness relative to the average.
    skin: tuple = (233, 190, 160)
    hair: tuple = (70, 45, 30)
    iris: tuple = (90, 60, 40)
    clothes: tuple = (70, 90, 130)
    hair_style: str = "short"
    hair_side: int = 1  # -1 mirrors the parting.
    beard: str = "none"
    glasses: str = "none"


class Eye(NamedTuple):
    """The two lids of an eye, `(5, 2)` each, from the inner to the outer corner."""

    upper: np.ndarray
    lower: np.ndarray


class Mouth(NamedTuple):
    """The four curves of a mouth, `(7, 2)` each, from the left to the right corner.

    The two edges enclose the opening.
    """

    upper_lip: np.ndarray
    upper_edge: np.ndarray
    lower_edge: np.ndarray
    lower_lip: np.ndarray


def head(person, actions):
    """Computes the outline of the head, `(12, 2)`, clockwise from the crown."""
    width, jaw, drop = person.head_width, person.head_width * person.jaw, 0.13 * actions[26]
    half = [
        (0.50 * width, -0.93),
        (0.91 * width, -0.55),
        (1.00 * width, -0.05),
        (0.10 * width + 0.88 * jaw, 0.45 + 0.3 * drop),
        (0.72 * jaw, 0.80 + 0.8 * drop),
    ]
    mirrored = [(-x, y) for x, y in reversed(half)]
    return np.array([(0.0, -1.02), *half, (0.0, 1.0 + drop), *mirrored])


def brow(person, actions):
    """Computes the middle line of a brow, `(4, 2)`, from its inner to its outer end."""
    a, middle, level = actions, person.eye_distance, person.eye_level - person.brow_height
    together = 0.055 * a[4] + 0.02 * a[9]
    lowered = a[4] * (1 - 0.7 * a[1])  # With unit 1, unit 4 mainly draws the brows together.
    inner = level - 0.25 * person.brow_arch - 0.19 * a[1] + 0.15 * lowered + 0.07 * a[9]
    bend = level - 0.75 * person.brow_arch - 0.07 * a[1] - 0.08 * a[2] + 0.09 * lowered
    arch = level - person.brow_arch - 0.15 * a[2] + 0.03 * a[4] + 0.01 * a[6]
    outer = level + 0.03 - 0.11 * a[2] + 0.03 * a[1] * a[4] + 0.02 * a[6]
    x = middle + np.array([-0.19 - together, -0.07 - 0.6 * together, 0.07, 0.21])
    return np.column_stack([x, [inner, bend, arch, outer]])


def eye(person, actions):
    """Computes the lids of an eye."""
    a, across = actions, np.linspace(-1, 1, 5)
    rise = 0.088 + 0.060 * a[5] - 0.014 * a[6] - 0.032 * a[7] - 0.012 * a[9] - 0.07 * a[43]
    sink = 0.050 + 0.010 * a[5] - 0.040 * a[6] - 0.024 * a[7] - 0.018 * a[9]
    bow = np.sqrt(np.maximum(1 - across**2, 0))
    # In sadness the inner end of the upper lid is raised and the outer end is lowered.
    slant = 0.022 * a[1] * (1 - a[5]) * across
    x = person.eye_distance + person.eye_width * across
    corners = person.eye_level - 0.012 * across
    upper = corners - person.eye_height * max(rise, 0.012) * bow + slant
    lower = corners + person.eye_height * max(sink, 0.006) * bow + slant
    return Eye(np.column_stack([x, upper]), np.column_stack([x, lower]))


def nose(person, actions):
    """Computes the wing of the nose, `(4, 2)`, from its top to the nostril."""
    lift = 0.055 * actions[9] + 0.025 * actions[10]
    width = person.nose_width * (1 + 0.18 * actions[9] + 0.08 * actions[12] + 0.08 * actions[10])
    x = width * np.array([0.80, 1.05, 0.85, 0.40])
    y = person.nose_level + np.array([-0.10, -0.02, 0.04, 0.02]) - lift
    return np.column_stack([x, y])


def mouth(person, left, right):
    """Computes the curves of the mouth, each half with the activations of its side."""
    halves = zip(_half_mouth(person, left), _half_mouth(person, right), strict=True)
    curves = []
    for left_half, right_half in halves:
        middle = (left_half[:1] + right_half[:1]) / 2
        curves.append(np.concatenate([left_half[:0:-1] * (-1, 1), middle, right_half[1:]]))
    return Mouth(*curves)


def _half_mouth(person, a):
    """Computes the right half of the curves of the mouth, `(4, 2)` each, from the middle."""
    level, round_jaw = person.mouth_level, a[26] * (1 - a[12])  # Unit 12 keeps lips from rounding.
    widen = 0.42 * a[12] + 0.36 * a[20] + 0.06 * a[15] + 0.10 * a[16]
    narrow = 0.30 * round_jaw + 0.14 * a[23] + 0.12 * a[24] + 0.06 * a[17]
    width = person.mouth_width * (1 + widen - narrow)
    middle = level + 0.035 * (a[12] - a[15]) - 0.05 * a[17] - 0.04 * a[10] - 0.02 * a[9]
    corner = level - 0.135 * a[12] + 0.10 * (a[15] + a[26]) + 0.03 * a[20] - 0.02 * a[17]
    out = np.array([0.0, 0.30, 0.70, 1.0])
    line = middle + (corner - middle) * out**2

    thin = 1 - 0.35 * a[23] - 0.65 * a[24] - 0.25 * a[20] - 0.25 * a[12]
    lip = 0.055 * person.lips * max(thin, 0.2)
    apart = 1 - a[24]
    rise = apart * (0.012 * a[25] + 0.055 * a[10] + 0.08 * round_jaw + 0.02 * a[20])
    sink = apart * (0.085 * a[25] + 0.27 * a[26] + 0.06 * a[16] + 0.025 * a[20])
    box = max(a[10], a[12], a[16], a[20])  # Stretched lips open like a box.
    shape = (1 - out ** (2 + 3 * box)) ** (0.5 + 0.5 * box)
    upper_edge, lower_edge = line - rise * shape, line + sink * shape

    upper_lip = upper_edge - lip * np.array([0.75, 1.0, 0.55, 0.0])
    lower_lip = lower_edge + 1.25 * lip * np.array([1.0, 0.95, 0.55, 0.0])
    heights = (upper_lip, upper_edge, lower_edge, lower_lip)
    return [np.column_stack([width * out, y]) for y in heights]


def wrinkles(person, actions):
    """Lists the folds of one side as pairs of control points `(3, 2)` and a depth in [0, 1]."""
    a, level = actions, person.eye_level
    wing, corner = nose(person, a)[0], _half_mouth(person, a)[1][-1]
    furrow = brow(person, a)[0]
    bridge, forehead = (0.0, level), (0.0, level - person.brow_height - 0.02)
    under_eye = (person.eye_distance, level)
    temple = (person.eye_distance + person.eye_width + 0.05, level)
    nasolabial = [wing + (0.03, 0.0), (wing + corner) / 2 + (0.10, -0.03), corner + (0.07, 0.02)]
    chin = (0.0, 0.775)
    folds = (
        (nasolabial, 0.9 * a[12] + 0.8 * a[9] + 0.8 * a[10] + 0.3 * a[20] + 0.25 * a[15]),
        (
            _around(furrow, (-0.055, -0.06), (-0.075, 0.02), (-0.06, 0.10)),
            a[4] * (1 - 0.4 * a[2]) + 0.5 * a[9],
        ),
        (_around(bridge, (0.0, 0.045), (0.06, 0.03), (0.10, -0.03)), a[9]),
        (_around(bridge, (0.0, 0.115), (0.07, 0.10), (0.12, 0.03)), a[9]),
        (_around(forehead, (0.0, -0.20), (0.20, -0.23), (0.42, -0.20)), 0.7 * a[2]),
        (_around(forehead, (0.0, -0.29), (0.18, -0.31), (0.36, -0.28)), 0.7 * a[2]),
        (_around(forehead, (0.0, -0.16), (0.07, -0.17), (0.15, -0.13)), a[1] * (1 - a[2])),
        (_around(temple, (0.0, 0.0), (0.05, -0.025), (0.09, -0.06)), 0.8 * a[6]),
        (_around(temple, (0.0, 0.0), (0.05, 0.025), (0.09, 0.06)), 0.8 * a[6]),
        (
            _around(under_eye, (-0.15, 0.13), (0.0, 0.155), (0.16, 0.10)),
            0.7 * a[6] + 0.5 * a[7] + 0.4 * a[9],
        ),
        (_around(chin, (0.0, 0.0), (0.06, 0.01), (0.12, 0.045)), 0.9 * a[17]),
    )
    return [(np.asarray(points), min(depth, 1.0)) for points, depth in folds]


def _around(point, *offsets):
    return np.add(point, offsets)
