"""Derived items: real rows under real prompts, none of them trained on, none of them moved by new rows."""

from collections import Counter
from itertools import chain

import pytest

from ethos.bench.derived import OUTSIDE, SHARES, Held, hold_out
from ethos.bench.items import Crossed, Triple
from ethos.constitution import SHIPPED, read_constitution
from ethos.data.recorded import NOTHING, PoleItem, Recorded, VoiceItem, read_recorded

CHARACTERS = sorted(path.stem for path in SHIPPED.glob("*.toml") if (path.with_suffix("") / "poles.jsonl").exists())


def held(name: str, kind: str = "derived") -> Held:
    return hold_out(kind, read_constitution(name), read_recorded(name))  # type: ignore[arg-type]


def contrasts(recorded: Recorded) -> set[str]:
    return {row.id for row in chain(recorded.crossed, recorded.poles, recorded.voice)}


@pytest.mark.parametrize("name", CHARACTERS)
def test_no_reply_of_an_item_is_trained_on(name: str) -> None:
    found = held(name)
    learnt = {row.chosen for row in [*found.trainable.poles, *found.trainable.voice]}
    learnt |= {reply for row in found.trainable.crossed for reply in (row.r1, row.r2)}
    triples, crossed = found.items.load("triples", Triple), found.items.load("crossed", Crossed)
    assert triples
    assert not learnt & ({item.chosen for item in triples} | {item.r1 for item in crossed})


def test_all_but_three_of_eight_parts_are_trained_on_whatever_the_items() -> None:
    rows = read_recorded("virtuous-reasoner")
    sealed, tuned_on = held("loving"), held("loving", "development")
    assert sealed.trainable == tuned_on.trainable
    share = len(contrasts(held("virtuous-reasoner").trainable)) / len(contrasts(rows))
    assert share == pytest.approx(1 - 3 / SHARES, abs=0.03)
    ids = [{item.id for item in found.items.load("crossed", Crossed)} for found in (sealed, tuned_on)]
    assert ids[0]
    assert not ids[0] & ids[1]


def test_a_constitution_with_written_items_trains_on_every_row() -> None:
    found = held("virtuous-reasoner", "sealed")
    assert found.trainable == read_recorded("virtuous-reasoner")
    assert not found.items.derived


def test_one_more_row_moves_no_other() -> None:
    constitution, rows = read_constitution("loving"), read_recorded("loving")
    fewer = rows._replace(poles=rows.poles[:-1])
    before, after = (hold_out("derived", constitution, recorded).trainable for recorded in (fewer, rows))
    assert {row.id for row in before.poles} == {row.id for row in after.poles} - {rows.poles[-1].id}


def test_prompts_outside_training_meet_held_out_pairs_of_their_own_trait() -> None:
    constitution, rows = read_constitution("loving"), read_recorded("loving")
    pairs = {(row.chosen, row.rejected): row for row in [*rows.poles, *rows.voice]}
    items = held("loving").items.load("triples", Triple)
    for item in items:
        row = pairs[item.chosen, item.opposite or item.plain or ""]
        assert row.trait == item.trait
        asked = next(trait for trait in constitution.trait if trait.name == item.trait).prompts.get(item.split, [])
        assert item.prompt == row.prompt if item.split == "familiar" else item.prompt in asked
    counts = Counter((item.split, item.opposite is None) for item in items)
    assert all(counts[split, style] for split in OUTSIDE for style in (True, False))
    assert len({item.id for item in items}) == len(items)


def test_pairs_that_a_teacher_wrote_for_a_split_take_the_place_of_others_and_are_never_trained_on() -> None:
    constitution, rows = read_constitution("loving"), read_recorded("loving")
    pole, voice = rows.poles[0], rows.voice[0]
    asked = {name: getattr(pole, name) for name in ("trait", "chosen", "rejected")}
    own = [PoleItem(id=f"own-{n}", split="domain", prompt=f"Prompt {n}?", **asked) for n in range(2)]
    other = VoiceItem(id="other", split="role", prompt="Say it.", trait=voice.trait, chosen="Yes.", rejected="No.")
    given = rows._replace(pole_items=own, voice_items=[other])
    before, after = (hold_out("derived", constitution, recorded) for recorded in (rows, given))
    assert after.trainable == before.trainable

    def items(found: Held, split: str, style: bool) -> list[Triple]:
        triples = found.items.load("triples", Triple)
        return [item for item in triples if (item.split, item.opposite is None) == (split, style)]

    assert [(item.id, item.prompt) for item in items(after, "domain", False)] == [
        ("own-0", "Prompt 0?"),
        ("own-1", "Prompt 1?"),
    ]
    assert [item.plain for item in items(after, "role", True)] == ["No."]
    for split, style in (("domain", True), ("role", False), ("format", False), ("familiar", True)):
        assert items(after, split, style) == items(before, split, style) != []
    assert hold_out("sealed", constitution, given).trainable == hold_out("sealed", constitution, rows).trainable


def test_derived_items_to_tune_on_share_no_prompt_with_the_sealed() -> None:
    sealed, tuned_on = (
        {item.prompt for item in held("loving", kind).items.load("triples", Triple)}
        for kind in ("derived", "development")
    )
    assert tuned_on
    assert not sealed & tuned_on


def test_too_few_rows_to_spare_any_are_all_trained_on() -> None:
    rows = NOTHING
    found = hold_out("sealed", read_constitution("poetic"), rows)
    assert found.trainable == rows
    assert found.items.missing(["crossed", "triples"]) == ["crossed", "triples"]
