"""Inline SVG, drawn by small functions: panels and curves enter, `Markup` leaves.

A figure is `WIDTH` units wide and shown at about as many pixels, on a phone or beside others, so
that a text of 12 units stays readable. Colours are CSS classes (`s-trained`, `axis`), which follow
light and dark; shape and fill say the same again without colour: a hollow mark's interval spans zero.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from markupsafe import Markup

from ethos.report.contrasts import Panel, Shift
from ethos.report.traces import Curve
from ethos.stats import Estimate

WIDTH = 340
MARGIN = 10
EMPTY = Markup()
ROW_HEAD, ROW_LINE, ROW_GAP = 17, 14, 9
"""Of a forest row: its name, one interval, the space below."""


class Scale(NamedTuple):
    """A linear map from values to units of the drawing."""

    low: float
    high: float
    start: float
    stop: float

    def at(self, value: float) -> float:
        """Where a value lies; one beyond the scale lies at its end."""
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / (self.high - self.low) * (self.stop - self.start)


def padded(values: Sequence[float], start: float, stop: float, *, zero: bool = True) -> Scale:
    """A scale that holds all finite values (and zero, where shifts are drawn) with 5 % to spare.

    The interval of a single item has no ends.
    """
    shown = [value for value in values if math.isfinite(value)] + ([0.0] if zero else [])
    low, high = min(shown), max(shown)
    spare = 0.05 * (high - low) or 0.5
    return Scale(low - spare, high + spare, start, stop)


def ticks(scale: Scale, most: int = 5) -> list[float]:
    """At most `most` round values in the scale, a step of 1, 2 or 5 times a power of ten apart."""
    rough = (scale.high - scale.low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first = math.ceil(scale.low / step)
    return [round(index * step, 12) for index in range(first, math.floor(scale.high / step) + 1)]


SVG = Markup(
    '<svg viewBox="0 0 {width} {height:.0f}" role="img" aria-labelledby="{name}-t {name}-d">'
    '<title id="{name}-t">{title}</title><desc id="{name}-d">{description}</desc>{body}</svg>'
)


def signed(value: float) -> str:
    """A shift as an axis shows it."""
    return f"{value:+g}" if value else "0"


def figure(name: str, title: str, description: str, height: float, body: Markup) -> Markup:
    """An SVG element that scales with its box and says what it shows to who cannot see it."""
    return SVG.format(width=WIDTH, height=height, name=name, title=title, description=description, body=body)


def label(x: float, y: float, text: object, *, anchor: str = "start", kind: str = "") -> Markup:
    """A text; `kind` is its CSS class."""
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}" class="{}">{}</text>').format(x, y, anchor, kind, text)


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> Markup:
    """A straight line; `kind` is its CSS class."""
    return Markup('<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" class="{}"/>').format(x1, y1, x2, y2, kind)


def path(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    """A polyline; `kind` is its CSS class."""
    return Markup('<polyline points="{}" class="{}"/>').format(" ".join(f"{x:.1f},{y:.1f}" for x, y in points), kind)


def marker(x: float, y: float, subject: str, *, filled: bool = True) -> Markup:
    """A subject's mark: a square for prompted, a diamond for neutral, else a circle; hollow where nothing is shown."""
    kind = f"mark s-{subject}{'' if filled else ' hollow'}"
    if subject == "prompted":
        return Markup('<rect x="{:.1f}" y="{:.1f}" width="8" height="8" class="{}"/>').format(x - 4, y - 4, kind)
    if subject == "neutral":
        return Markup('<path d="M{0:.1f} {1:.1f}l5 5l-5 5l-5 -5z" class="{2}"/>').format(x, y - 5, kind)
    return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="4.5" class="{}"/>').format(x, y, kind)


def legend_mark(subject: str, *, filled: bool = True) -> Markup:
    """The mark alone, for a legend beside it in words."""
    return Markup('<svg class="key" viewBox="0 0 14 14" aria-hidden="true">{}</svg>').format(
        marker(7, 7, subject, filled=filled)
    )


def interval(shift: Shift, ends: tuple[float, float, float, float], centre: tuple[float, float]) -> Markup:
    """An interval with its mark, and its numbers as a tooltip."""
    assert shift.estimate is not None, shift
    told = Markup("<title>{}, {}: {}</title>").format(shift.subject, shift.row, shift.estimate)
    mark = marker(*centre, shift.subject, filled=shift.estimate.excludes_zero)
    return Markup("<g>{}{}{}</g>").format(told, line(*ends, f"whisker s-{shift.subject}"), mark)


def estimates(panel: Panel) -> list[Estimate]:
    """What the panel has to hold."""
    return [shift.estimate for shift in panel.shifts if shift.estimate]


def extremes(panel: Panel) -> list[float]:
    """The ends of its intervals."""
    return [end for estimate in estimates(panel) for end in (estimate.low, estimate.high)]


def described(panel: Panel) -> str:
    """The panel in words, for a screen reader."""
    return "; ".join(f"{shift.row}, {shift.subject}: {shift.estimate or 'nothing scored'}" for shift in panel.shifts)


def forest(panel: Panel) -> Markup:
    """A row a split with an interval a subject under it; what stands beside the split is on the right of its name."""
    scale = padded(extremes(panel), MARGIN, WIDTH - 52)
    tops, bottom = forest_rows(panel)
    drawn = _grid(scale, bottom)
    for row, top in tops.items():
        drawn += label(0, top + 12, row, kind="strong")
        drawn += label(WIDTH, top + 12, panel.notes.get(row, ""), anchor="end", kind="faint")
        for place, shift in enumerate(shift for shift in panel.shifts if shift.row == row):
            drawn += _forest_line(shift, scale, top + ROW_HEAD + ROW_LINE * (place + 0.5))
    title = f"{panel.name}: shift from base by split, nats/token"
    return figure(f"forest-{panel.name}", title, described(panel), bottom + 34, drawn)


def forest_rows(panel: Panel) -> tuple[dict[str, float], float]:
    """The top of every row, and the bottom of the last."""
    tops, y = dict[str, float](), 2.0
    for row in panel.rows:
        tops[row] = y
        y += ROW_HEAD + ROW_LINE * sum(shift.row == row for shift in panel.shifts) + ROW_GAP
    return tops, y


def _grid(scale: Scale, bottom: float) -> Markup:
    """Vertical lines with their values under them; zero stands out."""
    drawn = label(scale.start, bottom + 30, "shift from base, nats/token", kind="faint")
    for value in ticks(scale):
        x = scale.at(value)
        drawn += line(x, 0, x, bottom, "zero" if value == 0 else "grid")
        drawn += label(x, bottom + 14, signed(value), anchor="middle", kind="faint")
    return drawn


def _forest_line(shift: Shift, scale: Scale, y: float) -> Markup:
    """One interval with its mean in figures at the right."""
    if shift.estimate is None:
        return label(scale.start, y + 4, f"{shift.subject}: nothing scored", kind="faint")
    low, mean, high = (scale.at(value) for value in (shift.estimate.low, shift.estimate.mean, shift.estimate.high))
    figures = label(WIDTH, y + 4, f"{shift.estimate.mean:+.3f}", anchor="end", kind=f"value s-{shift.subject}")
    return interval(shift, (low, y, high, y), (mean, y)) + figures


def doses(panel: Panel, subjects: Sequence[str]) -> Markup:
    """The shift against the number of orders, on a scale of doublings."""
    height, left, bottom = 250.0, 44.0, 208.0
    across = Scale(0, math.log2(1 + max(map(int, panel.rows))), left + 18, WIDTH - 18)
    up = padded(extremes(panel), bottom, 8)
    drawn = _levels(up, left, shift=True) + label(
        (left + WIDTH) / 2, bottom + 34, panel.subtitle, anchor="middle", kind="faint"
    )
    for dose in panel.rows:
        drawn += label(across.at(math.log2(1 + int(dose))), bottom + 16, dose, anchor="middle", kind="faint")
    for place, subject in enumerate(subjects):
        aside = 8 * (place - (len(subjects) - 1) / 2)  # so that intervals of one dose stand side by side
        beside = across._replace(start=across.start + aside, stop=across.stop + aside)
        drawn += _response([shift for shift in panel.shifts if shift.subject == subject], subject, beside, up)
    title = "Crossed shift from base by number of orders to drop the character, nats/token"
    return figure("doses", title, described(panel), height, drawn)


def _levels(up: Scale, left: float, *, shift: bool) -> Markup:
    """Horizontal lines with their values at the left; where they are shifts they carry a sign, and zero stands out."""
    drawn = EMPTY
    for value in ticks(up):
        y = up.at(value)
        drawn += line(left, y, WIDTH, y, "zero" if shift and value == 0 else "grid")
        drawn += label(left - 6, y + 4, signed(value) if shift else f"{value:g}", anchor="end", kind="faint")
    return drawn


def _response(shifts: Sequence[Shift], subject: str, across: Scale, up: Scale) -> Markup:
    """One subject's intervals over the doses, their means joined by a thin line."""
    known = [(across.at(math.log2(1 + int(shift.row))), shift, shift.estimate) for shift in shifts if shift.estimate]
    thread = path([(x, up.at(estimate.mean)) for x, _, estimate in known], f"thread s-{subject}")
    bars = [
        interval(shift, (x, up.at(estimate.low), x, up.at(estimate.high)), (x, up.at(estimate.mean)))
        for x, shift, estimate in known
    ]
    return thread + EMPTY.join(bars)


def training(curve: Curve) -> Markup:
    """A quantity at every step, faint, under its running mean."""
    height, left, bottom, last = 170.0, 44.0, 138.0, len(curve.values)
    up = padded(curve.values, bottom, 6, zero=False)
    across = Scale(0, max(1, last - 1), left + 4, WIDTH - 4)
    drawn = _levels(up, left, shift=False) + label(left, bottom + 18, "step 1", kind="faint")
    drawn += label(WIDTH, bottom + 18, f"step {last}", anchor="end", kind="faint")
    for values, kind in ((curve.values, "raw"), (smoothed(curve.values), "smooth")):
        drawn += path([(across.at(step), up.at(value)) for step, value in enumerate(values)], kind)
    name = f"curve-{curve.stage}-{curve.quantity.split()[0]}"
    said = f"from {curve.values[0]:.3f} at the first step to {curve.values[-1]:.3f} at the last of {last}"
    return figure(name, f"{curve.stage}: {curve.quantity}", said, height, drawn)


def smoothed(values: Sequence[float]) -> list[float]:
    """Running mean over the last tenth of the steps."""
    window = max(1, len(values) // 10)
    return [sum(part) / len(part) for end in range(1, len(values) + 1) for part in [values[max(0, end - window) : end]]]
