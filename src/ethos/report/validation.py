"""`validation.md`: what is known of the claims, as text. A `Validity` enters; every number is in validity.json too."""

from collections.abc import Iterator, Mapping, Sequence

from ethos.bench.validity import LEAST_RELIABILITY, MARK, GroupShift, LineValidity, Validity, experimental, version
from ethos.pages import bullets, table
from ethos.stats import signed

MUST = ("order", "neutral stays", "shuffled stays", "style stays")
CROSSED = ("crossed", "won", "dose", "after")
"""Lines made of crossed contrasts, which style must not move."""
SEES_STYLE = "can_be_told_apart"
MOST_FALSE = 0.07
"""Share of null comparisons with p < 0.05 beyond which a claim finds differences where there are none."""


def markdown(found: Validity, counts: Mapping[str, int]) -> str:
    """validation.md; `counts` are the subjects of every group, base first."""
    groups = [group for group in counts if group != "base" and counts[group]]
    told = ", ".join(f"{count} {group}" for group, count in counts.items() if count)
    heads = [
        "claim",
        "line",
        "items",
        "split-half, shifts",
        "levels",
        "false positives",
        "sensitivity",
        "detectable",
        "floor, ceiling",
    ]
    parts = [
        "# Validation",
        f"Runs: {', '.join(found.runs)}. Subjects: {told}.",
        "## Reliability and error",
        table(heads, [_reliability_row(line, found) for line in found.lines]),
        "Split-half: Spearman–Brown over random halves of the items, from six subjects on. Under"
        f" {LEAST_RELIABILITY:g}, or not known, a claim is {MARK}. False positives: pairs of neutral subjects with"
        " p < 0.05. Sensitivity: resamples of the items in which the full prompt is seen. Detectable: with 80 % power."
        " Floor, ceiling: items where every subject is at the end.",
        "## Known groups",
        table(["claim", "line", *groups, *MUST], [_group_row(line, groups) for line in found.lines]),
        "Mean shift from base with 95 % intervals, over training seeds too where there are several.",
    ]
    if wrong := [told for line in found.lines for told in amiss(line)]:
        parts += ["## Otherwise than it must be", bullets(wrong)]
    if found.biases:
        told_biases = (f"`{b.claim}`, {b.readout}: {signed(b.mean)} over {b.num_items} items" for b in found.biases)
        parts += ["## Order of options, base", bullets(told_biases)]
    parts += [*_correlations(found), *_oracles(found)]
    return "\n\n".join(parts) + "\n"


def amiss(line: LineValidity) -> Iterator[str]:
    """What known groups did on a line that they must not do."""
    where = f"`{line.claim}`, {line.label}"
    if line.order in ("reversed", "not shown", "half out of order"):
        yield f"{where}: the constitution in the prompt is {line.order}"
    if line.false_positives is not None and line.false_positives > MOST_FALSE:
        yield f"{where}: {line.false_positives:.0%} false positives"
    for group in ("neutral", "shuffled", "style"):
        if getattr(line, group) == "moves" and not (group == "style" and not line.label.startswith(CROSSED)):
            yield f"{where}: {group} subjects move it"
    if line.claim == SEES_STYLE and line.style == "still":
        yield f"{where}: style subjects do not move it"


def _correlations(found: Validity) -> Iterator[str]:
    """Readouts beside one another, beside themselves, and derived items beside hand-written ones."""
    kinds = {
        "Readouts of the same items": found.readouts,
        "Sampled again with another seed": found.retests,
        "Derived items and hand-written ones": found.derived,
    }
    for title, rows in kinds.items():
        if rows:
            yield f"## {title}"
            told = [
                [f"`{a.claim}` {version(a.claim)}", a.one, a.other, a.over, f"{a.correlation:.2f}", str(a.num)]
                for a in rows
            ]
            yield table(["claim", "one", "other", "over", "r", "n"], told)


def _oracles(found: Validity) -> Iterator[str]:
    """Rewriters of base's replies, and who saw them."""
    if found.planted:
        yield "## Oracles that rewrite base's replies"
        rows = [
            [p.oracle, f"`{p.claim}` {version(p.claim)}", p.readout, signed(p.before), signed(p.after), p.must, p.found]
            for p in found.planted
        ]
        yield table(["oracle", "claim", "readout", "before", "after", "must", "found"], rows)


def _reliability_row(line: LineValidity, found: Validity) -> list[str]:
    mark = f" ({MARK})" if experimental(line.claim, found) else ""
    rate = "–"
    if line.false_positives is not None:
        hits = round(line.false_positives * line.num_pairs)
        rate = f"{hits} of {line.num_pairs} [{line.false_positives_low:.0%}, {line.false_positives_high:.0%}]"
    ends_ = "–" if line.floor is None or line.ceiling is None else f"{line.floor:.0%}, {line.ceiling:.0%}"
    numbers = [line.reliability, line.level_reliability]
    told = ["–" if number is None else f"{number:.2f}" for number in numbers]
    smallest = "–" if line.detectable is None else f"{line.detectable:.3f} {line.unit}"
    seen = "–" if line.sensitivity is None else f"{line.sensitivity:.0%}"
    return [
        f"`{line.claim}` v{line.version}{mark}",
        line.label,
        str(line.num_items),
        *told,
        rate,
        seen,
        smallest,
        ends_,
    ]


def _group_row(line: LineValidity, groups: Sequence[str]) -> list[str]:
    by_name = {group.group: group for group in line.groups}
    cells = [_shift_cell(by_name[name]) if name in by_name else "–" for name in groups]
    return [f"`{line.claim}` v{line.version}", line.label, *cells, line.order, line.neutral, line.shuffled, line.style]


def _shift_cell(group: GroupShift) -> str:
    low, high = ("?" if end is None else signed(end) for end in (group.low, group.high))
    return f"{signed(group.mean)} [{low}, {high}]" + (f" n={group.num_subjects}" if group.num_subjects > 1 else "")
