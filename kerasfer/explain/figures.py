"""Draws explanations of faces, and the heat maps of a report."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kerasfer.data.pictures import resize
from kerasfer.explain.gradients import NoFeatureMap, cut
from kerasfer.explain.maps import enlarge, heat_map, shares_of_places
from kerasfer.explain.overlays import overlay, overlay_signed
from kerasfer.plotting import BLUE, INK, ORANGE, SOFT_INK, save, style

NUM_LINKS = 6  # The strongest pairs of different positions.
NUM_PICTURES = 12  # In the report.
SIDE = 3.1  # The side of a panel, in inches.


def plot_explanation(explanation, path):
    """Draws a face, its heat map, its regions or pairs of positions, and the probabilities.

    Args:
        explanation: `kerasfer.explain.Explanation`.
        path: The picture file to write. Its suffix determines the format.
    """
    panels = [_draw_face, _draw_heat]
    if explanation.regions is not None:
        panels.append(_draw_regions)
    if explanation.pairs is not None:
        panels.append(_draw_pairs)
    panels.append(_draw_probabilities)
    widths = [_WIDTHS.get(panel, 1.0) for panel in panels]
    with style(INK):
        figure = Figure(figsize=(SIDE * sum(widths), 1.22 * SIDE), layout="constrained")
        every = figure.subplots(1, len(panels), width_ratios=widths)
        for axes, draw in zip(every, panels, strict=True):
            draw(axes, explanation)
        save(figure, path)


def plot_heat_maps(model, samples, probabilities, path):
    """Draws the heat maps of the predicted classes for up to 12 pictures of all classes.

    No file is written if the model has no spatial feature map.

    Args:
        model: A functional `keras.Model` of kerasfer.
        samples: `kerasfer.data.samples.Samples`.
        probabilities: The predictions for the samples, float32 `(n, num_classes)`.
        path: The picture file to write. Its suffix determines the format.

    Returns:
        Whether the file was written.
    """
    try:
        cut(model)
    except NoFeatureMap:
        return False
    chosen = _choose_pictures(samples.targets)
    pictures = np.stack([_as_input(samples.picture(i), model.input_shape[1]) for i in chosen])
    predictions = probabilities[chosen].argmax(axis=1)
    heats = heat_map(model, pictures.astype("float32"), predictions)
    columns = 4
    rows = -(-len(chosen) // columns)
    with style(INK):
        figure = Figure(figsize=(12, 1.85 * rows), layout="constrained")
        every = np.ravel(figure.subplots(rows, columns, squeeze=False))
        for axes in every:
            axes.set_axis_off()
        for axes, i, picture, heat, predicted in zip(
            every, chosen, pictures, heats, predictions, strict=False
        ):
            axes.imshow(np.concatenate([picture, overlay(picture, heat)], axis=1))
            target = samples.targets[i]
            label, color = samples.class_names[predicted], INK
            if predicted != target:
                label, color = f"{label} (true: {samples.class_names[target]})", ORANGE
            axes.set_title(label, color=color, fontsize=10, pad=4, parse_math=False)
        save(figure, path)
    return True


def _draw_face(axes, explanation):
    _show(axes, explanation.picture, "input")


def _draw_heat(axes, explanation):
    picture = overlay(explanation.picture, explanation.heat)
    _show(axes, picture, f"heat map of {explanation.label}")
    score, random = explanation.score, explanation.random_score
    if score:
        axes.set_xlabel(
            f"insertion {score.insertion:.2f} (random {random.insertion:.2f})\n"
            f"deletion {score.deletion:.2f} (random {random.deletion:.2f})",
            size=8.5,
        )


def _draw_regions(axes, explanation):
    """Draws each region with its attention score. The rest of the picture is darkened."""
    scores, boxes = explanation.regions
    picture, size = explanation.picture, len(explanation.picture)
    gap, columns = size // 6, 3
    step, rows = size + gap, -(-len(scores) // columns)
    sheet = np.full((rows * (step + gap), columns * step - gap, 3), 255, "uint8")
    corners = [divmod(i, columns) for i in range(len(scores))]
    corners = [(row * (step + gap), column * step) for row, column in corners]
    for (top, left), box in zip(corners, boxes, strict=True):
        x, y, width, height = (round(float(share) * size) for share in box)
        tile = picture // 4
        tile[y : y + height, x : x + width] = picture[y : y + height, x : x + width]
        sheet[top : top + size, left : left + size] = tile
    _show(axes, sheet, "attention of regions")
    for (top, left), box, score in zip(corners, boxes, scores, strict=True):
        corner = (left + box[0] * size - 0.5, top + box[1] * size - 0.5)
        color = ORANGE if score == scores.max() else BLUE
        frame = Rectangle(corner, *(box[2:] * size), fill=False, color=color, linewidth=1.6)
        axes.add_patch(frame)
        text = {"ha": "center", "va": "top", "size": 9, "color": color}
        axes.text(left + size / 2, top + 1.04 * size, f"{score:.3f}", **text)


def _draw_pairs(axes, explanation):
    """Draws the contribution of each position to the logit, and the strongest pairs."""
    size = len(explanation.picture)
    pairs = explanation.pairs
    height, width = pairs.shape[:2]
    shares = shares_of_places(pairs)
    values = enlarge(shares, size, size)
    _show(axes, overlay_signed(explanation.picture, values), "contributions of positions")
    flat = pairs.reshape(height * width, -1).copy()
    both = flat + flat.T  # Both assignments of the two positions to A and B.
    both[np.tril_indices(len(both))] = 0
    most = min(NUM_LINKS, both.size // 8)  # Not all pairs of a small feature map.
    strongest = [i for i in np.argsort(-both, axis=None)[:most] if both.flat[i] > 0]
    for index in strongest:
        ends = [divmod(end, width) for end in divmod(index, len(both))]
        x = [(column + 0.5) / width * size - 0.5 for _, column in ends]
        y = [(row + 0.5) / height * size - 0.5 for row, _ in ends]
        axes.plot(
            x,
            y,
            color="white",
            linewidth=0.8 + 2 * both.flat[index] / both.max(),
            marker="o",
            markersize=3,
        )
    axes.set_xlim(-0.5, size - 0.5)
    axes.set_ylim(size - 0.5, -0.5)
    axes.set_xlabel(
        f"orange: evidence for {explanation.label}, blue: against\n"
        "lines: strongest pairs of positions",
        size=8.5,
        parse_math=False,
    )


def _draw_probabilities(axes, explanation):
    names, shares = explanation.class_names, explanation.probabilities
    colors = [BLUE if i == explanation.class_index else SOFT_INK for i in range(len(names))]
    places = np.arange(len(names))
    axes.barh(places, shares, color=colors, height=0.62)
    for place, share in zip(places, shares, strict=True):
        axes.text(share + 0.02, place, f"{share:.0%}", va="center", size=9)
    axes.set_yticks(places, names)
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.18)
    axes.set_xticks([])
    axes.grid(False)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set_title("probabilities")
    axes.set_box_aspect(1 / _WIDTHS[_draw_probabilities])


_WIDTHS = {_draw_regions: 1.25, _draw_probabilities: 1.2}  # As multiples of the height.


def _show(axes, picture, title):
    axes.imshow(picture)
    axes.set_title(title, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _choose_pictures(targets):
    """Chooses the first picture of each class, then the second, up to `NUM_PICTURES`."""
    turns = np.empty(len(targets), "int64")
    for target in np.unique(targets):
        members = targets == target
        turns[members] = np.arange(members.sum())
    return np.lexsort((targets, turns))[:NUM_PICTURES]


def _as_input(picture, size):
    picture = resize(picture, size)
    return np.repeat(picture[..., None], 3, axis=-1) if picture.ndim == 2 else picture
