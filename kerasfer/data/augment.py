"""Augments training pictures at random, and makes the views that are averaged at test time."""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

ERASED_AREA = (0.02, 0.33)  # As a share of the picture; Zhong et al., Random Erasing, AAAI 2020.
ERASED_ASPECT = (0.3, 1 / 0.3)
TEN_CROP_SHARE = 0.875  # Of the side, like 224 of 256.
TEN_CROP_POSITIONS = ((0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0), (0.5, 0.5))  # x, y


@dataclass(frozen=True)
class Augment:
    """Augments training pictures at random.

    Flip, crop, shift and rotation are combined in one affine map, so that each picture is resampled
    only once, directly to the input size of the model. Pixels outside of the picture repeat its
    edge.

    Args:
        flip: Whether to mirror each picture left to right with a probability of one half.
        crop: The smallest share of the area that a random crop keeps, in (0, 1]; `None` for no
            crop.
        shift: The largest shift in each direction, as a share of the side in [0, 1).
        rotation: The largest rotation in each direction, in degrees in [0, 180].
        blur: The largest radius of a Gaussian blur, as a share of the side in [0, 0.5]. Half of the
            pictures are blurred.
        brightness: The largest change of the brightness, as a share of it in [0, 1].
        contrast: The largest change of the contrast around the mean, as a share of it in [0, 1].
        erasing: The probability in [0, 1] that a rectangle is filled with noise.
        mixup: Alpha >= 0 of the beta distribution from which mixup draws the weight of each batch
            (Zhang et al., ICLR 2018). 0 turns mixup off.

    Raises:
        ValueError: If a number is outside of its range.

    Example:

    >>> augment = Augment(flip=True, rotation=10)
    >>> augment(np.zeros((2, 48, 48), "uint8"), 32, np.random.default_rng(0)).shape
    (2, 32, 32)
    """

    flip: bool = False
    crop: float | None = None
    shift: float = 0.0
    rotation: float = 0.0
    blur: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    erasing: float = 0.0
    mixup: float = 0.0

    def __post_init__(self):
        _check("crop", self.crop is None or 0 < self.crop <= 1, "in (0, 1] or None", self.crop)
        _check("shift", 0 <= self.shift < 1, "in [0, 1)", self.shift)
        _check("rotation", 0 <= self.rotation <= 180, "in [0, 180] degrees", self.rotation)
        _check("blur", 0 <= self.blur <= 0.5, "in [0, 0.5]", self.blur)
        _check("brightness", 0 <= self.brightness <= 1, "in [0, 1]", self.brightness)
        _check("contrast", 0 <= self.contrast <= 1, "in [0, 1]", self.contrast)
        _check("erasing", 0 <= self.erasing <= 1, "in [0, 1]", self.erasing)
        _check("mixup", self.mixup >= 0, "0 or larger", self.mixup)

    def __call__(self, pictures, size, rng, points=None, taken=None):
        """Augments uint8 pictures, each in its own way, and resizes them.

        Args:
            pictures: Sequence of n uint8 pictures `(height, width)` or `(height, width, 3)`.
            size: int, the side of the result in pixels.
            rng: `numpy.random.Generator`. The random numbers of one augmentation do not depend on
                whether the others are on.
            points: float `(n, points, 2)`, the landmarks of each picture in its pixels, or `None`.
            taken: bool `(batch,)` with n true values, if `pictures` are only some pictures of a
                batch: which ones. Each of them is augmented as within the whole batch. `None` for
                all pictures of the batch.

        Returns:
            uint8 `(n, size, size)` or `(n, size, size, 3)`. With `points`, a tuple of these
            pictures and the new positions of the points, float32 `(n, points, 2)`, as shares of the
            width and height of the result.
        """
        taken = np.ones(len(pictures), bool) if taken is None else np.asarray(taken)
        num = len(taken)
        flips = rng.random(num) < (0.5 if self.flip else 0)
        sides = np.sqrt(rng.uniform(1.0 if self.crop is None else self.crop, 1.0, num))
        corners = rng.random((num, 2)) * (1 - sides[:, None])
        shifts = rng.uniform(-1, 1, (num, 2)) * self.shift
        angles = np.radians(rng.uniform(-1, 1, num) * self.rotation)
        erased = rng.random(num) < self.erasing

        centers = corners + sides[:, None] / 2 + shifts  # (x, y) as shares of the picture
        drawn = (values[taken].tolist() for values in (centers, sides, angles, flips))
        maps = list(zip(pictures, zip(*drawn, strict=True), strict=True))
        varied = np.stack([warp(picture, size, *one) for picture, one in maps])
        # Streams of their own, so that runs of older versions resume with the same batches.
        for_blur, for_light = rng.spawn(2)
        if self.blur:
            radii = for_blur.uniform(0, self.blur, num) * (for_blur.random(num) < 0.5) * size
            radii = radii[taken]
            for index in np.flatnonzero(radii):
                varied[index] = blur(varied[index], radii[index].item())
        if self.brightness or self.contrast:
            factors = 1 + for_light.uniform(-1, 1, (num, 2)) * (self.brightness, self.contrast)
            for index, (brightness, contrast) in enumerate(factors[taken]):
                varied[index] = _change_light(varied[index], brightness, contrast)
        places = np.cumsum(taken) - 1
        for index in np.flatnonzero(erased):
            # A picture that is not taken uses up its random numbers too.
            _erase(varied[places[index]] if taken[index] else np.empty_like(varied[0]), rng)
        if points is None:
            return varied
        moved = [
            follow(own, picture.shape, *one)
            for own, (picture, one) in zip(points, maps, strict=True)
        ]
        return varied, np.stack(moved)

    def draw_mixup(self, num, rng):
        """Draws how mixup combines the pictures of a batch.

        Args:
            num: int, the size of the batch.
            rng: `numpy.random.Generator`.

        Returns:
            The weight of each picture, a float32, and the index of its partner, an int array
            `(num,)`. The partner has the rest of the weight.
        """
        return np.float32(rng.beta(self.mixup, self.mixup)), rng.permutation(num)


def warp(picture, size, center=(0.5, 0.5), side=1.0, angle=0.0, flip=False):
    """Crops a rotated and mirrored window from a picture and resamples it to `(size, size)`.

    Args:
        picture: uint8 `(height, width)` or `(height, width, 3)`.
        size: int, the side of the result in pixels.
        center: The center (x, y) of the window, as shares of the width and height.
        side: The sides of the window, as a share of those of the picture.
        angle: The rotation of the window in radians.
        flip: Whether to mirror the window left to right.

    Returns:
        uint8 `(size, size)` or `(size, size, 3)`.
    """
    height, width = picture.shape[:2]
    x, y = center[0] * width, center[1] * height
    half_width, half_height = side * width / 2, side * height / 2
    box = (x - half_width, y - half_height, x + half_width, y + half_height)
    if angle == 0 and min(box) >= 0 and box[2] <= width and box[3] <= height:
        # The filter of `pictures.resize`, so that training and evaluation see the same sharpness.
        image = Image.fromarray(picture).resize((size, size), Image.Resampling.BILINEAR, box=box)
        return np.asarray(image)[:, :: -1 if flip else 1]

    # An affine map does not filter, so pictures that shrink by half or more are averaged first.
    factor = round(side * min(height, width) / size)
    if factor > 1:
        picture = np.asarray(Image.fromarray(picture).reduce(factor))
        height, width, x, y = height / factor, width / factor, x / factor, y / factor

    # Source = (x, y) + turn @ scale @ (target - size / 2), in pixels.
    cos, sin = math.cos(angle), math.sin(angle)
    across, down = side * width / size * (-1 if flip else 1), side * height / size
    xx, xy, yx, yy = cos * across, -sin * down, sin * across, cos * down
    reach_x, reach_y = (abs(xx) + abs(xy)) * size / 2, (abs(yx) + abs(yy)) * size / 2

    # Crop to the pixels that the window needs. Indices outside of the picture repeat its edge.
    left, top = math.floor(x - reach_x), math.floor(y - reach_y)
    columns = np.arange(left, math.ceil(x + reach_x)).clip(0, picture.shape[1] - 1)
    rows = np.arange(top, math.ceil(y + reach_y)).clip(0, picture.shape[0] - 1)
    x, y = x - left - (xx + xy) * size / 2, y - top - (yx + yy) * size / 2
    image = Image.fromarray(picture.take(rows, axis=0).take(columns, axis=1)).transform(
        (size, size), Image.Transform.AFFINE, (xx, xy, x, yx, yy, y), Image.Resampling.BILINEAR
    )
    return np.asarray(image)


def blur(picture, radius):
    """Blurs a uint8 picture with a Gaussian whose standard deviation is `radius` pixels."""
    return np.asarray(Image.fromarray(picture).filter(ImageFilter.GaussianBlur(radius)))


def follow(points, shape, center=(0.5, 0.5), side=1.0, angle=0.0, flip=False):
    """Computes the positions of points of a picture in the window that `warp` crops.

    Args:
        points: float `(points, 2)`, x and y in pixels of the picture.
        shape: The shape of the picture.
        center: As for `warp`.
        side: As for `warp`.
        angle: As for `warp`.
        flip: As for `warp`. The points keep their order.

    Returns:
        float32 `(points, 2)`, x and y as shares of the window, which are in [0, 1] for points
        inside it.

    Example:

    >>> follow(np.array([[12.0, 24.0]]), (48, 48), flip=True)
    array([[0.75, 0.5 ]], dtype=float32)
    """
    height, width = shape[:2]
    cos, sin = math.cos(angle), math.sin(angle)
    offsets = np.asarray(points) - (center[0] * width, center[1] * height)
    turned_back = offsets @ np.array([[cos, -sin], [sin, cos]])
    across, down = side * width * (-1 if flip else 1), side * height
    return (0.5 + turned_back / (across, down)).astype("float32")


def views(images, tta):
    """Makes the views of a batch whose probabilities are averaged (test-time augmentation).

    Args:
        images: float array `(batch, size, size, channels)`, or a dict of the inputs `pictures` and
            `landmarks` for a model with both.
        tta: `"none"` for the images alone, `"flip"` for the images and their mirror images, or
            `"ten_crop"` for crops of 87.5 % of the side at the four corners and the center, resized
            to the input size, and their mirror images.

    Returns:
        A list of 1, 2 or 10 arrays of the shape of `images`, or of such dicts.

    Raises:
        ValueError: If `tta` is unknown.

    Example:

    >>> len(views(np.zeros((4, 48, 48, 3), "float32"), "ten_crop"))
    10
    """
    if isinstance(images, dict):
        pictures = views(images["pictures"], tta)
        landmarks = _landmarks_in_views(images["landmarks"], tta)
        return [
            {"pictures": view, "landmarks": points}
            for view, points in zip(pictures, landmarks, strict=True)
        ]
    if tta == "none":
        return [images]
    if tta == "flip":
        return [images, images[:, :, ::-1]]
    if tta == "ten_crop":
        at = {
            position: _resampling(images.shape[1], TEN_CROP_SHARE, position).astype(images.dtype)
            for position in (0.0, 0.5, 1.0)
        }
        crops = [
            np.einsum("yr,brcd,xc->byxd", at[y], images, at[x], optimize=True)
            for x, y in TEN_CROP_POSITIONS
        ]
        return crops + [crop[:, :, ::-1] for crop in crops]
    raise ValueError(f"`tta` must be 'none', 'flip' or 'ten_crop'. Received: tta={tta!r}.")


def _landmarks_in_views(landmarks, tta):
    """Lists the landmarks `(batch, points, 2)` in each view, as shares of its sides."""
    known = landmarks >= 0

    def mirrored(points):
        return points * (-1, 1) + (1, 0)

    if tta == "ten_crop":
        share = TEN_CROP_SHARE
        parts = [(landmarks - (1 - share) * np.array(xy)) / share for xy in TEN_CROP_POSITIONS]
    else:
        parts = [landmarks]
    if tta != "none":
        parts += [mirrored(points) for points in parts]
    return [np.where(known, points.clip(0, 1), -1).astype("float32") for points in parts]


def _resampling(size, share, position):
    """Computes the matrix `(size, size)` that enlarges a window of one axis to its full size.

    The interpolation is linear. The window covers `share` of the axis and is at its start
    (`position` 0), at its end (1) or between them.
    """
    source = (np.arange(size) + 0.5) * share + position * (1 - share) * size - 0.5
    distance = np.abs(source.clip(0, size - 1)[:, None] - np.arange(size))
    return np.maximum(1 - distance, 0)


def _change_light(picture, brightness, contrast):
    """Multiplies a uint8 picture by `brightness`, and its distance from the mean by `contrast`."""
    mean = picture.mean() * brightness
    values = (np.arange(256) * brightness - mean) * contrast + mean
    return values.round().clip(0, 255).astype("uint8")[picture]


def _erase(picture, rng):
    """Fills a random rectangle of a uint8 picture with noise, in place."""
    size = len(picture)
    area = rng.uniform(*ERASED_AREA) * size * size
    aspect = math.exp(rng.uniform(*np.log(ERASED_ASPECT)))
    height = min(size, max(1, round(math.sqrt(area * aspect))))
    width = min(size, max(1, round(math.sqrt(area / aspect))))
    top, left = rng.integers(size - height + 1), rng.integers(size - width + 1)
    window = picture[top : top + height, left : left + width]
    window[...] = rng.integers(0, 256, window.shape, dtype="uint8")


def _check(name, valid, expected, value):
    if not valid:
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={value}.")
