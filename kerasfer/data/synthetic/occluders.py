"""Paints occlusions of the face: sunglasses, a surgical mask or a hand."""

import numpy as np

from kerasfer.data.synthetic.canvas import mix, smooth
from kerasfer.data.synthetic.drawing import DARK, SIDES, paint_glasses


def paint_sunglasses(canvas, person):
    """Hides the eyes behind dark lenses."""
    paint_glasses(canvas, person, lens=(24, 22, 28))


def paint_mask(canvas, person):
    """Hides the nose, mouth and chin behind a pleated mask."""
    cloth, binding = (150, 196, 214), (216, 232, 240)
    width = person.head_width
    edge = np.array([(0.80, 0.16), (0.84, 0.45), (0.62, 0.86), (0.34, 1.1)]) * (width, 1)
    outline = np.concatenate([[(0.0, 0.06)], edge, [(0.0, 1.2)], edge[::-1] * (-1, 1)])
    loops = np.array([[(0.80, 0.18), (0.99, -0.08)], [(0.78, 0.60), (0.99, 0.12)]]) * (width, 1)
    for side in SIDES:
        for loop in loops:
            canvas.stroke(loop * (side, 1), binding, 0.03)
    canvas.fill(smooth(outline, closed=True), cloth, lift=0.04)
    canvas.stroke(smooth(outline[[1, 0, -1]]), binding, 0.05, lift=0.04)
    for y in (0.38, 0.56, 0.74):
        pleat = np.array([(-0.76 * width, y - 0.02), (0.0, y + 0.05), (0.76 * width, y - 0.02)])
        canvas.stroke(smooth(pleat), mix(cloth, DARK, 0.35), 0.03, 0.7, (0.4, 0.4), lift=0.04)


def paint_hand(canvas, person):
    """Hides the mouth behind the fingers of a hand."""
    side = person.hair_side
    skin, fold = mix(person.skin, (255, 225, 205), 0.12), mix(person.skin, DARK, 0.42)
    nail = mix(skin, (255, 235, 235), 0.5)
    level = person.mouth_level
    thumb_side = [(0.30, level), (0.62, level - 0.22), (0.86, level + 0.10)]
    palm = np.array([*thumb_side, (0.92, 1.9), (0.25, 1.9), (0.22, level + 0.42)])
    canvas.fill(smooth(palm * (side, 1), closed=True), fold, lift=0.3)
    canvas.fill(smooth(palm * (0.97 * side, 0.99), closed=True), skin, lift=0.3)
    rows = level - 0.19 + 0.15 * np.arange(4)
    tips = np.column_stack([(-0.48, -0.56, -0.53, -0.41), rows]) * (side, 1)
    knuckles = np.column_stack([np.full(4, 0.62), rows + 0.08]) * (side, 1)
    canvas.fill(np.array([tips[0], knuckles[0], knuckles[3], tips[3]]), fold, lift=0.3)
    for tip, knuckle in zip(tips, knuckles, strict=True):
        canvas.capsule(knuckle, tip, 0.18, fold, lift=0.3)
        canvas.capsule(knuckle, tip, 0.155, skin, lift=0.3)
        canvas.disc(tip - (0.02 * side, 0.0), (0.05, 0.04), nail, lift=0.3)


OCCLUDERS = {"sunglasses": paint_sunglasses, "mask": paint_mask, "hand": paint_hand}
