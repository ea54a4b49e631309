"""Draws synthetic faces that show the seven basic expressions.

The dataset is made from a seed, for the quickstart, for tests and for experiments with blur and
occlusion. Every face is a different person in a different pose and light, so that the classes
differ only in their facial action units.
"""

import numpy as np
from PIL import ImageFilter

from kerasfer.data.samples import SPLITS, Samples, one_hot, source_of
from kerasfer.data.synthetic.anatomy import ACTION_UNITS, Actions, Person
from kerasfer.data.synthetic.canvas import Canvas, View
from kerasfer.data.synthetic.drawing import BEARDS, GLASSES, HAIR_STYLES, paint_face
from kerasfer.data.synthetic.occluders import OCCLUDERS

EXPRESSIONS = {
    # {name: variants of the expression, each as {action unit: strength}}
    "angry": (
        {4: 1.0, 5: 0.7, 7: 0.7, 23: 1.0},
        {4: 1.0, 7: 0.9, 17: 0.4, 24: 1.0},
        {4: 1.0, 5: 0.7, 7: 0.6, 16: 0.7, 23: 0.4, 25: 0.6, 26: 0.2},
    ),
    "disgust": (
        {9: 1.0, 15: 0.7, 16: 0.7, 25: 0.3},
        {4: 0.3, 7: 0.4, 9: 1.0, 10: 1.0, 25: 0.2},
        {6: 0.4, 9: 1.0, 10: 0.6, 15: 0.7, 17: 0.7},
    ),
    "fear": (
        {1: 1.0, 2: 0.7, 4: 0.7, 5: 1.0, 20: 1.0, 26: 0.4},
        {1: 1.0, 2: 0.6, 4: 0.8, 5: 1.0, 20: 0.9, 25: 0.6},
    ),
    "happy": (
        {6: 0.8, 12: 1.0},
        {6: 0.9, 12: 1.0, 25: 0.8},
        {6: 1.0, 12: 1.0, 25: 0.8, 26: 0.35},
    ),
    "sad": (
        {1: 1.0, 4: 0.5, 15: 1.0},
        {1: 1.0, 4: 0.5, 15: 1.0, 17: 0.8},
        {1: 1.0, 4: 0.4, 15: 0.9, 43: 0.4},
    ),
    "surprise": (
        {1: 1.0, 2: 1.0, 5: 0.9, 26: 1.0},
        {1: 1.0, 2: 1.0, 5: 0.7, 25: 0.4, 26: 0.75},
    ),
    "neutral": ({},),
}
CLASS_NAMES = tuple(EXPRESSIONS)
MIDLINE_UNITS = (16, 17, 25, 26)  # These are symmetric, such as the drop of the jaw.

# Seven faces in a row, one of each class, belong to the same split. Of ten such groups, seven are
# training pictures.
SPLIT_OF_SEVEN = np.array(SPLITS)[[0, 1, 2, 0, 0, 0, 2, 0, 0, 0]]

BLACK, BROWN, CHESTNUT, BLOND = (30, 24, 26), (66, 42, 30), (110, 72, 45), (208, 168, 104)
RED, GRAY = (152, 76, 40), (150, 148, 150)
BROWN_EYES = ((84, 52, 30), (52, 34, 26))
ANY_EYES = (*BROWN_EYES, (92, 104, 62), (78, 116, 150), (110, 126, 134))
COMPLEXIONS = (
    # (skin, colors of the hair, colors of the iris)
    ((252, 218, 196), (BROWN, CHESTNUT, BLOND, RED, GRAY), ANY_EYES),
    ((242, 200, 172), (BLACK, BROWN, CHESTNUT, BLOND, GRAY), ANY_EYES),
    ((228, 180, 142), (BLACK, BROWN, CHESTNUT, GRAY), BROWN_EYES),
    ((200, 144, 106), (BLACK, BROWN, GRAY), BROWN_EYES),
    ((156, 106, 76), (BLACK, BROWN, GRAY), BROWN_EYES),
    ((112, 74, 54), (BLACK, BROWN, GRAY), BROWN_EYES),
)


def load(
    data_dir=None,
    *,
    num_samples=4200,
    seed=0,
    size=64,
    blur=None,
    occlusion=None,
    altered_splits=("test",),
):
    """Draws a balanced dataset: 70 % training, 10 % validation and 20 % test pictures.

    Face number i depends only on the seed and on i, so a larger dataset begins with the faces of a
    smaller one. Every face is a different person. With `blur` or `occlusion`, the faces of the
    altered splits equal those of the unaltered dataset, except that they are blurred or partly
    hidden. A comparison of the two datasets shows which parts of the face a model relies on.

    Args:
        data_dir: Unused. All datasets have this argument.
        num_samples: int, the number of faces. With a multiple of 70 every split is balanced.
        seed: int >= 0.
        size: int, the side of the pictures in pixels.
        blur: The standard deviation of a Gaussian blur in pixels; `None` for the slight blur of a
            camera.
        occlusion: `None`, `"sunglasses"`, `"mask"` or `"hand"`.
        altered_splits: The splits to which `blur` and `occlusion` are applied.

    Returns:
        `Samples` with uint8 pictures `(num_samples, size, size, 3)`.

    Raises:
        ValueError: If an argument is out of range or unknown.

    Example:

    >>> samples = load(num_samples=70, size=48)
    >>> samples.pictures.shape, samples.class_names[samples.targets[3]]
    ((70, 48, 48, 3), 'happy')
    """
    if num_samples < 1:
        raise ValueError(f"`num_samples` must be at least 1. Received: {num_samples}.")
    if unknown := set(altered_splits) - set(SPLITS):
        raise ValueError(f"`altered_splits` must be among {SPLITS}. Received: {sorted(unknown)}.")
    number = np.arange(num_samples)
    targets = number % len(CLASS_NAMES)
    splits = SPLIT_OF_SEVEN[number // len(CLASS_NAMES) % len(SPLIT_OF_SEVEN)]
    ids = [f"synthetic:{seed}:{i}" for i in number]
    pictures = np.empty((num_samples, size, size, 3), "uint8")
    for i, (target, split) in enumerate(zip(targets, splits, strict=True)):
        altered = {"blur": blur, "occlusion": occlusion} if split in altered_splits else {}
        rng = np.random.default_rng([seed, i])
        pictures[i] = draw_face(rng, CLASS_NAMES[target], size, **altered)
    return Samples(
        name="synthetic",
        class_names=CLASS_NAMES,
        pictures=pictures,
        labels=one_hot(targets, len(CLASS_NAMES)),
        ids=ids,
        splits=splits,
        subjects=np.array(ids),
        source=source_of(
            "synthetic",
            num_samples=num_samples,
            size=size,
            seed=seed,
            blur=blur,
            occlusion=occlusion,
        ),
    )


def draw_face(rng, expression, size=48, *, intensity=None, blur=None, occlusion=None):
    """Draws a random person in a random pose and light.

    Generators in the same state give the same person, pose and light for every expression and all
    options.

    Args:
        rng: `numpy.random.Generator`.
        expression: A key of `EXPRESSIONS`.
        size: int, the side of the picture in pixels.
        intensity: The strength of the expression, in [0, 1]; `None` for a random one in [0.5, 1].
        blur: The standard deviation of the blur in pixels; `None` for a slight random one.
        occlusion: `None` or a key of `OCCLUDERS`.

    Returns:
        uint8 `(size, size, 3)`, RGB.

    Raises:
        ValueError: If the expression or occlusion is unknown.

    Example:

    >>> from PIL import Image
    >>> faces = [draw_face(np.random.default_rng(3), name, 96) for name in EXPRESSIONS]
    >>> Image.fromarray(np.concatenate(faces, axis=1)).size
    (672, 96)
    """
    if expression not in EXPRESSIONS:
        raise ValueError(f"`expression` must be one of {CLASS_NAMES}. Received: {expression!r}.")
    if occlusion is not None and occlusion not in OCCLUDERS:
        raise ValueError(
            f"`occlusion` must be None or one of {tuple(OCCLUDERS)}. Received: {occlusion!r}."
        )
    person, view = random_person(rng), random_view(rng)
    left, right = random_actions(rng, expression, intensity)
    canvas = Canvas(size, view, person.head_width, background=muted_color(rng))
    paint_face(canvas, person, left, right)
    if occlusion is not None:
        OCCLUDERS[occlusion](canvas, person)
    return photograph(rng, canvas.finish(), view, blur)


def random_person(rng):
    """Draws the proportions, colors, hair, beard and glasses of a person."""
    skin, hairs, irises = pick(rng, COMPLEXIONS)
    return Person(
        head_width=rng.uniform(0.69, 0.82),
        jaw=rng.uniform(0.70, 0.90),
        eye_distance=rng.uniform(0.30, 0.37),
        eye_width=rng.uniform(0.155, 0.19),
        eye_height=rng.uniform(0.85, 1.15),
        eye_level=rng.uniform(-0.14, -0.06),
        brow_height=rng.uniform(0.20, 0.26),
        brow_arch=rng.uniform(0.02, 0.065),
        brow_thickness=rng.uniform(0.045, 0.095),
        nose_width=rng.uniform(0.10, 0.16),
        nose_level=rng.uniform(0.22, 0.31),
        mouth_width=rng.uniform(0.23, 0.30),
        mouth_level=rng.uniform(0.52, 0.60),
        lips=rng.uniform(0.7, 1.4),
        skin=shade_of(rng, skin),
        hair=shade_of(rng, pick(rng, hairs)),
        iris=shade_of(rng, pick(rng, irises)),
        clothes=muted_color(rng),
        hair_style=pick(rng, tuple(HAIR_STYLES)),
        hair_side=pick(rng, (-1, 1)),
        beard=pick(rng, BEARDS, (0.72, 0.10, 0.08, 0.10)),
        glasses=pick(rng, GLASSES, (0.8, 0.1, 0.1)),
    )


def random_view(rng):
    """Draws a nearly frontal pose, and the position and size of the head in the picture."""
    return View(
        yaw=np.radians(rng.uniform(-14, 14)),
        pitch=np.radians(rng.uniform(-9, 9)),
        roll=np.radians(rng.uniform(-8, 8)),
        scale=rng.uniform(0.42, 0.48),
        x=rng.uniform(0.46, 0.54),
        y=rng.uniform(0.47, 0.54),
    )


def random_actions(rng, expression, intensity=None):
    """Draws the `Actions` of the left and right half of a face that shows an expression."""
    way = pick(rng, EXPRESSIONS[expression])
    drawn = rng.uniform(0.5, 1.0)
    intensity = drawn if intensity is None else intensity
    strengths = rng.uniform(0.8, 1.1, len(ACTION_UNITS))
    twitches = rng.uniform(0.0, 0.06, len(ACTION_UNITS))  # Smallest activation of each unit.
    leanings = rng.uniform(-0.12, 0.12, len(ACTION_UNITS))
    left, right = Actions(), Actions()
    for unit, strength, twitch, leaning in zip(
        ACTION_UNITS, strengths, twitches, leanings, strict=True
    ):
        activation = max(way.get(unit, 0.0) * intensity * strength, twitch)
        leaning = 0.0 if unit in MIDLINE_UNITS else leaning
        left[unit] = min(activation * (1 - leaning), 1.0)
        right[unit] = min(activation * (1 + leaning), 1.0)
    return left, right


def photograph(rng, image, view, blur=None):
    """Blurs a drawn face, lights it from a random direction and adds sensor noise."""
    size = image.width
    drawn = rng.uniform(0.0, 0.008) * size
    image = image.filter(ImageFilter.GaussianBlur(drawn if blur is None else blur))
    grid = (np.arange(size, dtype="float32") + 0.5) / size
    across, down = (grid - view.x)[None, :], (grid - view.y)[:, None]
    angle, slope = rng.uniform(0, 2 * np.pi), rng.uniform(0, 0.6)
    light = rng.uniform(0.75, 1.15) + slope * (np.cos(angle) * across + np.sin(angle) * down)
    light -= 0.5 * (across**2 + down**2)
    tint = rng.uniform(0.96, 1.04, 3).astype("float32")
    grain = rng.uniform(1, 5) * rng.standard_normal((size, size, 1), "float32")
    pixels = np.asarray(image, "float32") * light[..., None].astype("float32") * tint + grain
    return np.clip(pixels, 0, 255).astype("uint8")


def pick(rng, choices, shares=None):
    """Draws one of `choices`, always with one random number."""
    shares = np.full(len(choices), 1 / len(choices)) if shares is None else shares
    return choices[np.searchsorted(np.cumsum(shares[:-1]), rng.random(), side="right")]


def shade_of(rng, color):
    """Varies the brightness of a color, and its hue by less."""
    change = rng.uniform(-10, 10) + rng.uniform(-4, 4, 3)
    return tuple(int(channel) for channel in np.clip(np.add(color, change), 0, 255))


def muted_color(rng):
    """Draws a color of any hue with low saturation."""
    return tuple(int(channel) for channel in rng.uniform(65, 195) + rng.uniform(-35, 35, 3))
