"""Projects curves in head coordinates to a picture and fills them with colour."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLING = 4  # drawn this much larger and averaged, which smooths the edges
STEPS = 5  # straight pieces between two control points
BULGE = 0.75  # how far the middle of the face stands out, in half head heights


@dataclass(frozen=True)
class View:
    """How the head is seen: angles in radians, the rest in shares of the picture's side."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = 0.42  # half the height of the head
    x: float = 0.5  # middle of the head
    y: float = 0.52

    @property
    def rotation(self):
        """The first two rows of the rotation of the head, `(2, 3)`."""
        cos_yaw, sin_yaw = np.cos(self.yaw), np.sin(self.yaw)
        cos_pitch, sin_pitch = np.cos(self.pitch), np.sin(self.pitch)
        cos_roll, sin_roll = np.cos(self.roll), np.sin(self.roll)
        turned = np.array(
            [
                [cos_yaw, 0.0, sin_yaw],
                [-sin_pitch * sin_yaw, cos_pitch, sin_pitch * cos_yaw],
            ]
        )
        return np.array([[cos_roll, -sin_roll], [sin_roll, cos_roll]]) @ turned


class Canvas:
    """A picture to draw on in head coordinates, where the face bulges like an ellipsoid.

    Args:
        size: int, side of the finished picture in pixels.
        view: `View`.
        head_width: half the width of the head, in half head heights.
        background: RGB tuple.
    """

    def __init__(self, size, view, head_width, background):
        self.size = size
        self.side = SUPERSAMPLING * size
        self.image = Image.new("RGB", (self.side, self.side), background)
        self._pen = ImageDraw.Draw(self.image, "RGBA")
        self._flatness = np.array([head_width**-2, 1.0])
        self._rotation = (view.scale * self.side * view.rotation).T
        self._middle = (view.x * self.side, view.y * self.side)
        self._scale = view.scale * self.side

    def place(self, points, lift=0.0):
        """Projects `(n, 2)` head coordinates to pixels; `lift` raises them above the skin."""
        bulge = 1 - np.square(points) @ self._flatness
        depth = BULGE * np.sqrt(np.maximum(bulge, 0)) + lift
        return points @ self._rotation[:2] + depth[:, None] * self._rotation[2] + self._middle

    def fill(self, points, colour, alpha=1.0, lift=0.0):
        """Fills the polygon through `points`."""
        self._polygon(self.place(points, lift), colour, alpha)

    def stroke(self, points, colour, width, alpha=1.0, ends=(1.0, 1.0), lift=0.0):
        """Draws a line through `points`; `ends` are the shares of the width left at its ends."""
        middle = self.place(points, lift)
        along = np.empty_like(middle)
        along[1:-1] = middle[2:] - middle[:-2]
        along[0], along[-1] = middle[1] - middle[0], middle[-1] - middle[-2]
        half_width = 0.5 * self._scale * width * _taper(len(points), *ends)
        half_width /= np.maximum(np.hypot(*along.T), 1e-6)
        across = along[:, ::-1] * (-1, 1) * half_width[:, None]
        self._polygon(np.concatenate([middle + across, (middle - across)[::-1]]), colour, alpha)

    def disc(self, centre, radius, colour, alpha=1.0, lift=0.0):
        """Fills an ellipse; `radius` is one number or one for each axis."""
        self.fill(centre + radius * circle(16), colour, alpha, lift)

    def capsule(self, start, end, width, colour, lift=0.0):
        """Draws a straight line with round ends."""
        ends = self.place(np.array([start, end]), lift)
        radius = 0.5 * self._scale * width
        for x, y in ends:
            self._pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=colour)
        self._pen.line(ends.ravel().tolist(), fill=colour, width=round(2 * radius))

    def finish(self):
        """Returns the picture at its final size, `PIL.Image`."""
        return self.image.reduce(SUPERSAMPLING)

    def _polygon(self, points, colour, alpha):
        self._pen.polygon(points.ravel().tolist(), fill=(*colour, round(255 * alpha)))


def smooth(points, closed=False):
    """Draws a Catmull-Rom curve through control points `(n, 2)`: returns many points on it."""
    return _catmull_rom(len(points), closed) @ points


def mix(colour, other, share):
    """Blends two RGB tuples; `share` of the other one, in [0, 1]."""
    return tuple(round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))


@lru_cache
def circle(n):
    """Points on the unit circle, `(n, 2)`."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.column_stack([np.cos(angle), np.sin(angle)])


@lru_cache
def _taper(n, start, end):
    """Widths `(n,)` of a stroke that is 1 wide in the middle."""
    along = np.linspace(-1, 1, n)
    return 1 - np.where(along < 0, 1 - start, 1 - end) * along**2


@lru_cache
def _catmull_rom(n, closed):
    """The matrix that takes control points to the points on their curve."""
    knots = np.eye(n)
    if closed:
        knots = np.concatenate([knots[-1:], knots, knots[:2]])
    else:  # the curve leaves its ends straight
        knots = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0, 1, STEPS, endpoint=False)[:, None]
    weights = 0.5 * np.hstack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    )
    curve = np.concatenate([weights @ knots[i : i + 4] for i in range(len(knots) - 3)])
    return curve if closed else np.concatenate([curve, knots[-2:-1]])
