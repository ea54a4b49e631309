"""Collects the expressions of each person over time, and draws them as a figure and an HTML page.

A timeline has a bounded number of bins and persons, so its memory use does not grow with the length
of the video.
"""

import base64
import io
import math

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from PIL import Image

from kerasfer import __version__
from kerasfer.files import replace_file, write_text
from kerasfer.plotting import INK, style
from kerasfer.text import load_template

# Distinguishable with color vision deficiencies (after Okabe and Ito), on light and dark pages.
COLORS = {
    "angry": "#d55e00",
    "disgust": "#009e73",
    "fear": "#8d5fb5",
    "happy": "#e6a700",
    "sad": "#0b62ab",
    "surprise": "#56b4e9",
    "neutral": "#9aa4af",
    "contempt": "#8c6d46",
}
_OTHER_COLORS = tuple(matplotlib.colormaps["tab20"].colors[i] for i in (8, 12, 16, 4, 6, 0, 2, 18))
_ROWS = 40  # Persons in the figure. The page shows more.
_WIDTH = 1000  # Width of the timelines on the page, in SVG units.


class Timeline:
    """Accumulates the time for which each person showed each class.

    Args:
        class_names: The names of the classes.
        max_bins: The maximum number of time bins. If they do not suffice, their width is doubled.
        max_persons: The maximum number of persons in the result. Those seen longest are kept.
        bin_seconds: The initial width of a bin, in seconds.

    Example:

    >>> timeline = Timeline(("happy", "sad"))
    >>> for frame in range(50):
    ...     timeline.add(frame / 25, 1 / 25, person=1, target=int(frame >= 40))
    >>> timeline.persons[0]["shares"]
    {'happy': 0.8, 'sad': 0.2}
    """

    def __init__(self, class_names, *, max_bins=400, max_persons=100, bin_seconds=0.1):
        self.class_names = tuple(class_names)
        self.max_bins = max_bins
        self.max_persons = max_persons
        self.bin_seconds = bin_seconds
        self.num_persons = 0
        self.end = 0.0
        self._rows = {}

    def add(self, moment, seconds, person, target):
        """Adds an interval in which a person showed a class.

        Args:
            moment: The start of the interval, in seconds.
            seconds: The length of the interval, in seconds.
            person: The number of the person, from 1 in order of appearance.
            target: The index of the class.
        """
        end = moment + seconds
        self.end = max(self.end, end)
        while end > self.max_bins * self.bin_seconds:
            self._widen()
        if person not in self._rows:
            self.num_persons = max(self.num_persons, person)
            self._rows[person] = _Row(len(self.class_names), moment)
            if len(self._rows) > 2 * self.max_persons:
                newest = self._rows[person]
                self._rows = {**dict(self._longest(self.max_persons)), person: newest}
        row = self._rows[person]
        row.seconds[target] += seconds
        row.last = end
        for number in range(int(moment / self.bin_seconds), math.ceil(end / self.bin_seconds)):
            if number not in row.bins:
                row.bins[number] = np.zeros(len(self.class_names), "float32")
            start = number * self.bin_seconds
            row.bins[number][target] += min(end, start + self.bin_seconds) - max(moment, start)

    def wants_face(self, person, clarity):
        """Returns whether a picture is at least 20 % clearer than the stored one of a person."""
        row = self._rows.get(person)
        return row is not None and clarity > 1.2 * row.clarity

    def keep_face(self, person, clarity, crop):
        """Stores a small uint8 RGB picture of a person."""
        file = io.BytesIO()
        Image.fromarray(crop).save(file, format="JPEG", quality=85)
        row = self._rows[person]
        row.clarity, row.face = clarity, file.getvalue()

    @property
    def persons(self):
        """A list with a dict for each person.

        The keys are `person`, `first` and `last` (times in seconds), `seconds` (the time for which
        the person was seen), `shares` (the share of each class in that time), `spans` (a list of
        start, end and class name) and `face` (a JPEG picture as bytes, or `None`).
        """
        persons = []
        for person, row in sorted(self._longest(self.max_persons)):
            seen = float(row.seconds.sum())
            shares = row.seconds / max(seen, 1e-12)
            persons.append(
                {
                    "person": person,
                    "first": row.first,
                    "last": row.last,
                    "seconds": seen,
                    "shares": {
                        name: round(float(share), 4)
                        for name, share in zip(self.class_names, shares, strict=True)
                    },
                    "spans": self._spans(row),
                    "face": row.face,
                }
            )
        return persons

    def _longest(self, number):
        rows = sorted(self._rows.items(), key=lambda item: -item[1].seconds.sum())
        return rows[:number]

    def _widen(self):
        self.bin_seconds *= 2
        for row in self._rows.values():
            wide = {}
            for number, sums in row.bins.items():
                wide[number // 2] = wide.get(number // 2, 0) + sums
            row.bins = wide

    def _spans(self, row):
        """Merges adjacent bins with the same most frequent class."""
        spans = []
        for number in sorted(row.bins):
            start = max(number * self.bin_seconds, row.first)
            end = min((number + 1) * self.bin_seconds, row.last)
            name = self.class_names[int(row.bins[number].argmax())]
            if spans and spans[-1][2] == name and start - spans[-1][1] < self.bin_seconds / 2:
                spans[-1][1] = end
            else:
                spans.append([start, end, name])
        return spans


class _Row:
    """Holds the accumulated times of one person."""

    def __init__(self, num_classes, first):
        self.first = self.last = first
        self.seconds = np.zeros(num_classes)
        self.bins = {}  # Maps bin numbers to the seconds of each class.
        self.clarity, self.face = 0.0, None


def class_colors(class_names):
    """Returns a dict that maps each class name to a hexadecimal color."""
    colors, others = {}, 0
    for name in class_names:
        if name in COLORS:
            colors[name] = COLORS[name]
        else:
            colors[name] = matplotlib.colors.to_hex(_OTHER_COLORS[others % len(_OTHER_COLORS)])
            others += 1
    return colors


def plot_timeline(timeline, path):
    """Draws a row of colors over time for each person, and the share of each class next to it.

    Args:
        timeline: A `Timeline`.
        path: The file to write. Its suffix determines the format.
    """
    colors = class_colors(timeline.class_names)
    persons = timeline.persons
    shown = sorted(sorted(persons, key=lambda p: -p["seconds"])[:_ROWS], key=lambda p: p["person"])
    with style(INK):
        figure = Figure(figsize=(12, 1.7 + 0.42 * max(len(shown), 2)), layout="constrained")
        axes, bars = figure.subplots(1, 2, sharey=True, width_ratios=(4, 1))
        for row, person in enumerate(shown):
            for name, color in colors.items():
                spans = [(a, b - a) for a, b, shown_name in person["spans"] if shown_name == name]
                axes.broken_barh(spans, (row - 0.35, 0.7), color=color, linewidth=0)
            left = 0.0
            for name, share in person["shares"].items():
                bars.barh(row, share, left=left, height=0.7, color=colors[name])
                left += share
        for panel in (axes, bars):
            panel.spines[:].set_visible(False)
            panel.tick_params(length=0)
            panel.grid(False, axis="y")
            panel.set_axisbelow(True)
        labels = [f"Person {p['person']}  ({clock(p['seconds'])})" for p in shown]
        axes.set_yticks(range(len(shown)), labels)
        axes.set_ylim(max(len(shown), 2) - 0.5, -0.5)
        axes.set_xlim(0, max(timeline.end, 1e-3))
        axes.xaxis.set_major_locator(_ticks())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda seconds, _: clock(seconds)))
        bars.set_xlim(0, 1)
        bars.xaxis.set_major_formatter(matplotlib.ticker.PercentFormatter(1.0))
        bars.set_title("Share of time seen")
        hidden = timeline.num_persons - len(shown)
        axes.set_title(
            "Expressions over time"
            + (f" ({hidden} more persons, seen for less time, are not shown)" if hidden else "")
        )
        if not shown:
            place = {"transform": axes.transAxes, "ha": "center", "va": "center"}
            axes.text(0.5, 0.5, "No face was found", **place)
        patches = [matplotlib.patches.Patch(color=color) for color in colors.values()]
        legend = figure.legend(
            patches, colors, loc="outside lower left", ncols=min(len(colors), 8), handlelength=1
        )
        for text in legend.get_texts():
            text.set_parse_math(False)  # The name of a class may contain a "$".
        with replace_file(path) as temporary:
            figure.savefig(temporary, dpi=130, facecolor="white")


def write_timeline(timeline, path, *, title, facts, problem=None):
    """Writes a timeline as a self-contained HTML page without scripts.

    Args:
        timeline: A `Timeline`.
        path: The file to write.
        title: The title of the page, such as the name of the video.
        facts: A dict of labels and short texts that the page shows at the top.
        problem: A warning that the page shows, or `None`.
    """
    template = load_template("kerasfer.video", "timeline.html.jinja", clock=clock, jpeg=_data_uri)
    end = max(timeline.end, 1e-3)
    page = template.render(
        title=title,
        facts=facts,
        problem=problem,
        persons=timeline.persons,
        hidden=timeline.num_persons - len(timeline.persons),
        colors=class_colors(timeline.class_names),
        end=end,
        scale=_WIDTH / end,
        width=_WIDTH,
        ticks=[tick for tick in _ticks().tick_values(0, end) if 0 <= tick <= end],
        version=__version__,
    )
    write_text(path, page)


def clock(seconds):
    """Formats a time in seconds as minutes and seconds, with hours or tenths where appropriate.

    Example:

    >>> clock(75), clock(3723), clock(2.5)
    ('1:15', '1:02:03', '0:02.5')
    """
    if 0 < seconds < 9.95 and abs(seconds - round(seconds)) > 0.04:
        return f"0:0{seconds:.1f}"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _ticks():
    return MaxNLocator(7, steps=(1, 1.5, 2, 3, 6, 10))


def _data_uri(jpeg):
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode('ascii')}"
