"""Paints the face of a person with given action units, from back to front."""

import numpy as np

from kerasfer.data.synthetic import anatomy
from kerasfer.data.synthetic.canvas import circle, mix, smooth

SIDES = (-1, 1)
THIN = (0.0, 0.0)  # For strokes that become thin at both ends.
WHITE, DARK = (248, 246, 242), (38, 26, 28)

HAIRLINE_X = np.array([-1.0, -0.88, -0.5, 0.0, 0.5, 0.88, 1.0])  # In half head widths.
HAIR_STYLES = {
    # {name: (volume, lowest point at the back, heights of the hairline at HAIRLINE_X)}
    "bald": (0.0, None, None),
    "short": (0.06, None, (-0.18, -0.44, -0.63, -0.68, -0.65, -0.46, -0.18)),
    "parted": (0.10, None, (-0.15, -0.42, -0.80, -0.74, -0.60, -0.44, -0.15)),
    "receding": (0.04, None, (-0.10, -0.44, -0.84, -0.74, -0.84, -0.44, -0.10)),
    "fringe": (0.11, 0.60, (0.10, -0.40, -0.52, -0.55, -0.52, -0.40, 0.10)),
    "long": (0.12, 1.25, (0.25, -0.37, -0.70, -0.84, -0.68, -0.37, 0.25)),
    "curly": (0.22, 0.25, (-0.10, -0.42, -0.61, -0.68, -0.61, -0.42, -0.10)),
}
BEARDS = ("none", "stubble", "moustache", "full")
GLASSES = ("none", "round", "square")


def paint_face(canvas, person, left, right):
    """Paints a complete face.

    Args:
        canvas: `Canvas` to paint on.
        person: `Person`.
        left: `Actions` of the half of the face on the left of the picture.
        right: `Actions` of the other half.
    """
    sides = tuple(zip(SIDES, (left, right), strict=True))
    paint_back_hair(canvas, person)
    paint_body(canvas, person)
    paint_head(canvas, person, left)
    paint_beard(canvas, person, left, right)
    for side, actions in sides:
        paint_wrinkles(canvas, person, actions, side)
    paint_mouth(canvas, person, left, right)
    paint_nose(canvas, person, left, right)
    for side, actions in sides:
        paint_eye(canvas, person, actions, side)
    paint_front_hair(canvas, person)
    for side, actions in sides:
        paint_brow(canvas, person, actions, side)
    paint_glasses(canvas, person)


def paint_body(canvas, person):
    """Paints the neck and the shoulders."""
    neck = 0.52 * person.head_width
    shade = mix(person.skin, DARK, 0.22)
    half = [(neck, 1.17), (1.35, 1.36), (1.6, 1.8)]
    shoulders = np.array([*((-x, y) for x, y in half[::-1]), (0.0, 1.3), *half])
    throat = np.array([(-neck, 0.5), (neck, 0.5), (neck, 1.6), (-neck, 1.6)])
    canvas.fill(throat, shade, lift=-0.3)
    canvas.fill(smooth(shoulders), person.clothes, lift=-0.3)


def paint_head(canvas, person, actions):
    """Paints the ears and the head, with a soft shadow along the cheeks."""
    shade = mix(person.skin, DARK, 0.25)
    for side in SIDES:
        ear = np.array([side * 0.99 * person.head_width, 0.0])
        canvas.disc(ear, (0.12, 0.19), mix(person.skin, DARK, 0.06), lift=-0.15)
        canvas.disc(ear, (0.06, 0.12), shade, 0.6, lift=-0.15)
    outline = smooth(anatomy.head(person, actions), closed=True)
    canvas.fill(outline, mix(person.skin, shade, 0.35))
    canvas.fill(outline * (0.95, 0.97), person.skin, 0.5)
    canvas.fill(outline * (0.90, 0.94), person.skin)


def paint_back_hair(canvas, person):
    """Paints the hair behind the head."""
    volume, length, _ = HAIR_STYLES[person.hair_style]
    if length is None:
        return
    width = person.head_width + volume
    half = [
        (0.6 * width, -0.98 - 0.8 * volume),
        (width + 0.02, -0.5),
        (width + 0.04, 0.6 * length - 0.2),
        (0.8 * width, length),
    ]
    left = [(-x, y) for x, y in reversed(half)]
    outline = np.array([(0.0, -1.03 - volume), *half, (0.0, length), *left])
    canvas.fill(smooth(outline, closed=True), mix(person.hair, DARK, 0.35), lift=-0.1)


def paint_front_hair(canvas, person):
    """Paints the hair between the crown and the hairline."""
    volume, _, heights = HAIR_STYLES[person.hair_style]
    if heights is None:
        return
    width, mirror = person.head_width, (person.hair_side, 1)
    hairline = np.column_stack([width * HAIRLINE_X, heights])
    half = [
        (0.52 * (width + volume), -0.96 - 0.8 * volume),
        (0.90 * width + volume, -0.62 - 0.3 * volume),
        (width + 0.6 * volume, heights[-1] - 0.12),
    ]
    left = [(-x, y) for x, y in half]
    crown = smooth(np.array([hairline[-1], *half[::-1], (0, -1.04 - volume), *left, hairline[0]]))
    if person.hair_style == "curly":
        crown *= (1 + 0.03 * np.sin(1.9 * np.arange(len(crown))))[:, None]
    hairline = smooth(hairline)
    shadow = np.concatenate([hairline + (0, 0.035), crown])
    canvas.fill(shadow * mirror, mix(person.skin, DARK, 0.35), 0.3)
    canvas.fill(np.concatenate([hairline, crown]) * mirror, person.hair)
    gloss = smooth(np.array([(-0.60, -0.86), (-0.13, -0.95), (0.40, -0.90)])) * (width, 1)
    canvas.stroke(gloss * mirror, mix(person.hair, WHITE, 0.35), 0.07, 0.6, THIN)


def paint_beard(canvas, person, left, right):
    """Paints stubble, a moustache or a full beard around the mouth."""
    if person.beard == "none":
        return
    alpha = {"stubble": 0.22, "moustache": 0.0, "full": 0.93}[person.beard]
    if alpha:
        jaw = anatomy.head(person, left)[3:10]  # From one ear to the other.
        half = [(0.42, 0.42), (0.74, 0.36), (0.82, 0.10)]
        cheek = np.array([*((-x, y) for x, y in half[::-1]), (0.0, 0.38), *half])
        cheek *= (person.head_width, 1)
        canvas.fill(np.concatenate([smooth(jaw), smooth(cheek)]), person.hair, alpha)
    if person.beard in ("moustache", "full"):
        lip = anatomy.mouth(person, left, right).upper_lip * (1.12, 1) + (0, 0.005)
        level = person.nose_level + 0.09
        top = np.array([lip[-1] + (0, 0.01), (0.10, level), (-0.10, level), lip[0] + (0, 0.01)])
        canvas.fill(np.concatenate([smooth(lip), smooth(top)]), person.hair, 0.95)


def paint_wrinkles(canvas, person, actions, side):
    """Paints the folds of one side, whose depths depend on the action units."""
    shade = mix(person.skin, (90, 30, 25), 0.55)
    cheek_level = 0.24 - 0.05 * actions[6] - 0.04 * actions[12]
    cheek = np.array([side * (person.eye_distance + 0.08), cheek_level])
    blush = mix(person.skin, (225, 70, 70), 0.5)
    for radius in ((0.19, 0.14), (0.13, 0.09)):
        canvas.disc(cheek, radius, blush, 0.05 + 0.11 * actions[6] * actions[12])
    for points, depth in anatomy.wrinkles(person, actions):
        if depth > 0.1:
            curve = smooth(points) * (side, 1)
            canvas.stroke(curve, shade, 0.032, 0.95 * depth, THIN)


def paint_nose(canvas, person, left, right):
    """Paints the ridge, the wings and the nostrils of the nose."""
    shade = mix(person.skin, (80, 30, 25), 0.45)
    wings = [anatomy.nose(person, left) * (-1, 1), anatomy.nose(person, right)]
    ridge = np.array([(0.075, person.eye_level), (0.045, 0.05), (0.06, person.nose_level - 0.1)])
    canvas.stroke(smooth(ridge * (person.hair_side, 1)), shade, 0.035, 0.35, THIN, lift=0.06)
    tip = np.array([0.0, wings[0][1, 1] - 0.03])
    canvas.disc(tip, (0.075, 0.06), mix(person.skin, WHITE, 0.35), 0.35, lift=0.08)
    for wing in wings:
        canvas.stroke(smooth(wing), shade, 0.034, 0.9, (0.2, 0.6), lift=0.06)
        canvas.disc(wing[3] + (0, 0.005), (0.042, 0.022), mix(shade, DARK, 0.6), 0.9, lift=0.06)


def paint_mouth(canvas, person, left, right):
    """Paints the lips, and the teeth and the tongue if the mouth is open."""
    curves = anatomy.mouth(person, left, right)
    upper_lip, upper_edge, lower_edge, lower_lip = (smooth(curve) for curve in curves)
    lips = mix(mix(person.skin, (190, 40, 60), 0.42), DARK, 0.08)
    canvas.fill(np.concatenate([upper_lip, upper_edge[::-1]]), mix(lips, DARK, 0.15))
    canvas.fill(np.concatenate([lower_edge, lower_lip[::-1]]), lips)
    if np.max(lower_edge - upper_edge) > 0.035:
        drawn = max(actions[unit] for actions in (left, right) for unit in (10, 12, 20))
        bared = max(actions[unit] for actions in (left, right) for unit in (16, 20))
        paint_teeth(canvas, upper_edge, lower_edge, 0.035 + 0.05 * drawn, 0.06 * bared)
        canvas.stroke(upper_edge, mix(lips, DARK, 0.5), 0.018, 0.8)
    else:
        line = (upper_edge + lower_edge) / 2
        canvas.stroke(line, mix(lips, DARK, 0.65), 0.026, ends=(0.6, 0.6))
    chin = np.array([(-0.12, 0.0), (0.0, 0.02), (0.12, 0.0)]) + (0, curves.lower_lip[3, 1] + 0.05)
    canvas.stroke(smooth(chin), mix(person.skin, DARK, 0.3), 0.03, 0.35, THIN)


def paint_teeth(canvas, upper_edge, lower_edge, upper_teeth, lower_teeth):
    """Paints the inside of the mouth: the tongue and the visible parts of the teeth."""
    x, top, bottom = upper_edge[:, 0], upper_edge[:, 1], lower_edge[:, 1]

    def fill_between(upper, lower, color):
        outline = np.concatenate([np.column_stack([x, upper]), np.column_stack([x, lower])[::-1]])
        canvas.fill(outline, color)

    fill_between(top, bottom, (70, 18, 26))
    fill_between(np.maximum(bottom - 0.10, top), bottom, (178, 70, 75))
    fill_between(top, np.minimum(top + upper_teeth, bottom), WHITE)
    if lower_teeth > 0.01:
        fill_between(np.maximum(bottom - lower_teeth, top), bottom, mix(WHITE, DARK, 0.1))


def paint_eye(canvas, person, actions, side):
    """Paints the eyeball between the lids, and then the lids."""
    upper, lower = (smooth(curve) for curve in anatomy.eye(person, actions))
    mirror = (side, 1)
    shade = mix(person.skin, (80, 35, 30), 0.4)
    center = np.array([person.eye_distance, person.eye_level - 0.018])
    socket = np.concatenate([upper - (0, 0.05), lower[::-1] + (0, 0.01)])
    canvas.fill(socket * mirror, shade, 0.3)
    canvas.fill(np.concatenate([upper, lower[::-1]]) * mirror, WHITE)
    for radius, color in ((0.095, person.iris), (0.048, (16, 12, 14))):
        ball = center + radius * circle(24)
        top, bottom = np.interp(ball[:, 0], *upper.T), np.interp(ball[:, 0], *lower.T)
        ball[:, 1] = np.clip(ball[:, 1], top, np.maximum(top, bottom))
        canvas.fill(ball * mirror, color)
    if np.max(lower - upper) > 0.06:
        canvas.disc(center * mirror + (-0.028, -0.022), 0.02, WHITE)
    canvas.stroke((upper - (0, 0.045)) * mirror, shade, 0.02, 0.6, THIN)
    canvas.stroke(lower * mirror, mix(shade, DARK, 0.3), 0.016, 0.8, THIN)
    canvas.stroke(upper * mirror, DARK, 0.036, ends=(0.3, 0.8))


def paint_brow(canvas, person, actions, side):
    """Paints a brow that becomes thinner toward the temple."""
    curve = smooth(anatomy.brow(person, actions)) * (side, 1)
    color = mix(person.hair, DARK, 0.3)
    canvas.stroke(curve, color, person.brow_thickness, 0.95, ends=(0.75, 0.25))


def paint_glasses(canvas, person, lens=None):
    """Paints glasses, or with a `lens` color sunglasses."""
    if person.glasses == "none" and lens is None:
        return
    frame = circle(20)
    if person.glasses == "square":
        frame = np.sign(frame) * np.abs(frame) ** 0.55
    reach = (0.215, 0.17) if lens is None else (0.265, 0.215)
    across, down = person.eye_distance, person.eye_level + 0.01
    for side in SIDES:
        middle = np.array([side * across, down])
        rim = middle + frame * reach
        if lens is not None:
            canvas.fill(rim, lens, lift=0.06)
            glint = np.array([(-0.12, 0.06), (0.0, -0.10), (0.04, -0.10), (-0.08, 0.08)])
            canvas.fill(middle + glint, WHITE, 0.25, lift=0.06)
        canvas.stroke(np.concatenate([rim, rim[:2]]), DARK, 0.03, lift=0.06)
        temple = [(across + reach[0], down - 0.04), (1.02 * person.head_width, down - 0.05)]
        canvas.stroke(np.array(temple) * (side, 1), DARK, 0.035, lift=0.02)
    inner = across - reach[0]
    bridge = np.array([(-inner, down - 0.03), (0.0, down - 0.06), (inner, down - 0.03)])
    canvas.stroke(smooth(bridge), DARK, 0.032, lift=0.1)
