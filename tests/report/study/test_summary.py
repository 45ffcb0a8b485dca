"""A study judged: lines, ratios, frontiers, and what is missing."""

from pathlib import Path

import pytest
from made import CLAIMS_ASKED, WITH_ABILITIES, made_study

from ethos.design import Hypothesis, Quantity
from ethos.errors import DataError
from ethos.report.study import summary as summaries
from ethos.report.study.page import write_study
from ethos.report.study.summary import Character, StudySummary, summarise_study


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> StudySummary:
    return summarise_study(
        *made_study(
            tmp_path_factory.mktemp("summary"),
            {"sft": 0.0, "dpo": 0.3},
            claims=WITH_ABILITIES,
            hypotheses=[
                Hypothesis(text="Contrasts beat likelihood.", better="dpo", than="sft"),
                Hypothesis(text="They do not.", better="sft", than="dpo"),
            ],
        )
    )


@pytest.fixture(scope="module")
def found(summary: StudySummary) -> Character:
    (character,) = summary.characters
    return character


def test_the_winner_and_what_was_expected(found: Character) -> None:
    assert found.winner.arm == "dpo"
    assert [each.outcome for each in found.judged] == ["refuted", "held"]
    assert found.columns == ["sft", "dpo", "prompted", "neutral"]


def test_every_line_of_every_claim_has_a_row_and_a_slope_is_named_as_left_out(
    summary: StudySummary, found: Character
) -> None:
    lines = [(row.claim, row.label) for row in found.rows]
    assert ("carries_over", "crossed, role") in lines
    assert [claim for claim, _ in found.groups] == [*WITH_ABILITIES, ""]
    assert summary.left_out == [("holds_under_pressure", "slope a doubling")]
    assert all(row.num_items in ("24", "72") for row in found.rows)


def test_a_generalisation_ratio_stands_only_over_a_familiar_shift(found: Character) -> None:
    ratio = found.beside[0].estimates
    assert ratio["sft"] is None
    assert ratio["dpo"] is not None
    assert ratio["dpo"].low < 1 < ratio["dpo"].high


def test_each_point_of_a_frontier_is_the_rows_of_the_table(found: Character) -> None:
    kl, abilities = found.frontiers
    assert [point.name for point in kl.points] == found.columns
    for point in kl.points:
        assert point.up == found.rows[0].estimates[point.name]
        assert point.across == found.beside[1].estimates[point.name]
        assert len(point.seeds) == 3
        assert sum(up for _, up in point.seeds) / 3 == pytest.approx(point.up.mean)
    for point in abilities.points:
        assert point.across == found.beside[2].estimates[point.name]


def test_arms_are_compared_on_what_the_plan_names(tmp_path: Path) -> None:
    root, plan, states = made_study(tmp_path, {"sft": 0.0, "dpo": 0.3}, claims=WITH_ABILITIES)
    primary = Quantity(claim="carries_over", readout="crossed", splits=("role", "domain"))
    plan = plan.model_copy(update={"study": plan.study.model_copy(update={"primary": primary})})
    found = summarise_study(root, plan, states).characters[0]
    (row,) = [row for row in found.rows if row.label == "crossed, role, domain"]
    assert row.num_items == "48"
    assert {point.name: point.up for point in found.frontiers[0].points} == row.estimates
    assert found.frontiers[0].up == "carries over: crossed, role, domain, nats/token"
    assert "(crossed, role, domain)" in write_study(root, plan, states).with_name("study.md").read_text()


def test_ability_loss_is_base_minus_subject_over_both_readouts(found: Character) -> None:
    rows = {row.label: row for row in found.rows if row.claim == "keeps_its_abilities"}
    for name in found.columns:
        lost, choice, done = (row.estimates[name] for row in (found.beside[2], rows["choice"], rows["instructions"]))
        assert lost is not None
        assert choice is not None
        assert done is not None
        assert lost.mean == pytest.approx(-(choice.mean + done.mean) / 2)


def test_a_row_tells_a_shift_with_a_sign_and_anything_else_without(found: Character) -> None:
    shift, kl = found.rows[0], found.beside[1]
    assert shift.told("dpo")[0].startswith("+0.")
    assert shift.shows("dpo")
    assert not shift.shows("neutral")
    assert kl.told("dpo")[0].startswith("0.")
    assert not kl.shows("dpo")
    assert found.beside[0].told("sft") == ("–", "")


def test_without_abilities_there_is_no_frontier(tmp_path: Path) -> None:
    summary = summarise_study(*made_study(tmp_path, {"one": 0.2}, claims=CLAIMS_ASKED))
    assert summary.characters[0].frontiers == []
    assert [row.label for row in summary.characters[0].beside] == ["generalisation ratio, crossed"]


def test_unfinished_cells_are_named_and_nothing_is_made_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = summarise_study(*made_study(tmp_path, {"a": 0.2, "b": 0.1}, unfinished=("kind-b-1", "kind-b-2")))
    assert summary.num_finished == 4
    assert summary.unfinished == [("to do", "kind-b-1, kind-b-2")]
    monkeypatch.setattr(summaries, "MOST_NAMED", 1)
    assert summary.unfinished == [("to do", "2 cells")]
    assert [cost.num_seeds for cost in summary.characters[0].costs] == [3, 1]
    assert summary.characters[0].winner.arm is None


def test_an_arm_without_a_finished_cell_is_missed_by_name(tmp_path: Path) -> None:
    summary = summarise_study(*made_study(tmp_path, {"a": 0.2, "b": 0.1}, seeds=(0,), unfinished=("kind-b-0",)))
    assert "No winner is named yet: b lack" in summary.characters[0].winner.sentence
    assert summary.characters[0].columns == ["a", "prompted", "neutral"]


def test_characters_are_judged_apart_in_the_order_of_the_plan(tmp_path: Path) -> None:
    summary = summarise_study(*made_study(tmp_path, {"a": 0.2}, constitutions=("x/loving.toml", "kind")))
    assert [character.name for character in summary.characters] == ["loving", "kind"]


def test_nothing_finished_is_no_report(tmp_path: Path) -> None:
    root, plan, states = made_study(tmp_path, {"a": 0.2}, seeds=(0,), unfinished=("kind-a-0",))
    with pytest.raises(DataError, match="no cell is finished yet"):
        summarise_study(root, plan, states)


def test_contrasts_are_split_by_whether_their_trait_was_demonstrated(tmp_path: Path) -> None:
    found = summarise_study(*made_study(tmp_path, {"all": 0.2, "some": 0.2})).characters[0].traits
    counts = {(row.claim, row.label): row.num_items for row in found}
    assert counts["shows_the_character", "crossed, traits demonstrated"] == "8"  # every third of 24
    assert counts["shows_the_character", "crossed, traits held out"] == "16"
    assert {claim for claim, _ in counts} == {"knows_when", "shows_the_character"}  # the others have no familiar items
    assert [set(row.estimates) for row in found] == [{"all", "some", "prompted", "neutral"}] * len(found)


def test_where_every_arm_shows_all_traits_there_is_no_such_table(found: Character) -> None:
    assert found.traits == []


def test_what_others_found_stands_apart_in_the_order_of_the_file(tmp_path: Path) -> None:
    kl = Quantity(claim="keeps_its_abilities", readout="kl")
    elsewhere = [
        Hypothesis(
            text="A neutral adapter moves it.", claimed_by="A", better="neutral", than="base", on=kl, differs=True
        ),
        Hypothesis(text="Not tried.", claimed_by="B"),
        Hypothesis(text="It moves nothing.", claimed_by="C", better="base", than="a", on=kl),
    ]
    made = made_study(tmp_path, {"a": 0.2}, claims=WITH_ABILITIES, hypotheses=[Hypothesis(text="See."), *elsewhere])
    found = summarise_study(*made).characters[0]
    assert [each.hypothesis.text for each in found.judged] == ["See."]
    assert [each.outcome for each in found.claimed] == ["held", "not run", "refuted"]
    page = write_study(*made)
    html, text = page.read_text(), (page.parent / "study.md").read_text()
    for told in (html, text):
        assert told.index("A neutral adapter moves it.") < told.index("Not tried.") < told.index("It moves nothing.")
        assert "base − a on keeps its abilities, kl: -0." in told
    assert "| Not tried. | B | not run |  |" in text
    assert "<td>not seen</td>" in html


def test_seeds_of_shuffled_labels_show_how_often_luck_wins(tmp_path: Path) -> None:
    made = made_study(tmp_path, {"a": 0.1, "shuffled": 0.0}, seeds=range(6), claims=("knows_when",), items=8)
    ((name, rate),) = summarise_study(*made).characters[0].by_luck
    assert (name, rate <= 0.1) == ("shuffled", True)
    assert "Seeds of shuffled, dealt at random" in (write_study(*made).parent / "study.md").read_text()
