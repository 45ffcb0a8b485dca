"""A study's figures: where marks stand, what is filled, and labels that keep out of each other's way."""

import re
import string
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.report.figures import WIDTH
from ethos.report.study import drawing
from ethos.report.study.drawing import BOTTOM, LEFT, TOP, Box, frontier, ranking
from ethos.report.study.summary import Frontier, Moved, Point
from ethos.stats import Estimate

INFINITE = float("inf")


def point(name: str, x: float, y: float, *, reach: float = 0.01, seeds: int = 3) -> Point:
    across, up = (Estimate(mean, mean - reach, mean + reach, 9) for mean in (x, y))
    return Point(name, across, up, tuple((x + i / 1000, y - i / 1000) for i in range(seeds)))


def drawn(*points: Point) -> str:
    names = [each.name for each in points]
    return str(frontier(Frontier("kl-kind", "KL", "shift", points), names[::-1], names))


def moved(name: str, mean: float, *, reach: float = 0.01, seeds: Sequence[float] = ()) -> Moved:
    return Moved(name, Estimate(mean, mean - reach, mean + reach, 9), tuple(seeds))


def test_an_arm_has_a_mark_a_dot_a_seed_and_two_whiskers() -> None:
    svg = drawn(point("dpo", 0.1, 0.2))
    assert svg.count('r="4.5" class="mark s-arm0"') == 1
    assert svg.count('class="seed s-arm0"') == svg.count('class="thread s-arm0"') == 3
    assert svg.count('class="whisker s-arm0"') == 2
    assert ">dpo</text>" in svg


def test_controls_have_shapes_and_colours_of_their_own() -> None:
    svg = drawn(point("dpo", 0.1, 0.2), point("prompted", 0.2, 0.1, seeds=1), point("neutral", 0.0, 0.0))
    assert '<rect x="' in svg
    assert "l5 5l-5 5l-5 -5z" in svg
    assert "seed s-prompted" not in svg  # one seed is the mean itself
    many = [*(point(name, 0.1, 0.2) for name in "abcdefgh"), point("prompted", 0.2, 0.1)]
    marks = re.findall(r'class="mark s-([^"]+)"', drawn(*many))
    assert marks == ["arm0", "arm1", "arm2", "arm3", "arm4", "arm5", "arm0", "arm1", "prompted"]


def test_a_shift_whose_interval_spans_zero_is_hollow() -> None:
    assert "mark s-arm0 hollow" in drawn(point("a", 0.1, 0.005))
    assert "hollow" not in drawn(point("a", 0.1, 0.5))


def test_further_up_and_further_right_are_drawn_so() -> None:
    svg = drawn(point("low", 0.1, 0.1), point("high", 0.2, 0.3))
    (low_x, low_y), (high_x, high_y) = (
        tuple(map(float, pair)) for pair in re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="4.5"', svg)
    )
    assert high_x > low_x
    assert high_y < low_y


def test_an_interval_without_ends_is_left_out() -> None:
    endless = Estimate(0.1, -INFINITE, INFINITE, 1)
    svg = drawn(Point("one", endless, endless, ((0.1, 0.1),)))
    assert "whisker" not in svg
    assert "inf" not in re.sub(r"<(title|desc).*?</\1>", "", svg)


def test_names_are_text() -> None:
    assert "<b>" not in drawn(point("<b>", 0.1, 0.1))


@given(
    st.lists(
        st.tuples(st.text(string.ascii_lowercase, min_size=1, max_size=20), st.floats(0, 1), st.floats(-1, 1)),
        min_size=1,
        max_size=10,
        unique_by=lambda row: row[0],
    )
)
def test_labels_stay_in_the_drawing(rows: list[tuple[str, float, float]]) -> None:
    points = [point(*row) for row in rows]
    across, up = drawing._scales(points)
    for each, (x, y) in zip(points, drawing._placed(points, [p.name for p in points], across, up), strict=True):
        assert x >= LEFT - 1
        assert x + drawing.LETTER * len(each.name) <= WIDTH + 1
        assert TOP - 14 <= y <= BOTTOM + 8


def test_labels_of_marks_that_are_apart_do_not_meet() -> None:
    points = [point(f"arm-{i}", i % 2 / 2, i / 10, seeds=1) for i in range(8)]
    across, up = drawing._scales(points)
    boxes = [
        Box(x, y - 10, x + drawing.LETTER * len(each.name), y)
        for each, (x, y) in zip(points, drawing._placed(points, [p.name for p in points], across, up), strict=True)
    ]
    assert not [1 for i, box in enumerate(boxes) for other in boxes[:i] if box.meets(other)]


@pytest.mark.parametrize(
    ("other", "meets"), [(Box(5, 5, 9, 9), True), (Box(10, 0, 12, 10), False), (Box(0, 11, 9, 12), False)]
)
def test_boxes_meet_where_they_overlap(other: Box, meets: bool) -> None:
    assert Box(0, 0, 10, 10).meets(other) is other.meets(Box(0, 0, 10, 10)) is meets


def test_many_marks_are_labelled_by_their_place_in_the_ranking() -> None:
    points = [point(f"arm-{n}", n / 10, n / 10) for n in range(drawing.MOST_NAMED + 1)]
    assert ">arm-0</text>" in drawn(*points[:-1])
    svg = drawn(*points)
    assert ">arm-0</text>" not in svg
    numbers = re.findall(r'class="value strong s-arm\d">(\d+)</text>', svg)
    assert numbers == [str(len(points) - n) for n in range(len(points))]  # the last is the first


def test_the_ranking_has_a_row_an_arm_with_its_interval_seeds_and_number() -> None:
    rows = [moved("far", 0.3, seeds=(0.29, 0.31)), moved("prompted", 0.005), moved("shuffled", -0.1)]
    svg = str(ranking("kind", "shift", rows, ["shuffled", "far", "prompted"], ["shuffled"]))
    texts = re.findall(r'<text x="0.0" y="([\d.]+)" text-anchor="start" class="(\w*)">(\d \w+)</text>', svg)
    assert [(text, grey) for _, grey, text in texts] == [
        ("1 far", ""),
        ("2 prompted", ""),
        ("3 shuffled", "faint"),
    ]
    assert [float(y) for y, *_ in texts] == sorted(float(y) for y, *_ in texts)
    assert svg.count('class="seed s-arm1"') == 2
    assert svg.count('class="whisker') == 3
    assert "mark s-prompted hollow" in svg
    assert re.findall(r">([+-][\d.]{5})</text>", svg) == ["+0.300", "+0.005", "-0.100"]
    assert "<title>far: +0.300" in svg


def test_an_arm_of_one_item_has_a_mark_without_an_interval() -> None:
    endless = Moved("one", Estimate(0.1, -INFINITE, INFINITE, 1), (0.1,))
    svg = str(ranking("kind", "shift", [endless], ["one"], []))
    assert "whisker" not in svg
    assert "inf" not in svg.partition("<desc")[0] + svg.partition("</desc>")[2].replace("[-inf, +inf]", "")
