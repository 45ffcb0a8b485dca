"""Who wins, and what became of what was expected: on shifts by hand, and on many studies without any difference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.bench.claim import Deciding
from ethos.design import Arm, Hypothesis, Quantity, Study
from ethos.methods import PreferenceTraining
from ethos.report.study.cells import Shifts, better_up, grid
from ethos.report.study.comparing import ShiftsOn, difference, judged, named_by_luck, winner


def shifts(**arms: list[list[float]]) -> dict[tuple[str, int], dict[str, float]]:
    """Arm → seeds → items."""
    return {
        (arm, seed): {f"i{place}": value for place, value in enumerate(values)}
        for arm, rows in arms.items()
        for seed, values in enumerate(rows)
    }


def noisy(mean: float, seed: int, *, seeds: int = 3, items: int = 60) -> list[list[float]]:
    return np.random.default_rng(seed).normal(mean, 0.2, (seeds, items)).tolist()


def on(primary: Shifts, **others: Shifts) -> ShiftsOn:
    """Shifts of the primary claim, and of other readouts by name."""
    return lambda quantity: primary if quantity is None else others[quantity.readout]


def near(mean: float, seed: int) -> list[list[float]]:
    return np.random.default_rng(seed).normal(mean, 0.01, (3, 60)).tolist()


def test_an_arm_wins_only_against_every_other() -> None:
    arms = ["a", "b", "c"]
    found = winner(shifts(a=noisy(0.5, 1), b=noisy(0.0, 2), c=noisy(0.1, 3)), arms)
    assert found.arm == "a"
    assert found.sentence.startswith("a is ahead of every other arm (by +0.")
    assert "over c, the next" in found.sentence
    told = winner(shifts(a=noisy(0.5, 1), b=noisy(0.0, 2), c=noisy(0.49, 3)), arms)
    assert told.arm is None
    assert told.sentence.startswith("No winner is named")
    assert "would settle it" in told.sentence


def test_no_winner_is_named_before_all_arms_meet_on_seeds_and_items() -> None:
    part = shifts(a=noisy(0.5, 1), b=noisy(0.0, 2))
    assert winner(part, ["a", "b", "c"]).sentence == "No winner is named yet: c lack finished cells in common."
    apart = part | {("c", 7): {"i0": 1.0}}
    assert winner(apart, ["a", "b", "c"]).sentence.startswith("No winner is named yet: the arms lack")
    alone = shifts(a=noisy(0.5, 1, seeds=1), b=noisy(0.0, 2, seeds=1))
    assert winner(alone, ["a", "b"]).sentence.startswith("No winner is named: one training seed")


def test_one_arm_is_set_beside_the_base_and_the_controls_of_its_cells() -> None:
    level = [[value + 0.3 for value in row] for row in noisy(0.0, 1)]
    found = winner(shifts(a=level, neutral=noisy(0.0, 1)), ["a"])
    assert found.arm is None
    assert "over neutral +0.300 [+0.300, +0.300]" in found.sentence
    assert "over base" in found.sentence
    assert "prompted" not in found.sentence  # not measured
    assert winner({}, ["a"]).sentence == "One arm, no finished cell."


def test_a_control_is_no_arm() -> None:
    assert winner(shifts(a=noisy(0.1, 1), b=noisy(0.1, 2), neutral=noisy(9.0, 3)), ["a", "b"]).arm is None


def test_where_lower_is_better_the_lowest_arm_wins() -> None:
    part = Deciding("flattery", "flattery", better="lower")
    gains = better_up(shifts(a=noisy(0.5, 1), b=noisy(0.0, 2)), part)
    assert winner(gains, ["a", "b"]).arm == "b"


@pytest.mark.parametrize("num_arms", [2, 3])
def test_null_studies_rarely_name_a_winner(num_arms: int) -> None:
    """Arms that differ by luck alone: of the training seed, of an item with an arm, and of both."""
    named, studies, arms = 0, 100, [f"arm-{place}" for place in range(num_arms)]
    for number in range(studies):
        rng = np.random.default_rng(number)
        spread_S, spread_I, noise = 0.1 * rng.random(), 0.5 * rng.random(), 0.2
        num_seeds, num_items = int(rng.integers(2, 6)), int(rng.integers(20, 120))
        found = {
            arm: rng.normal(0, spread_S, (num_seeds, 1))
            + rng.normal(0, spread_I, (1, num_items))
            + rng.normal(0, noise, (num_seeds, num_items))
            for arm in arms
        }
        named += winner(shifts(**{arm: grid_SI.tolist() for arm, grid_SI in found.items()}), arms).arm is not None
    assert named / studies <= 0.05


def test_a_true_difference_is_found() -> None:
    """The other side of the null: at the same noise, a shift of three standard errors is named more often than not."""
    named = 0
    for number in range(40):
        named += winner(shifts(a=noisy(0.15, number), b=noisy(0.0, number + 500)), ["a", "b"]).arm == "a"
    assert named > 20


@given(st.sets(st.integers(0, 3), min_size=1), st.sets(st.integers(0, 3), min_size=1))
def test_arms_meet_on_the_seeds_and_items_that_both_have(one: set[int], other: set[int]) -> None:
    found = {("a", seed): {f"i{item}": 1.0 for item in one} for seed in one}
    found |= {("b", seed): {f"i{item}": 0.25 for item in other} for seed in other}
    gap = difference(found, "a", "b")
    common = one & other
    assert (gap is None) == (not common)
    if gap is not None:
        assert gap.shape == (len(common), len(common))
        assert (gap == 0.75).all()
    assert grid(found, ["a"])[0].shape == (len(one), len(one))


def hypothesis(**named: str) -> Study:
    return Study(
        name="s",
        hypotheses=(Hypothesis(text="It is so.", **named), Hypothesis(text="See.")),
        smallest_effect=0.1,
        seeds=(0,),
        arms=tuple(Arm(name=name, stages=(PreferenceTraining(),)) for name in "ab"),
    )


@pytest.mark.parametrize(
    ("one", "other", "outcome", "note"),
    [
        (0.5, 0.0, "held", ""),
        (0.05, 0.0, "held", "less than would matter"),
        (0.0, 0.5, "refuted", ""),
        (0.0, 0.0, "refuted", ""),
    ],
)
def test_an_expectation_is_held_against_zero_and_refuted_where_it_would_not_matter(
    one: float, other: float, outcome: str, note: str
) -> None:
    found = judged(hypothesis(better="a", than="b"), on(shifts(a=near(one, 1), b=near(other, 2))))
    assert {each.outcome: each.note for each in found} == {outcome: note, "for the reader": ""}


def test_what_cannot_be_compared_yet_is_undecided() -> None:
    apart = shifts(a=near(0.5, 1)) | {("b", 7): {"i0": 1.0}}
    (first, _) = judged(hypothesis(better="a", than="b"), on(apart))
    assert (first.outcome, first.estimate, first.note) == ("undecided", None, "no common cells yet")


def test_one_training_seed_is_told() -> None:
    found = judged(hypothesis(better="a", than="neutral"), on(shifts(a=near(0.5, 1)[:1], neutral=near(0.0, 2)[:1])))
    assert found[0].note == "one training seed, which says nothing of others"


def test_an_expectation_over_base_is_of_the_shift_itself() -> None:
    (first, _) = judged(hypothesis(better="a", than="base"), on(shifts(a=[[0.5, 0.7], [0.5, 0.7]])))
    assert first.estimate is not None
    assert first.estimate.mean == pytest.approx(0.6)


def test_the_refuted_come_first() -> None:
    study = hypothesis(better="a", than="b")
    worse = Hypothesis(text="Worse.", better="b", than="a")
    found = judged(
        study.model_copy(update={"hypotheses": (*study.hypotheses, worse)}), on(shifts(a=near(0.5, 1), b=near(0, 2)))
    )
    assert [each.outcome for each in found] == ["refuted", "held", "for the reader"]


def claimed(**named: object) -> Study:
    """One finding of others."""
    found = Hypothesis.model_validate({"text": "It is so.", "claimed_by": "A. Author 2025", **named})
    return hypothesis().model_copy(update={"hypotheses": (found,)})


def test_a_finding_of_others_that_names_no_arms_or_has_no_cells_is_not_run() -> None:
    (nothing,) = judged(claimed(), on({}))
    assert (nothing.outcome, nothing.note) == ("not run", "")
    (unrun,) = judged(claimed(better="a", than="b"), on(shifts(a=near(0.5, 1))))
    assert (unrun.outcome, unrun.note) == ("not run", "no finished cell of b here")


def test_another_quantity_is_judged_against_zero() -> None:
    kl = Quantity(claim="keeps_its_abilities", readout="kl")
    found = on(shifts(a=near(0.0, 1), b=near(0.0, 2)), kl=shifts(a=near(0.04, 3), b=near(0.0, 4)))
    (held,) = judged(claimed(better="a", than="b", on=kl), found)
    assert (held.outcome, held.note) == ("held", "")
    (refuted,) = judged(claimed(better="b", than="a", on=kl), found)
    assert refuted.outcome == "refuted"
    (base,) = judged(claimed(better="base", than="a", on=kl), found)
    assert base.outcome == "refuted"
    assert base.estimate is not None
    assert base.estimate.mean == pytest.approx(-0.04, abs=0.005)


def test_what_differs_either_way_is_held_and_what_is_alike_is_refuted() -> None:
    for level, outcome in ((-0.5, "held"), (0.5, "held"), (0.0, "refuted")):
        (found,) = judged(claimed(better="neutral", than="base", differs=True), on(shifts(neutral=near(level, 1))))
        assert found.outcome == outcome


def test_a_cost_at_equal_shift_is_a_ratio_and_over_nothing_is_undecided() -> None:
    kl = Quantity(claim="keeps_its_abilities", readout="kl", per_shift=True)
    costs = shifts(a=near(0.2, 3), b=near(0.2, 4))
    (found,) = judged(claimed(better="a", than="b", on=kl), on(shifts(a=near(0.2, 1), b=near(0.8, 2)), kl=costs))
    assert found.outcome == "held"  # the same cost for a quarter of the shift
    assert found.estimate is not None
    assert found.estimate.mean == pytest.approx(0.75, abs=0.05)
    (none,) = judged(claimed(better="a", than="b", on=kl), on(shifts(a=near(0.0, 1), b=near(0.8, 2)), kl=costs))
    assert (none.outcome, none.note) == ("undecided", "a shift is not clearly above zero")


def test_one_arm_is_compared_on_two_kinds_of_items() -> None:
    chat, letter = (Quantity(claim="carries_over", readout=name) for name in ("crossed", "pole"))
    found = on({}, crossed=shifts(a=near(0.5, 1)), pole=shifts(a=near(0.1, 2)))
    (drop,) = judged(claimed(better="a", than="a", on=chat, than_on=letter), found)
    assert drop.outcome == "held"
    assert drop.estimate is not None
    assert drop.estimate.mean == pytest.approx(0.4, abs=0.02)


def test_a_control_arm_must_be_beaten_and_cannot_win() -> None:
    found = shifts(a=noisy(0.5, 1), b=noisy(0.0, 2), shuffled=noisy(0.9, 3))
    assert winner(found, ["a", "b", "shuffled"], ["shuffled"]).arm is None
    assert "not clearly ahead of shuffled" in winner(found, ["a", "b", "shuffled"], ["shuffled"]).sentence
    beaten = found | shifts(shuffled=noisy(0.0, 3))
    assert winner(beaten, ["a", "b", "shuffled"], ["shuffled"]).arm == "a"
    assert winner(found, ["b", "shuffled"], ["b", "shuffled"]).sentence.startswith("No winner is sought")


def test_seeds_that_differ_too_much_are_told_how_many_would_do() -> None:
    spread = [[value + shift for value in row] for row, shift in zip(near(0.3, 1), (-0.3, 0.0, 0.3), strict=True)]
    told = winner(shifts(a=spread, b=near(0.0, 2)), ["a", "b"]).sentence
    assert "Against b, about 10 training seeds would settle it" in told  # 8 by normal theory, 2 more for t


def test_seeds_without_labels_seldom_make_a_winner_and_few_say_nothing() -> None:
    assert named_by_luck(shifts(s=noisy(0.0, 1, seeds=5)), "s") is None
    rate = named_by_luck(shifts(s=noisy(0.0, 1, seeds=12, items=30)), "s")
    assert rate is not None
    assert rate <= 0.05
    ranked = shifts(s=[[seed + 0.001 * item for item in range(30)] for seed in range(6)])
    assert named_by_luck(ranked, "s") is not None
