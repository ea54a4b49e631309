"""Projects curves from head coordinates to a picture and fills them with a color."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw

SUPERSAMPLING = 4  # Pictures are drawn larger by this factor and averaged, for smooth edges.
STEPS = 5  # Straight segments between two control points.
BULGE = 0.75  # Depth of the face in its middle, in half head heights.


@dataclass(frozen=True)
class View:
    """The pose of the head: angles in radians, and lengths as shares of the side of the picture."""

    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0
    scale: float = 0.42  # Half the height of the head.
    x: float = 0.5  # The middle of the head.
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
    """A picture to draw on in head coordinates. The face has the shape of an ellipsoid.

    Args:
        size: int, the side of the finished picture in pixels.
        view: `View`.
        head_width: Half the width of the head, in half head heights.
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
        """Projects head coordinates `(n, 2)`, at a height of `lift` above the skin, to pixels."""
        bulge = 1 - np.square(points) @ self._flatness
        depth = BULGE * np.sqrt(np.maximum(bulge, 0)) + lift
        return points @ self._rotation[:2] + depth[:, None] * self._rotation[2] + self._middle

    def fill(self, points, color, alpha=1.0, lift=0.0):
        """Fills the polygon with the corners `points`."""
        self._polygon(self.place(points, lift), color, alpha)

    def stroke(self, points, color, width, alpha=1.0, ends=(1.0, 1.0), lift=0.0):
        """Draws a line through `points`, with the shares `ends` of its width at both ends."""
        middle = self.place(points, lift)
        along = np.empty_like(middle)
        along[1:-1] = middle[2:] - middle[:-2]
        along[0], along[-1] = middle[1] - middle[0], middle[-1] - middle[-2]
        half_width = 0.5 * self._scale * width * _taper(len(points), *ends)
        half_width /= np.maximum(np.hypot(*along.T), 1e-6)
        across = along[:, ::-1] * (-1, 1) * half_width[:, None]
        self._polygon(np.concatenate([middle + across, (middle - across)[::-1]]), color, alpha)

    def disc(self, center, radius, color, alpha=1.0, lift=0.0):
        """Fills an ellipse. `radius` is one number, or one for each axis."""
        self.fill(center + radius * circle(16), color, alpha, lift)

    def capsule(self, start, end, width, color, lift=0.0):
        """Draws a straight line with round ends."""
        ends = self.place(np.array([start, end]), lift)
        radius = 0.5 * self._scale * width
        for x, y in ends:
            self._pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=color)
        self._pen.line(ends.ravel().tolist(), fill=color, width=round(2 * radius))

    def finish(self):
        """Returns the picture at its final size as a `PIL.Image`."""
        return self.image.reduce(SUPERSAMPLING)

    def _polygon(self, points, color, alpha):
        self._pen.polygon(points.ravel().tolist(), fill=(*color, round(255 * alpha)))


def smooth(points, closed=False):
    """Returns many points on the Catmull-Rom curve through control points `(n, 2)`."""
    return _catmull_rom(len(points), closed) @ points


def mix(color, other, share):
    """Blends two RGB tuples, with a share in [0, 1] of the second one."""
    return tuple(round(a + share * (b - a)) for a, b in zip(color, other, strict=True))


@lru_cache
def circle(n):
    """Returns points on the unit circle, `(n, 2)`."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.column_stack([np.cos(angle), np.sin(angle)])


@lru_cache
def _taper(n, start, end):
    """Returns the widths `(n,)` of a stroke of width 1 in the middle."""
    along = np.linspace(-1, 1, n)
    return 1 - np.where(along < 0, 1 - start, 1 - end) * along**2


@lru_cache
def _catmull_rom(n, closed):
    """Returns the matrix that maps control points to points on their curve."""
    knots = np.eye(n)
    if closed:
        knots = np.concatenate([knots[-1:], knots, knots[:2]])
    else:  # The curvature is 0 at the ends.
        knots = np.concatenate([2 * knots[:1] - knots[1:2], knots, 2 * knots[-1:] - knots[-2:-1]])
    t = np.linspace(0, 1, STEPS, endpoint=False)[:, None]
    weights = 0.5 * np.hstack(
        [-t + 2 * t**2 - t**3, 2 - 5 * t**2 + 3 * t**3, t + 4 * t**2 - 3 * t**3, t**3 - t**2]
    )
    curve = np.concatenate([weights @ knots[i : i + 4] for i in range(len(knots) - 3)])
    return curve if closed else np.concatenate([curve, knots[-2:-1]])
