import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from kerasfer.video.timeline import (
    COLORS,
    Timeline,
    class_colors,
    clock,
    plot_timeline,
    write_timeline,
)

NAMES = ("happy", "sad", "<b>$odd$</b>")


def filled(*spans, **options):
    """Makes a timeline of (start, end, person, class number) with 25 frames per second."""
    timeline = Timeline(NAMES, **options)
    events = [
        (moment, person, target)
        for start, end, person, target in spans
        for moment in np.arange(start, end - 1e-9, 0.04)
    ]
    for moment, person, target in sorted(events):
        timeline.add(moment, 0.04, person, target)
    return timeline


def test_shares_and_spans_of_two_persons():
    timeline = filled((0, 2, 1, 0), (2, 3, 1, 1), (1, 2, 2, 2), (4, 5, 2, 2))
    one, two = timeline.persons
    assert one["shares"] == {"happy": 0.6667, "sad": 0.3333, "<b>$odd$</b>": 0.0}
    assert (one["person"], two["person"], timeline.num_persons) == (1, 2, 2)
    assert two["seconds"] == pytest.approx(2)
    assert (two["first"], two["last"]) == pytest.approx((1, 5))
    assert [span[2] for span in one["spans"]] == ["happy", "sad"]
    np.testing.assert_allclose([s[:2] for s in one["spans"]], [(0, 2), (2, 3)], atol=0.1)
    np.testing.assert_allclose([s[:2] for s in two["spans"]], [(1, 2), (4, 5)], atol=0.1)


def test_rare_frames_fill_the_time_until_the_next():
    timeline = Timeline(NAMES)
    for moment in range(5):
        timeline.add(float(moment), 1.0, 1, 0)
    (person,) = timeline.persons
    assert len(person["spans"]) == 1
    np.testing.assert_allclose(person["spans"][0][:2], (0, 5))


def test_memory_stays_bounded_over_hours_and_the_shares_stay_right():
    timeline = Timeline(NAMES, max_bins=50)
    for moment in range(4 * 3600):
        timeline.add(float(moment), 1.0, 1, int(moment >= 3600))
    (row,) = timeline._rows.values()
    assert len(row.bins) <= 50
    (person,) = timeline.persons
    assert person["shares"]["sad"] == 0.75
    assert timeline.bin_seconds * 50 >= 4 * 3600
    np.testing.assert_allclose(person["spans"][0][:2], (0, 3600), atol=timeline.bin_seconds)


def test_the_persons_seen_longest_are_kept():
    timeline = Timeline(NAMES, max_persons=5)
    for person in range(1, 101):
        timeline.add(float(person), 20.0 if person in (7, 70) else 0.1, person, 0)
        assert len(timeline._rows) <= 10
    kept = [person["person"] for person in timeline.persons]
    assert {7, 70} < set(kept) and len(kept) == 5 and kept == sorted(kept)
    assert timeline.num_persons == 100


def test_the_clearest_face_of_a_person_is_kept():
    timeline = filled((0, 1, 1, 0))
    assert not timeline.wants_face(2, 100)  # was never seen
    assert timeline.wants_face(1, 50)
    timeline.keep_face(1, 50, np.zeros((20, 20, 3), "uint8"))
    assert not timeline.wants_face(1, 55)
    assert timeline.wants_face(1, 70)
    assert timeline.persons[0]["face"].startswith(b"\xff\xd8")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (2.5, "0:02.5"), (9.97, "0:10"), (75, "1:15"), (3723, "1:02:03")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_colors_are_fixed_for_the_expressions_and_differ():
    colors = class_colors(("happy", "tired", "bored", "neutral"))
    assert colors["happy"] == COLORS["happy"]
    assert len(set(colors.values())) == 4
    assert all(re.fullmatch("#[0-9a-f]{6}", color) for color in colors.values())


def test_the_picture_shows_the_colors_in_order(tmp_path):
    timeline = filled((0, 6, 1, 0), (6, 8, 1, 1))
    plot_timeline(timeline, tmp_path / "t.png")
    picture = np.asarray(Image.open(tmp_path / "t.png").convert("RGB")).astype(int)
    columns = {}
    for name in ("happy", "sad"):
        color = [int(COLORS[name][i : i + 2], 16) for i in (1, 3, 5)]
        rows = (abs(picture - color).max(axis=2) < 8)[: picture.shape[0] * 2 // 3]
        columns[name] = rows.any(axis=0).sum()
    assert columns["happy"] / columns["sad"] == pytest.approx(3, rel=0.1)


def test_many_persons_or_none_can_be_drawn(tmp_path):
    plot_timeline(Timeline(NAMES), tmp_path / "none.png")
    plot_timeline(filled(*[(n, n + 1, n + 1, n % 3) for n in range(50)]), tmp_path / "many.png")
    assert Image.open(tmp_path / "many.png").size[1] < 4000


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.links, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.links += [
            v for k, v in attributes if k in ("src", "href") and not v.startswith("data:")
        ]

    def handle_data(self, data):
        self.text += data


def test_the_page_is_one_file_without_scripts(tmp_path):
    timeline = filled((0, 2, 1, 0), (2, 3, 1, 1), (1, 2, 2, 2))
    timeline.keep_face(1, 9, np.zeros((20, 20, 3), "uint8"))
    path = tmp_path / "t.html"
    write_timeline(
        timeline, path, title="a <i>film</i>", facts={"persons": 2}, problem="it is broken."
    )
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.links == [] and "script" not in page.tags
    assert "url(" not in text and "http" not in text
    assert page.tags.count("svg") == 2 and page.tags.count("rect") == 3
    assert page.tags.count("img") == 1
    assert "b" in page.tags and "i" in page.tags  # of the page itself
    for part in ("a <i>film</i>", "<b>$odd$</b>", "it is broken.", "happy 67", "0:01 to 0:02"):
        assert part in page.text


def test_a_page_without_faces_has_a_message(tmp_path):
    write_timeline(Timeline(NAMES), tmp_path / "t.html", title="empty", facts={})
    assert "No face was found." in (tmp_path / "t.html").read_text()
