"""Draws the predictions for the faces in a picture on a copy of it."""

import functools

import numpy as np
from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from kerasfer.plotting import BLUE, CJK_FONTS, INK
from kerasfer.text import percent

NUM_BARS = 3  # Bars below a face, for the most probable classes.
MIN_WIDTH = 64  # Pixels. Narrower boxes have no bars.
MIN_CROP_SIDE = 320  # Pixels. Smaller ready crops are enlarged to this side.
BACKGROUND, TRACK = "#ffffff", "#e4e9ee"
BAR, PANEL = (138, 190, 232, 255), (255, 255, 255, 205)


def draw(picture, predictions):
    """Draws boxes, labels and bars of the most probable classes on a copy of a picture.

    Bars that would hide another face are omitted. A ready crop has no box. It is enlarged if it is
    small, and the bars of all classes are drawn to the right of it.

    Args:
        picture: uint8 RGB `(height, width, 3)`.
        predictions: List of `kerasfer.predict.FacePrediction`. Bars require its `class_names`.

    Returns:
        uint8 RGB with the shape of the picture, except for ready crops.

    Example:

    >>> from kerasfer.faces import Face
    >>> from kerasfer.predict import FacePrediction
    >>> happy = FacePrediction(Face((40, 30, 70, 90)), "happy", np.array([0.9, 0.1]))
    >>> draw(np.zeros((160, 160, 3), "uint8"), [happy]).shape
    (160, 160, 3)
    """
    image = Image.fromarray(picture)  # A copy, which is drawn on.
    image = image if image.mode == "RGB" else image.convert("RGB")
    boxed = [one for one in predictions if one.face is not None]
    for one in boxed:
        _draw_bars(image, one, [other.face.box for other in boxed if other is not one])
    for one in boxed:  # Labels are drawn last, so that no bars hide them.
        _draw_box(image, one)
    for one in predictions:
        if one.face is None:
            image = _draw_crop(image, one)
    return np.asarray(image)


def upscale(picture, longest):
    """Enlarges a uint8 picture whose longest side is below `longest` pixels to that side."""
    height, width = picture.shape[:2]
    scale = longest / max(height, width)
    if scale <= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BICUBIC))


def _draw_box(image, prediction):
    x, y, width, height = prediction.face.box
    size = _text_size(image, width)
    line = max(2, round(size / 8))
    pen = ImageDraw.Draw(image)
    pen.rectangle((x, y, x + width, y + height), outline=BLUE, width=line)
    text = f"{prediction.label} {percent(prediction.probabilities.max(), 0)}"
    font = _font(text, size)
    text_width, tall = pen.textlength(text, font), round(1.4 * size)
    left = min(max(0, x), max(0, image.width - text_width - size))
    top = y - tall if y >= tall else max(0, y)
    pen.rectangle((left, top, left + text_width + 0.8 * size, top + tall), fill=BLUE)
    pen.text((left + 0.4 * size, top + tall / 2), text, font=font, fill="white", anchor="lm")


def _draw_bars(image, prediction, others):
    """Draws bars below a face, unless they would hide another face or the box is too narrow."""
    x, y, width, height = prediction.face.box
    if width < MIN_WIDTH or not prediction.class_names:
        return
    size = 0.8 * _text_size(image, width)
    best = np.argsort(-prediction.probabilities, kind="stable")[:NUM_BARS]
    row = 1.35 * size
    top = min(y + height, image.height - row * len(best) - 2)  # Inside the box at the lower edge.
    panel = (x, top, x + width, top + row * len(best) + 2)
    if any(_overlap(panel, box) for box in others):
        return
    pen = ImageDraw.Draw(image, "RGBA")
    pen.rectangle(panel, fill=PANEL)
    for number, index in enumerate(best):
        probability, name = float(prediction.probabilities[index]), prediction.class_names[index]
        upper = top + 2 + number * row
        pen.rectangle((x, upper, x + probability * width, upper + row - 2), fill=BAR)
        middle, font = upper + row / 2 - 1, _font(name, size)
        name = _shorten(pen, name, font, width - 4 * size)
        pen.text((x + 0.3 * size, middle), name, font=font, fill=INK, anchor="lm")
        right = x + width - 0.3 * size
        pen.text((right, middle), percent(probability, 0), font=font, fill=INK, anchor="rm")


def _draw_crop(image, prediction):
    """Draws the bars of all classes to the right of a ready crop."""
    image = Image.fromarray(upscale(np.asarray(image), MIN_CROP_SIDE))
    height = max(image.height, MIN_CROP_SIDE)
    page = Image.new("RGB", (image.width + height, height), BACKGROUND)
    page.paste(image, (0, (height - image.height) // 2))
    pen = ImageDraw.Draw(page)
    left, width = image.width + 0.06 * height, 0.88 * height
    title = f"{prediction.label} {percent(prediction.probabilities.max(), 0)}"
    pen.text((left, 0.09 * height), title, font=_font(title, 0.07 * height), fill=BLUE, anchor="lm")
    names = prediction.class_names
    row = 0.82 * height / max(len(names), 1)
    size = min(0.5 * row, 0.055 * height)
    for index, (name, probability) in enumerate(zip(names, prediction.probabilities, strict=False)):
        top = 0.16 * height + index * row
        font = _font(name, size)
        start = left + 0.3 * width
        shown = _shorten(pen, name, font, 0.28 * width)
        middle = top + row / 2
        pen.text((left, middle), shown, font=font, fill=INK, anchor="lm")
        lower, upper, full = middle - 0.28 * row, middle + 0.28 * row, 0.52 * width
        pen.rectangle((start, lower, start + full, upper), fill=TRACK)
        if probability * full >= 1:
            pen.rectangle((start, lower, start + float(probability) * full, upper), fill=BLUE)
        end = left + width
        pen.text((end, middle), percent(probability, 0), font=font, fill=INK, anchor="rm")
    return page


def _overlap(panel, box):
    left, top, right, bottom = panel
    x, y, width, height = box
    label = 0.2 * width  # The height of the label above the box.
    return left < x + width and x < right and top < y + height and y - label < bottom


def _text_size(image, width):
    return min(max(width / 9, 11), max(14, max(image.size) / 28))


def _shorten(pen, text, font, width):
    """Shortens a text that is wider than `width` pixels."""
    if pen.textlength(text, font) <= width:
        return text
    while text and pen.textlength(text + "…", font) > width:
        text = text[:-1]
    return text + "…"


def _font(text, size):
    wide = any(ord(letter) >= 0x2E80 for letter in text)  # Chinese, Japanese and Korean.
    return _load_font(wide, max(8, round(size)))


@functools.lru_cache(maxsize=64)
def _load_font(wide, size):
    installed = set(font_manager.fontManager.get_font_names()) if wide else ()
    family = next((name for name in CJK_FONTS if name in installed), "DejaVu Sans")
    return ImageFont.truetype(font_manager.findfont(family), size)
