"""A study's two figures: how far each arm moved, the furthest first; and what a shift costs.

Drawn with the functions of `report.figures`, at the same size. On the frontier every mark is labelled where it stands,
with its name or, of many arms, with its place in the first figure; a label takes the best place around its mark.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

from markupsafe import Markup

from ethos.report import figures
from ethos.report.figures import EMPTY, WIDTH, Scale, label, line, marker, padded, signed, ticks
from ethos.report.study.cells import CONTROLS
from ethos.report.study.summary import Frontier, Moved, Point
from ethos.stats import Estimate

LEFT, TOP, BOTTOM, HEIGHT = 48.0, 18.0, 262.0, 300.0
NUM_COLOURS = 6
MOST_NAMED = 8
"""Marks that are labelled with their names; more have no room for them."""
ROW, FIGURES = 17.0, 46.0
"""Of the first figure: height of a row, width of its number."""
LETTER, LINE = 6.4, 13.0
"""Width of a letter and height of a line of text, units."""
ROUNDS = 4
"""How often every label may move out of the others' way."""


class Box(NamedTuple):
    """What a label or mark covers."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: "Box") -> bool:
        """Whether the two overlap."""
        return (
            self.left < other.right and other.left < self.right and self.top < other.bottom and other.top < self.bottom
        )


def ranking(name: str, axis: str, moved: Sequence[Moved], columns: Sequence[str], grey: Sequence[str]) -> Markup:
    """How far each arm and control moved: a row with its interval and its seeds; control arms are grey."""
    wide = LETTER * max(len(_numbered(place, each.name)) for place, each in enumerate(moved))
    ends = [end for each in moved for end in (each.estimate.low, each.estimate.mean, each.estimate.high, *each.seeds)]
    scale, bottom = padded(ends, min(wide, WIDTH / 2) + 8, WIDTH - FIGURES), ROW * len(moved)
    drawn = label(0, bottom + 30, axis, kind="faint")
    for value in ticks(scale, most=4):
        drawn += line(scale.at(value), 0, scale.at(value), bottom, "zero" if value == 0 else "grid")
        drawn += label(scale.at(value), bottom + 14, signed(value), anchor="middle", kind="faint")
    kinds = _kinds(columns)
    for place, each in enumerate(moved):
        y = ROW * (place + 0.5)
        drawn += label(0, y + 4, _numbered(place, each.name), kind="faint" if each.name in grey else "")
        drawn += _row(each, scale, y, kinds[each.name])
        drawn += label(WIDTH, y + 4, f"{each.estimate.mean:+.3f}", anchor="end", kind=f"value s-{kinds[each.name]}")
    told = "; ".join(f"{each.name}: {each.estimate}" for each in moved)
    return figures.figure(f"ranking-{name}", f"{axis}, by arm", told, bottom + 36, drawn)


def _numbered(place: int, name: str) -> str:
    return f"{place + 1} {name}"


def _row(moved: Moved, scale: Scale, y: float, colour: str) -> Markup:
    estimate = moved.estimate
    drawn = Markup("<title>{}: {}</title>").format(moved.name, estimate)
    for seed in moved.seeds if len(set(moved.seeds)) > 1 else ():
        drawn += Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.5" class="seed s-{}"/>').format(scale.at(seed), y, colour)
    if _known(estimate):
        drawn += line(scale.at(estimate.low), y, scale.at(estimate.high), y, f"whisker s-{colour}")
    return Markup("<g>{}{}</g>").format(
        drawn, marker(scale.at(estimate.mean), y, colour, filled=estimate.excludes_zero)
    )


def frontier(found: Frontier, ranked: Sequence[str], columns: Sequence[str]) -> Markup:
    """Every arm and control: mean with both intervals, joined to the means of its seeds."""
    across, up = _scales(found.points)
    drawn = _axes(across, up, found)
    kinds, many = _kinds(columns), len(found.points) > MOST_NAMED
    texts = [str(ranked.index(point.name) + 1) if many else point.name for point in found.points]
    for point in found.points:
        drawn += _seeds(point, across, up, kinds[point.name])
    for point in found.points:
        drawn += _mean(point, across, up, kinds[point.name])
    for point, text, (x, y) in zip(found.points, texts, _placed(found.points, texts, across, up), strict=True):
        drawn += label(x, y, text, kind=f"value strong s-{kinds[point.name]}")
    title = f"{found.up}, against {found.across}"
    told = "; ".join(f"{p.name}: {p.up} at {p.across}" for p in found.points)
    return figures.figure(f"frontier-{found.name}", title, told, HEIGHT, drawn)


def _kinds(columns: Sequence[str]) -> dict[str, str]:
    """The colour of every mark: a control's own, an arm's by its place."""
    return {name: name if name in CONTROLS else f"arm{place % NUM_COLOURS}" for place, name in enumerate(columns)}


def _scales(points: Sequence[Point]) -> tuple[Scale, Scale]:
    """Both axes hold zero, every interval and every seed."""
    sides = [[value for point in points for value in _extent(point, side)] for side in (0, 1)]
    return padded(sides[0], LEFT, WIDTH - 16), padded(sides[1], BOTTOM, TOP)  # room for half a tick's figures


def _extent(point: Point, side: int) -> list[float]:
    estimate = (point.across, point.up)[side]
    ends = [estimate.mean, estimate.low, estimate.high, *(seed[side] for seed in point.seeds)]
    return [end for end in ends if math.isfinite(end)]


def _axes(across: Scale, up: Scale, found: Frontier) -> Markup:
    """Lines with their values; the base stands where both zeros meet."""
    drawn = label(0, 10, found.up, kind="faint") + label(LEFT, HEIGHT - 4, found.across, kind="faint")
    for value in ticks(up):
        drawn += line(LEFT, up.at(value), WIDTH, up.at(value), "zero" if value == 0 else "grid")
        drawn += label(LEFT - 6, up.at(value) + 4, signed(value), anchor="end", kind="faint")
    for value in ticks(across):
        drawn += line(across.at(value), TOP, across.at(value), BOTTOM, "zero" if value == 0 else "grid")
        drawn += label(across.at(value), BOTTOM + 15, f"{value:g}", anchor="middle", kind="faint")
    return drawn


def _seeds(point: Point, across: Scale, up: Scale, colour: str) -> Markup:
    """A faint dot a training seed on a thread to the mean."""
    centre = across.at(point.across.mean), up.at(point.up.mean)
    drawn = EMPTY
    for across_mean, up_mean in point.seeds if len(set(point.seeds)) > 1 else ():
        x, y = across.at(across_mean), up.at(up_mean)
        drawn += line(*centre, x, y, f"thread s-{colour}")
        drawn += Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.5" class="seed s-{}"/>').format(x, y, colour)
    return drawn


def _mean(point: Point, across: Scale, up: Scale, colour: str) -> Markup:
    """The mark with a whisker each way, and its numbers as a tooltip."""
    x, y = across.at(point.across.mean), up.at(point.up.mean)
    drawn = Markup("<title>{}: {} at {}</title>").format(point.name, point.up, point.across)
    if _known(point.across):
        drawn += line(across.at(point.across.low), y, across.at(point.across.high), y, f"whisker s-{colour}")
    if _known(point.up):
        drawn += line(x, up.at(point.up.low), x, up.at(point.up.high), f"whisker s-{colour}")
    return Markup("<g>{}{}</g>").format(drawn, marker(x, y, colour, filled=point.up.excludes_zero))


def _known(estimate: Estimate) -> bool:
    return math.isfinite(estimate.low) and math.isfinite(estimate.high)


def _placed(points: Sequence[Point], texts: Sequence[str], across: Scale, up: Scale) -> list[tuple[float, float]]:
    """Where each label begins: each moves to where it meets fewest marks, labels and whiskers, not far off."""
    centres = [(across.at(point.across.mean), up.at(point.up.mean)) for point in points]
    marks = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in centres]
    whiskers = [
        box
        for point, (x, y) in zip(points, centres, strict=True)
        if _known(point.across) and _known(point.up)
        for box in (
            Box(across.at(point.across.low), y - 1, across.at(point.across.high), y + 1),
            Box(x - 1, up.at(point.up.high), x + 1, up.at(point.up.low)),
        )
    ]
    around = [list(_around(x, y, LETTER * len(text))) for text, (x, y) in zip(texts, centres, strict=True)]
    boxes = [places[0] for places in around]
    for place in [*range(len(boxes))] * ROUNDS:
        others = [*marks, *boxes[:place], *boxes[place + 1 :]]
        costs = [
            (sum(map(b.meets, others)), sum(map(b.meets, whiskers)) + far / 5) for far, b in enumerate(around[place])
        ]
        boxes[place] = around[place][costs.index(min(costs))]
    return [(box.left, box.bottom - 3) for box in boxes]


def _around(x: float, y: float, width: float) -> Iterator[Box]:
    """Places for a label of this width, the nearer ones first, none outside the drawing."""
    for aside, below in product((6, 16, 36, 72), (-3, 13, -17, 27, -31)):
        for left in (x + aside, x - aside - width):
            top = y + below - LINE / 2
            if left >= LEFT and left + width <= WIDTH and top >= TOP - LINE and top + LINE <= BOTTOM:
                yield Box(left, top, left + width, top + LINE)
    left = min(max(LEFT, x - width / 2), WIDTH - width)
    yield Box(left, y - 20, left + width, y - 7)
