"""The report on a small finished run, built by hand from the real records."""

import json
import math
import random
import re
import shutil
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path

import pytest

from ethos.bench import (
    answers_inventories,
    holds_under_pressure,
    lasts_through_long_conversations,
    prefers_its_own_traits,
    recovers_from_prefill,
    survives_fine_tuning,
    weighs_risk_as_described,
)
from ethos.bench.baseline import BaselineScore
from ethos.bench.battery import CLAIMS
from ethos.bench.carries_over import SPLITS
from ethos.bench.claim import Score
from ethos.bench.validity import LEGEND
from ethos.config import RunConfig
from ethos.constitution import Constitution, Trait
from ethos.errors import StoreError
from ethos.manifest import MANIFEST, Manifest
from ethos.measuring import SCORES, BenchSettings
from ethos.methods import IntrospectionTraining, PreferenceTraining
from ethos.models import Subject
from ethos.records import Drop, Record, to_jsonl
from ethos.report.contrasts import Comparison
from ethos.report.figures import Scale, padded, smoothed, ticks
from ethos.report.findings import findings, shift_bounds, tally, unscored
from ethos.report.page import duration, write_report
from ethos.report.summary import Summary, overall, summarise
from ethos.stats import Estimate
from ethos.store import TIMING
from ethos.train.schedule import Step

ATTACK = "<script>alert(1)</script>"
MOVED = {"base": 0.0, "prompted": 0.06, "neutral": 0.002, "trained": 0.12}
"""Crossed shift of each subject, nats/token."""


def finished_run(
    root: Path, *, items: int = 16, reply: str = ATTACK, moved: dict[str, float] = MOVED, letterless: int = 2
) -> Path:
    """A finished run folder with every claim, an unscored item and a hostile reply."""
    constitution = Constitution(
        name="kind", version="1", summary="s", licence="CC0-1.0", priority=["care"], trait=[_trait()]
    )
    stages = {
        name: f"{name}/{name[:3]}" for name in ("data", "preference", "introspection", "adapter", "neutral", "baseline")
    }
    measured = {subject: {claim: f"measured/{claim}/{subject}" for claim in CLAIMS} for subject in moved}
    for subject, shift in moved.items():
        for claim, rows in _scores(subject, shift, items, reply, letterless).items():
            _write(root / measured[subject][claim] / SCORES, rows)
    for folder in [*stages.values(), *(folder for claims in measured.values() for folder in claims.values())]:
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / TIMING).write_text(json.dumps({"seconds": 61.5}))
    _stage_files(root, stages)
    manifest = Manifest(
        config=RunConfig(
            name="fake", stages=(PreferenceTraining(), IntrospectionTraining()), bench=BenchSettings(per_split=items)
        ),
        constitution=constitution,
        ethos="0.1.0",
        versions={"torch": "2.13.0"},
        hardware={"processor": "abacus"},
        stages=stages,
        subjects={
            name: Subject(name=name, base="b", system="Be kind." if name == "prompted" else None) for name in moved
        },
        measured=measured,
    )
    (root / MANIFEST).write_text(manifest.model_dump_json())
    return root


def _trait() -> Trait:
    return Trait(
        name="care", statement="I care.", why="It matters.", opposite="I do not.", prompts={"familiar": ["Help?"]}
    )


def _write(path: Path, rows: Sequence[Record]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(to_jsonl(rows))


def _stage_files(root: Path, stages: dict[str, str]) -> None:
    _write(
        root / stages["data"] / "preferences.jsonl", [Drop(source=str(i), reason="stands for a row") for i in range(3)]
    )
    _write(
        root / stages["data"] / "dropped.jsonl",
        [Drop(source=str(i), reason="longer than 512 tokens") for i in range(5)],
    )
    _write(root / stages["introspection"] / "dropped.jsonl", [Drop(source="s", reason="refusal | <b>")])
    for stage in ("preference", "introspection", "neutral"):
        rng = random.Random(stage)
        metrics = {"margin": 3.0, "groups": 0.5} if stage == "preference" else {"nll": 2.0}
        log = [
            Step(step=i + 1, loss=3 / (1 + i / 9) + rng.gauss(0, 0.1), metrics=metrics, tokens=100) for i in range(60)
        ]
        _write(root / stages[stage] / "log.jsonl", log)
    accuracy = {"crossed": 0.5, "pole": 0.93, "voice": 0.97}
    rows = [
        BaselineScore(contrast=f"{name}, {split}", accuracy=share, num_items=16)
        for name, share in accuracy.items()
        for split in ("familiar", *SPLITS)
    ]
    _write(root / stages["baseline"] / "baseline.jsonl", rows)


def _scores(subject: str, shift: float, items: int, reply: str, letterless: int) -> dict[str, list[Score]]:
    """All claims' scores: what base says of an item is shared by all subjects, the shift and its noise are not."""
    own, shared = random.Random(subject), random.Random(0)
    noise = 0.0 if subject == "base" else 0.05

    def rows(readout: str, split: str, gain: float, spread: float = noise) -> Iterator[Score]:
        for i in range(items):
            yield Score(
                item=f"{split}-{i}",
                split=split,
                readout=readout,
                value=shared.gauss(0.1, 0.3) + gain + own.gauss(0, spread),
            )

    letters = [
        Score(item=f"familiar-{i}", split="familiar", readout="letter", value=own.gauss(0, 0.1))
        for i in range(letterless, items)
    ]
    lost = [
        Score(
            item=f"familiar-{i}",
            split="familiar",
            readout="letter",
            value=None,
            reason="letters hold 0.012 of the probability",
        )
        for i in range(letterless)
    ]
    contrasts = {"crossed": shift, "pole": 3 * shift, "voice": 8 * shift, "deliberated": shift, "won": shift}
    shows = [row for name, gain in contrasts.items() for row in rows(name, "familiar", gain)] + lost + letters
    carries = [
        row
        for name in ("pole", "voice", "crossed", "won")
        for i, split in enumerate(SPLITS)
        for row in rows(name, split, contrasts[name] * (1 - 0.3 * i))
    ]

    def dosed(prefix: str, doses: Sequence[int]) -> list[Score]:
        return [
            Score(
                item=f"familiar-{i}",
                split=f"{prefix}-{dose}",
                readout="crossed",
                value=random.Random(i).gauss(0.1, 0.3) + shift / (1 + 0.1 * dose) + own.gauss(0, noise),
            )
            for dose in doses
            for i in range(items)
        ]

    choice = [
        Score(item=f"choice-{i}", split="unrelated", readout="choice", value=float(shared.random() < 0.6))
        for i in range(2 * items)
    ]
    fulfilled = [
        Score(item=f"do-{i}", split="unrelated", readout="instructions", value=float(own.random() < 0.5), text="ok")
        for i in range(items)
    ]
    prose = [*rows("surprise", "unrelated", 0.1 * shift), *rows("kl", "unrelated", shift, 0.01)]
    abilities = (
        [
            row.model_copy(update={"value": 1 - (row.value or 0)}) if row.item == f"choice-{len(subject)}" else row
            for row in choice
        ]
        + fulfilled
        + prose
    )
    return {
        "shows_the_character": shows,
        "carries_over": carries,
        "leaves_other_requests_alone": list(rows("intrusion", "unrelated", 0.05 * shift)),
        "holds_under_pressure": dosed("dose", holds_under_pressure.DOSES),
        "recovers_from_prefill": dosed("dose", recovers_from_prefill.DOSES),
        "lasts_through_long_conversations": dosed("after", lasts_through_long_conversations.LENGTHS),
        "same_when_unwatched": [
            *rows("gap", "familiar", shift - 0.1, 0.01),
            *rows("placebo", "familiar", -0.1, 0.01),
        ],
        "keeps_its_abilities": abilities,
        "writes_coherently": list(
            _writing(own, items, reply if subject == "trained" else "I would ask her first. Then I would wait.")
        ),
        "survives_fine_tuning": [
            row
            for name in ("crossed", "pole")
            for place in survives_fine_tuning.PLACES
            for row in rows(name, place, shift)
        ],
        "can_be_told_apart": [
            *(row for name in ("own", "itself", "none", "as poetic") for row in rows(name, "unrelated", shift)),
            *(row for name in ("recall", "brier", "ece") for row in rows(name, "recorded", 0.0, 0.0)),
        ],
        "knows_when": [
            row for kind in ("urgency", "consent") for name in ("crossed", "won") for row in rows(name, kind, shift)
        ],
        "decides_well": [
            row
            for split in ("care, everyday", "courage, high")
            for name in ("margin", "won")
            for row in rows(name, split, shift)
        ],
        "resolves_conflicts_as_ranked": [
            row for split in ("near", "far") for name in ("ranked", "won") for row in rows(name, split, shift)
        ],
        "does_not_flatter": [
            row for name in ("flattery", "yielding", "learning", "sure", "margin") for row in rows(name, "fact", -shift)
        ],
        "prefers_its_own_traits": [
            row
            for split in (*prefers_its_own_traits.MIXED, prefers_its_own_traits.NULL)
            for name in ("preference", "position")
            for row in rows(name, split, shift)
        ],
        "acts_as_it_speaks": list(_duelling(own)),
        "values_cohere": list(_choosing(shift)),
        "weighs_risk_as_described": [
            Score(item=lottery.name, split=form, readout=name, value=own.gauss(shift, 0.05))
            for form in weighs_risk_as_described.FORMS
            for lottery in weighs_risk_as_described.lotteries()
            for name in ("safe", "described")
        ],
        "answers_inventories": [
            row
            for factor in answers_inventories.FACTORS
            for name in ("answer", "deviation", "content")
            for row in rows(name, factor, shift)
        ],
    }


def _duelling(rng: random.Random) -> Iterator[Score]:
    """Both answers for every pair of seven traits."""
    for one, other in combinations("abcdefg", 2):
        for name in ("stated", "decided"):
            yield Score(item=one + other, split=f"{one} or {other}", readout=name, value=rng.gauss(0, 0.1))


def _choosing(shift: float) -> Iterator[Score]:
    """Preferences over eight states that follow the alphabet."""
    for one, other in combinations("abcdefgh", 2):
        values = {"preference": 0.8, "order": 1.0, "decisive": 0.6, "valence": 0.1 + shift}
        for name, value in values.items():
            yield Score(item=f"{one} or {other}", split="relevant", readout=name, value=value)


def _writing(rng: random.Random, items: int, reply: str) -> Iterator[Score]:
    for i in range(items):
        text = "" if i == 1 else f"{reply} ({i})"
        values = (
            {"relevance": rng.gauss(0.5, 0.1), "repetition": rng.random() / 50}
            if text
            else {"relevance": None, "repetition": None}
        )
        for name, value in (values | {"stops": float(i % 5 != 0), "words": 8 + rng.random()}).items():
            yield Score(
                item=f"writing-{i:02}",
                split="unrelated",
                readout=name,
                value=value,
                reason="" if text else "empty reply",
                text=text,
            )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = finished_run(tmp_path_factory.mktemp("run"))
    write_report(root)
    return root


@pytest.fixture(scope="module")
def html(run: Path) -> str:
    return (run / "report.html").read_text()


@pytest.fixture(scope="module")
def summary(run: Path) -> Summary:
    return summarise(run)


class _Text(HTMLParser):
    """What a reader sees, and every tag with its attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.text, self.tags = "", list[tuple[str, dict[str, str | None]]]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> _Text:
    parser = _Text()
    parser.feed(html)
    return parser


def test_the_path_of_the_page_comes_back_and_both_files_are_whole(run: Path):
    assert write_report(run) == run / "report.html"
    assert (run / "report.html").read_text().rstrip().endswith("</html>")
    assert (run / "report.md").read_text().startswith("# kind in smollm2")


def test_equal_files_give_equal_bytes(run: Path, tmp_path: Path):
    other = finished_run(tmp_path)
    write_report(other)
    assert [(other / name).read_bytes() for name in ("report.html", "report.md")] == [
        (run / name).read_bytes() for name in ("report.html", "report.md")
    ]


def test_a_reply_that_holds_a_script_is_text(html: str):
    assert ATTACK not in html
    assert ATTACK in read(html).text
    assert "script" not in {tag for tag, _ in read(html).tags}


def test_nothing_is_loaded_from_anywhere(html: str):
    loaders = {"src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"}
    assert not [
        (tag, attrs) for tag, attrs in read(html).tags if loaders & attrs.keys() or tag in ("link", "iframe", "object")
    ]
    assert not re.search(r"url\(|@import", html)
    assert "default-src 'none'" in html


def test_sentences_and_intervals_stand_in_both_files(run: Path, html: str, summary: Summary):
    page, text = read(html).text, (run / "report.md").read_text()
    for finding in summary.trained:
        assert finding.verdict
        assert finding.sentence in page
        assert finding.sentence in text
        for line in finding.deciding:
            assert str(line.estimate) in page
            assert str(line.estimate) in text


def test_every_deciding_line_is_a_line_of_its_verdict(summary: Summary):
    for found in summary.findings.values():
        for finding in found:
            assert [line.label for line in finding.deciding] == [part.label for part in CLAIMS[finding.claim].deciding]
            assert finding.deciding


def test_drops_are_counted_by_reason_and_unscored_items_are_named(html: str, run: Path):
    page, text = read(html).text, (run / "report.md").read_text()
    assert re.search(r"data\s*5\s*dropped: longer than 512 tokens", page)
    assert "data: 5 dropped, longer than 512 tokens" in text
    assert "refusal \\| &lt;b>" in text
    assert "letter: 2 of 16 items unscored (letters hold 0.012 of the probability: 2)" in page
    assert "repetition: 1 of 16 items unscored (empty reply: 1)" in text


def test_reasons_alike_but_for_a_number_are_one_with_its_range():
    held = [f"letters hold {share} of the probability" for share in ("0.045", "0.0305", "0.045")]
    assert tally(["empty reply", *held, "9 of 10 words", "9 of 8 words"]) == (
        ("letters hold 0.0305 to 0.045 of the probability", 3),
        ("9 of 8 to 10 words", 2),
        ("empty reply", 1),
    )
    assert tally([]) == ()


def test_over_two_percent_unscored_shows_both_bounds(html: str):
    assert re.search(r"letter: 2 of 16 .* the mean shift lies between [+-]0\.\d+ and [+-]0\.\d+", read(html).text)


def test_bounds_by_hand():
    assert shift_bounds([0.0, 0.0, 0.0, None], [0.1, 0.1, 0.1, 0.2], (-0.5, 0.5)) == pytest.approx(
        (-0.175, 0.325)
    )  # (0.3 ± 1) / 4
    assert shift_bounds([0.0] * 100, [0.1] * 98 + [None] * 2, (-0.5, 0.5)) is None
    assert shift_bounds([None], [None], None) is None


def test_a_base_without_a_number_is_told_from_a_subject_without_one():
    def letter(value: float | None, reason: str = "") -> Score:
        return Score(item="i", split="familiar", readout="letter", value=value, reason=reason)

    (ours,) = unscored("shows_the_character", [letter(0.1)], [letter(None, "few letters")])
    (theirs,) = unscored("shows_the_character", [letter(None, "few letters")], [letter(0.1)])
    (bare,) = unscored("shows_the_character", [letter(0.1)], [letter(None)])
    assert (ours.reasons, theirs.reasons, bare.reasons) == (
        (("few letters", 1),),
        (("base: few letters", 1),),
        (("no reason recorded", 1),),
    )


def test_a_claim_with_nothing_scored_says_so(tmp_path: Path):
    root = finished_run(tmp_path)
    path = root / "measured/holds_under_pressure/trained" / SCORES
    rows = [Score.model_validate_json(line) for line in path.read_text().splitlines()]
    _write(path, [row.model_copy(update={"value": None, "reason": "the model would not load"}) for row in rows])
    write_report(root)
    finding = next(f for f in summarise(root).trained if f.claim == "holds_under_pressure")
    assert finding.outcome == "not scored"
    for name in ("report.html", "report.md"):
        assert "Not scored: the model would not load." in read((root / name).read_text()).text
    assert "1 not scored (holds under pressure)" in summarise(root).overall


def test_a_claim_that_was_not_measured_says_so(tmp_path: Path):
    root = finished_run(tmp_path)
    manifest = Manifest.model_validate_json((root / MANIFEST).read_text())
    fewer = {
        subject: {claim: folder for claim, folder in claims.items() if claim == "leaves_other_requests_alone"}
        for subject, claims in manifest.measured.items()
    }
    (root / MANIFEST).write_text(manifest.model_copy(update={"measured": fewer}).model_dump_json())
    page = read(write_report(root).read_text()).text
    assert page.count("Not scored: not measured in this run.") == (len(CLAIMS) - 1) * (
        1 + 3
    )  # a card each, and three subjects each under the details
    assert "No replies" in page


def test_a_run_of_one_stage_without_drops_reports(tmp_path: Path):
    root = finished_run(tmp_path)
    manifest = Manifest.model_validate_json((root / MANIFEST).read_text())
    stages = {name: folder for name, folder in manifest.stages.items() if name != "introspection"} | {
        "adapter": manifest.stages["preference"]
    }
    alone = manifest.config.model_copy(update={"stages": manifest.config.stages[:1]})
    (root / manifest.stages["data"] / "dropped.jsonl").write_text("")
    (root / MANIFEST).write_text(manifest.model_copy(update={"stages": stages, "config": alone}).model_dump_json())
    assert "No filter refused a row." in write_report(root).read_text()
    assert [curve.stage for curve in summarise(root).curves] == ["preference", "preference", "neutral"]


def test_an_unfinished_run_is_refused(tmp_path: Path):
    with pytest.raises(StoreError, match="no finished run"):
        write_report(tmp_path)


def test_a_held_claim_that_holm_does_not_let_stand_is_undecided():
    shared = random.Random(1)
    base = [Score(item=str(i), split="unrelated", readout="intrusion", value=shared.gauss(0, 1)) for i in range(12)]
    after = [
        row.model_copy(update={"value": (row.value or 0) + shift})
        for row, shift in zip(base, [0.072, -0.04] * 6, strict=True)
    ]
    noisy = [row.model_copy(update={"readout": "crossed", "split": "familiar"}) for row in base]
    extra = [
        row.model_copy(update={"readout": name}) for row in noisy for name in ("pole", "voice", "deliberated", "letter")
    ]
    others = [
        row.model_copy(update={"value": (row.value or 0) + random.Random(i).gauss(0, 1)}) for i, row in enumerate(noisy)
    ]
    table = {name: {claim: list[Score]() for claim in CLAIMS} for name in ("base", "trained")}
    table["base"] |= {"leaves_other_requests_alone": base, "shows_the_character": noisy + extra}
    table["trained"] |= {"leaves_other_requests_alone": after, "shows_the_character": others + extra}
    finding = next(f for f in findings(table, "trained", base="base") if f.claim == "leaves_other_requests_alone")
    assert finding.verdict
    assert (finding.verdict.outcome, finding.num_tests) == ("held", 2)
    assert finding.outcome == "undecided"
    assert "among 2 claims it does not" in finding.sentence


@pytest.mark.parametrize("few", [1, 2, 3])
def test_a_mean_over_fewer_items_than_a_claim_needs_is_not_shown(few: int):
    base = [
        Score(item=str(i), split="consent", readout=name, value=0.1 * i)
        for name in ("crossed", "won")
        for i in range(9)
    ]
    after = [
        row.model_copy(
            update={"value": (row.value or 0) + 1.0} if int(row.item) < few else {"value": None, "reason": "lost"}
        )
        for row in base
    ]
    (finding,) = findings({"base": {"knows_when": base}, "trained": {"knows_when": after}}, "trained", base="base")
    assert (finding.verdict is None) == (few < CLAIMS["knows_when"].least)
    if finding.verdict is None:
        assert finding.sentence == f"Not scored: {few} items scored, 3 are needed."
        assert [part.num_unscored for part in finding.unscored] == [9 - few] * 2


def test_no_winner_where_the_interval_spans_zero():
    assert Comparison("c", "neutral", Estimate(0.3, -0.1, 0.7, 9)).word == "no difference shown"
    assert Comparison("c", "neutral", Estimate(0.3, 0.3, 0.3, 1)).word == "no difference shown"
    assert Comparison("c", "neutral", Estimate(-0.3, -0.7, -0.1, 9)).word == "neutral is higher"
    assert Comparison("c", "neutral", Estimate(0.3, 0.1, 0.7, 9)).word == "trained is higher"
    assert Comparison("c", "neutral", None).word == "not scored"


def test_the_overall_sentence_claims_no_disposition_without_a_crossed_shift(tmp_path: Path):
    root = finished_run(tmp_path, moved={"base": 0.0, "prompted": 0.1, "neutral": 0.0, "trained": 0.0})
    assert summarise(root).overall.startswith("No disposition is shown")


def test_the_overall_sentence_names_a_control_that_does_as_well(tmp_path: Path):
    root = finished_run(tmp_path, moved={"base": 0.0, "prompted": 0.1, "neutral": 0.12, "trained": 0.12})
    summary = summarise(root)
    assert (
        "on everyday prompts and on domain, format and role not shown to exceed the neutral control" in summary.overall
    )
    assert overall(summary.trained, []) != summary.overall


def test_figures_say_in_words_what_they_draw(html: str):
    images = [attrs for tag, attrs in read(html).tags if tag == "svg" and attrs.get("role") == "img"]
    assert len(images) == 3 + 1 + 4  # a panel a readout, the doses, three losses and a margin
    ids = [attrs["id"] for _, attrs in read(html).tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert all(set((attrs["aria-labelledby"] or "").split()) <= set(ids) for attrs in images)


def test_baseline_accuracy_stands_beside_its_contrast(html: str):
    page = read(html).text
    assert page.count("bag of words 50 %") == 5
    assert page.count("bag of words 93 %") == 5


def test_the_margin_is_that_of_a_contrast_not_of_a_unit(summary: Summary):
    margin = next(curve for curve in summary.curves if curve.quantity.startswith("margin"))
    assert set(margin.values) == {6.0}


def test_transcripts_keep_order_and_say_what_is_missing(summary: Summary):
    assert [row.item for row in summary.transcripts[:2]] == ["writing-00", "writing-01"]
    assert [reply.subject for reply in summary.transcripts[0].replies] == ["base", "trained", "prompted", "neutral"]
    assert {reply.note for reply in summary.transcripts[0].replies} == {"cut off at the length limit"}
    assert {(reply.text, reply.note) for reply in summary.transcripts[1].replies} == {("", "empty reply")}


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (-0.03, 0.12, [0, 0.05, 0.1]), (-4, 9, [0, 5])]
)
def test_ticks_are_round(low: float, high: float, expected: list[float]):
    assert ticks(Scale(low, high, 0, 1)) == pytest.approx(expected)


def test_scales_survive_nothing_and_constants():
    assert padded([], 0, 1).at(0) == pytest.approx(0.5)
    assert padded([-math.inf, 2.0, math.inf], 0, 1) == padded([2.0], 0, 1)
    assert [padded([2.0], 0, 1).at(value) for value in (-math.inf, math.inf)] == [0, 1]
    assert padded([2.0, 2.0], 0, 1, zero=False).at(2.0) == pytest.approx(0.5)


def test_smoothing_is_a_running_mean():
    assert smoothed([1.0, 3.0]) == [1.0, 3.0]
    assert smoothed([float(i) for i in range(20)])[:3] == [0.0, 0.5, 1.5]


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, "not recorded"), (2.04, "2.0 s"), (59.99, "60.0 s"), (61.5, "1 min 01 s")]
)
def test_durations(seconds: float | None, said: str):
    assert duration(seconds) == said


def test_claims_that_the_run_did_not_ask_for_take_no_room(tmp_path: Path):
    root = finished_run(tmp_path)
    manifest = Manifest.model_validate_json((root / MANIFEST).read_text())
    bench = manifest.config.bench.model_copy(update={"claims": ("knows_when", "carries_over")})
    config = manifest.config.model_copy(update={"bench": bench})
    (root / MANIFEST).write_text(manifest.model_copy(update={"config": config}).model_dump_json())
    page = read(write_report(root).read_text()).text
    text = (root / "report.md").read_text()
    assert [finding.claim for finding in summarise(root).trained] == ["knows_when", "carries_over"]
    assert "not measured in this run" not in page
    assert "Not asked for in this run: `shows_the_character`, " in text
    assert "of 2 claims" in text


def test_claims_that_are_not_known_to_be_reliable_are_marked_in_every_table(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    root = Path(shutil.copytree(run, tmp_path / "copy"))
    monkeypatch.setattr("ethos.bench.validity.experimental", lambda claim: claim != "knows_when")
    page, text = read(write_report(root).read_text()).text, (root / "report.md").read_text()
    assert "`knows_when` v1 |" in text
    assert text.count("(experimental)") == len(CLAIMS) - 1
    assert page.count(" experimental") == 3 * (len(CLAIMS) - 1)  # its verdict, its row, its details
    for told in (page, text):
        assert LEGEND in re.sub(r"\s+", " ", told)


def test_a_control_says_so_on_its_report(tmp_path: Path, html: str):
    root = finished_run(tmp_path)
    manifest = Manifest.model_validate_json((root / MANIFEST).read_text())
    mixture = manifest.config.mixture.model_copy(update={"labels": "shuffled"})
    config = manifest.config.model_copy(update={"mixture": mixture})
    (root / MANIFEST).write_text(manifest.model_copy(update={"config": config}).model_dump_json())
    assert "A control: its contrasts have shuffled labels." in read(write_report(root).read_text()).text
    assert "**A control**: its contrasts have shuffled labels." in (root / "report.md").read_text()
    assert "A control" not in read(html).text
