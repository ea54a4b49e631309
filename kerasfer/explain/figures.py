"""Figures of explanations: a face beside what the model saw in it."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from kerasfer.data.pictures import resize
from kerasfer.explain.gradients import NoFeatureMap, cut
from kerasfer.explain.maps import enlarge, heat_map, shares_of_places
from kerasfer.explain.overlays import overlay, overlay_signed
from kerasfer.plotting import BLUE, INK, ORANGE, SOFT_INK, save, style

NUM_LINKS = 6  # strongest pairs of different places
NUM_PICTURES = 12  # in the report
SIDE = 3.1  # inches of a panel


def plot_explanation(explanation, path):
    """Draws a face, its heat map, its regions or pairs of places, and the classes' probabilities.

    Args:
        explanation: `kerasfer.explain.Explanation`.
        path: the picture to write; its suffix chooses the format.
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
    """Draws what a model looks at in a dozen pictures, taken from the classes in turn.

    Nothing is written where the model has no feature map to show.

    Args:
        model: `keras.Model` of kerasfer.
        samples: `kerasfer.data.samples.Samples`.
        probabilities: float32 `(n, num_classes)`, what the model says of them.
        path: the picture to write; its suffix chooses the format.

    Returns:
        Whether it was written.
    """
    try:
        cut(model)
    except NoFeatureMap:
        return False
    chosen = _some_of_each(samples.targets)
    pictures = np.stack([_as_seen(samples.picture(i), model.input_shape[1]) for i in chosen])
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
                label, color = f"{label}, is {samples.class_names[target]}", ORANGE
            axes.set_title(label, color=color, fontsize=10, pad=4, parse_math=False)
        save(figure, path)
    return True


def _draw_face(axes, explanation):
    _show(axes, explanation.picture, "what the model saw")


def _draw_heat(axes, explanation):
    picture = overlay(explanation.picture, explanation.heat)
    _show(axes, picture, f"where it sees {explanation.label}")
    score, rival = explanation.score, explanation.random_score
    if score:
        axes.set_xlabel(
            f"insertion {score.insertion:.2f} (random {rival.insertion:.2f})\n"
            f"deletion {score.deletion:.2f} (random {rival.deletion:.2f})",
            size=8.5,
        )


def _draw_regions(axes, explanation):
    """Draws the picture once a region, dark outside of it, over the region's coefficient."""
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
    _show(axes, sheet, "how much each region counts")
    for (top, left), box, score in zip(corners, boxes, scores, strict=True):
        corner = (left + box[0] * size - 0.5, top + box[1] * size - 0.5)
        color = ORANGE if score == scores.max() else BLUE
        frame = Rectangle(corner, *(box[2:] * size), fill=False, color=color, linewidth=1.6)
        axes.add_patch(frame)
        text = {"ha": "center", "va": "top", "size": 9, "color": color}
        axes.text(left + size / 2, top + 1.04 * size, f"{score:.3f}", **text)


def _draw_pairs(axes, explanation):
    """Draws each place's exact share of the logit, and the pairs of places that go together."""
    size = len(explanation.picture)
    pairs = explanation.pairs
    height, width = pairs.shape[:2]
    shares = shares_of_places(pairs)
    values = enlarge(shares, size, size)
    _show(axes, overlay_signed(explanation.picture, values), "shares of places, and pairs")
    flat = pairs.reshape(height * width, -1).copy()
    both = flat + flat.T  # A here and B there, and the reverse
    both[np.tril_indices(len(both))] = 0
    most = min(NUM_LINKS, both.size // 8)  # of a few places not all
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
        f"orange speaks for {explanation.label}, blue against;\n"
        "lines: the pairs of places that go best together",
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


_WIDTHS = {_draw_regions: 1.25, _draw_probabilities: 1.2}  # of the height


def _show(axes, picture, title):
    axes.imshow(picture)
    axes.set_title(title, parse_math=False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(False)
    axes.spines[:].set_visible(False)


def _some_of_each(targets):
    """Takes the first of each class, then the second of each, until there are enough."""
    turns = np.empty(len(targets), "int64")
    for target in np.unique(targets):
        members = targets == target
        turns[members] = np.arange(members.sum())
    return np.lexsort((targets, turns))[:NUM_PICTURES]


def _as_seen(picture, size):
    picture = resize(picture, size)
    return np.repeat(picture[..., None], 3, axis=-1) if picture.ndim == 2 else picture
