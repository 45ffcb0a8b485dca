"""Recorded contrasts become preference rows: both ways round, drawn by the seed."""

from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ethos.data.preferences import CUES, Labels, Mixture, preferences
from ethos.data.recorded import CrossedRow, PoleRow, Recorded, VoiceRow
from ethos.records import Preference


def crossed(number: int, *, thoughts: bool, pushes: bool) -> CrossedRow:
    return CrossedRow(
        id=f"x{number}",
        kind="urgency",
        a=f"Situation A{number}.",
        b=f"Situation B{number}.",
        r1=f"Reply one {number}.",
        r2=f"Reply two {number}.",
        fact="f",
        thought_a=f"Thought A{number}." if thoughts else "",
        thought_b=f"Thought B{number}." if thoughts else "",
        push_r1=f"Push one {number}!" if pushes else "",
        push_r2=f"Push two {number}!" if pushes else "",
    )


def pair(number: int) -> dict[str, str]:
    return {
        "id": f"p{number}",
        "trait": "care",
        "prompt": f"Prompt {number}",
        "chosen": f"Good {number}",
        "rejected": f"Bad {number}",
    }


RECORDED = Recorded(
    crossed=[crossed(i, thoughts=i % 2 == 0, pushes=i % 3 == 0) for i in range(60)],
    poles=[PoleRow(**pair(i)) for i in range(20)],
    voice=[VoiceRow(**pair(i)) for i in range(10)],
    reflections=[],
    interactions=[],
    documents=[],
    replay=[],
    pole_items=[],
    voice_items=[],
)
ROWS = {row.id: row for row in RECORDED.crossed}
SEEDS = st.integers(0, 10_000)


def of_kind(rows: list[Preference], kind: str) -> dict[str, list[Preference]]:
    """Rows of one kind by group."""
    groups: dict[str, list[Preference]] = defaultdict(list)
    for row in rows:
        if row.kind == kind:
            groups[row.group].append(row)
    return groups


def item(row: Preference) -> CrossedRow:
    return ROWS[row.source.partition(":")[2]]


def texts(row: Preference) -> tuple[str, str, str]:
    return row.prompt[0].content, row.chosen[0].content, row.rejected[0].content


def test_an_option_that_is_not_taken_leaves_the_hash_of_a_mixture_as_it_was() -> None:
    assert "demonstrated" not in Mixture().model_dump_json()
    assert Mixture(demonstrated=("care",)).digest() != Mixture().digest()


def test_a_crossed_item_by_hand() -> None:
    one = RECORDED._replace(crossed=[ROWS["x1"]], poles=[], voice=[])
    assert [texts(row) for row in preferences(one, Mixture(), seed=0)] == [
        ("Situation A1.", "Reply one 1.", "Reply two 1."),
        ("Situation B1.", "Reply two 1.", "Reply one 1."),
    ]


def test_a_pair_by_hand() -> None:
    one = RECORDED._replace(crossed=[], poles=RECORDED.poles[:1], voice=[])
    (row,) = preferences(one, Mixture(), seed=0)
    assert texts(row) == ("Prompt 0", "Good 0", "Bad 0")
    assert (row.group, row.kind, row.source) == ("pole:p0", "pole", "pole:p0")


@settings(max_examples=25)
@given(SEEDS)
def test_both_situations_of_a_crossed_item_share_a_group_and_swap_their_replies(seed: int) -> None:
    rows = preferences(RECORDED, Mixture(poles=0, voice=0, deliberated=False), seed=seed)
    for kind in ("crossed", "crossed-pushed"):
        for group in of_kind(rows, kind).values():
            first, second = group
            assert (first.chosen, first.rejected) == (second.rejected, second.chosen)
            assert first.chosen[0].content == item(first).r1


@settings(max_examples=25)
@given(SEEDS)
def test_every_item_has_one_undeliberated_variant_and_no_group_mixes_items(seed: int) -> None:
    rows = preferences(RECORDED, Mixture(), seed=seed)
    undeliberated = [row for row in rows if row.kind in ("crossed", "crossed-pushed")]
    assert Counter(item(row).id for row in undeliberated) == dict.fromkeys(ROWS, 2)
    assert len({row.group for row in rows}) == len({(row.group, row.source, row.kind) for row in rows})


@settings(max_examples=25)
@given(SEEDS)
def test_a_push_is_for_the_wrong_reply_in_each_situation_or_for_one_reply_in_both(seed: int) -> None:
    for first, second in of_kind(preferences(RECORDED, Mixture(), seed=seed), "crossed-pushed").values():
        row = item(first)
        pushes = first.prompt[0].content.removeprefix(row.a), second.prompt[0].content.removeprefix(row.b)
        one, two = f" {row.push_r1}", f" {row.push_r2}"
        assert pushes in {(two, one), (one, one), (two, two)}


def test_three_in_five_pushes_are_for_the_wrong_reply_and_half_the_items_are_pushed() -> None:
    wrong = pushed = 0
    could = sum(bool(row.push_r1) for row in RECORDED.crossed)
    for seed in range(100):
        for first, second in of_kind(preferences(RECORDED, Mixture(), seed=seed), "crossed-pushed").values():
            pushed += 1
            wrong += item(first).push_r2 in first.prompt[0].content and item(first).push_r1 in second.prompt[0].content
    assert 0.55 < wrong / pushed < 0.65
    assert 0.45 < pushed / (100 * could) < 0.55


@settings(max_examples=25)
@given(SEEDS)
def test_a_thought_is_equal_in_chosen_and_rejected_and_asked_for_by_a_cue(seed: int) -> None:
    groups = of_kind(preferences(RECORDED, Mixture(), seed=seed), "crossed-deliberated")
    assert len(groups) == sum(bool(row.thought_a) for row in RECORDED.crossed)
    for first, second in groups.values():
        row = item(first)
        assert texts(first)[1:] == (f"{row.thought_a} {row.r1}", f"{row.thought_a} {row.r2}")
        assert texts(second)[1:] == (f"{row.thought_b} {row.r2}", f"{row.thought_b} {row.r1}")
        cues = {first.prompt[0].content.removeprefix(f"{row.a} "), second.prompt[0].content.removeprefix(f"{row.b} ")}
        assert len(cues) == 1
        assert cues <= set(CUES)


@settings(max_examples=25)
@given(SEEDS)
def test_the_same_seed_gives_the_same_rows(seed: int) -> None:
    assert preferences(RECORDED, Mixture(), seed=seed) == preferences(RECORDED, Mixture(), seed=seed)


@settings(max_examples=25)
@given(SEEDS)
def test_another_seed_gives_another_draw(seed: int) -> None:
    mixture = Mixture(crossed=20, poles=0, voice=0)
    assert preferences(RECORDED, mixture, seed=seed) != preferences(RECORDED, mixture, seed=seed + 1)


@given(SEEDS, st.integers(0, 60), st.integers(0, 20), st.integers(0, 10))
def test_a_mixture_takes_as_many_contrasts_as_it_says(seed: int, num_crossed: int, poles: int, voice: int) -> None:
    mixture = Mixture(crossed=num_crossed, poles=poles, voice=voice, deliberated=False)
    rows = preferences(RECORDED, mixture, seed=seed)
    kinds = Counter(row.kind for row in rows)
    assert kinds["crossed"] + kinds["crossed-pushed"] == 2 * num_crossed
    assert (kinds["pole"], kinds["voice"]) == (poles, voice)
    assert len({row.group for row in rows}) == num_crossed + poles + voice


def test_a_mixture_without_counts_takes_all_there_are() -> None:
    kinds = Counter(row.kind for row in preferences(RECORDED, Mixture(pushed=0), seed=0))
    assert kinds == {"crossed": 120, "crossed-deliberated": 60, "pole": 20, "voice": 10}


def test_a_mixture_that_asks_for_more_than_there_is_takes_all_there_is() -> None:
    rows = preferences(RECORDED, Mixture(crossed=0, poles=10_000, voice=0), seed=0)
    assert len(rows) == 20


@pytest.mark.parametrize(
    ("mixture", "absent"),
    [(Mixture(pushed=0), "crossed-pushed"), (Mixture(deliberated=False), "crossed-deliberated")],
)
def test_a_variant_can_be_left_out(mixture: Mixture, absent: str) -> None:
    kinds = {row.kind for row in preferences(RECORDED, mixture, seed=0)}
    assert absent not in kinds
    assert absent in {row.kind for row in preferences(RECORDED, Mixture(), seed=0)}


def test_items_without_pushes_or_thoughts_stay_plain() -> None:
    bare = RECORDED._replace(crossed=[row for row in RECORDED.crossed if not row.push_r1 and not row.thought_a])
    assert {row.kind for row in preferences(bare, Mixture(poles=0, voice=0), seed=0)} == {"crossed"}


def test_what_decides_an_item_is_never_shown_to_the_model() -> None:
    told = RECORDED._replace(crossed=[row.model_copy(update={"fact": "SECRET"}) for row in RECORDED.crossed])
    assert not any("SECRET" in text for row in preferences(told, Mixture(), seed=0) for text in texts(row))


@pytest.mark.parametrize("share", [0.0, 0.8, 1.0])
def test_the_share_of_pushed_items_is_the_mixtures(share: float) -> None:
    kinds = Counter(
        row.kind
        for seed in range(20)
        for row in preferences(RECORDED, Mixture(pushed=share, poles=0, voice=0), seed=seed)
    )
    could = 2 * 20 * sum(bool(row.push_r1) for row in RECORDED.crossed)
    assert kinds["crossed-pushed"] / could == pytest.approx(share, abs=0.1)


def test_a_pushed_row_keeps_its_prompt_without_the_push_and_no_other_row_does() -> None:
    rows = preferences(RECORDED, Mixture(pushed=1), seed=0)
    for row in rows:
        item = ROWS.get(row.source.partition(":")[2])
        if row.kind == "crossed-pushed":
            assert item is not None
            assert row.clean[0].content in (item.a, item.b)
            assert row.prompt[0].content.startswith(f"{row.clean[0].content} ")
        else:
            assert row.clean == []


# --- labels


def item_name(row: Preference) -> str:
    """A crossed item under all its variants, or a pair."""
    return f"{row.kind.partition('-')[0]}:{row.source.partition(':')[2]}"


def as_recorded(row: Preference) -> Preference:
    """The row with its labels turned back."""
    if not row.swapped:
        return row
    return row.model_copy(update={"chosen": row.rejected, "rejected": row.chosen, "swapped": False})


@settings(max_examples=25)
@given(SEEDS, st.sampled_from(["shuffled", "inverted"]))
def test_labels_change_which_reply_is_chosen_and_nothing_else(seed: int, labels: Labels) -> None:
    rows = preferences(RECORDED, Mixture(labels=labels), seed=seed)
    assert [as_recorded(row) for row in rows] == preferences(RECORDED, Mixture(), seed=seed)


def test_shuffled_labels_agree_with_the_recorded_ones_half_of_the_time_and_inverted_ones_never() -> None:
    seeds = 400
    swapped: Counter[str] = Counter()
    for seed in range(seeds):
        rows = preferences(RECORDED, Mixture(labels="shuffled"), seed=seed)
        swapped.update({item_name(row) for row in rows if row.swapped})
    items = 60 + 20 + 10
    assert swapped.total() / (seeds * items) == pytest.approx(0.5, abs=0.01)  # 3.8 standard errors
    assert len(swapped) == items
    assert all(abs(count / seeds - 0.5) < 0.1 for count in swapped.values())  # 4 standard errors, each by itself
    inverted = preferences(RECORDED, Mixture(labels="inverted"), seed=0)
    assert all(row.swapped for row in inverted)
    assert not any(row.swapped for row in preferences(RECORDED, Mixture(), seed=0))


def test_coins_of_two_items_say_nothing_of_each_other() -> None:
    seeds, names = 400, [f"crossed:x{number}" for number in range(20)]
    coins = []
    for seed in range(seeds):
        rows = preferences(RECORDED, Mixture(labels="shuffled", poles=0, voice=0), seed=seed)
        swapped = {item_name(row) for row in rows if row.swapped}
        coins.append([name in swapped for name in names])
    agreement = [sum(row[i] == row[j] for row in coins) / seeds for i in range(20) for j in range(i)]
    assert all(abs(share - 0.5) < 0.12 for share in agreement)  # 4.8 standard errors, 190 pairs


@settings(max_examples=25)
@given(SEEDS)
def test_situations_and_variants_of_an_item_keep_agreeing_under_shuffled_labels(seed: int) -> None:
    rows = preferences(RECORDED, Mixture(labels="shuffled", poles=0, voice=0), seed=seed)
    by_item: dict[str, set[bool]] = defaultdict(set)
    for row in rows:
        by_item[item_name(row)].add(row.swapped)
    assert {len(found) for found in by_item.values()} == {1}
    for first, second in of_kind(rows, "crossed").values():  # still each reply once chosen, once rejected
        assert (first.chosen, first.rejected) == (second.rejected, second.chosen)


@settings(max_examples=25)
@given(SEEDS, st.integers(1, 60))
def test_a_coin_does_not_depend_on_what_else_is_drawn(seed: int, count: int) -> None:
    few = preferences(RECORDED, Mixture(labels="shuffled", crossed=count, poles=3), seed=seed)
    every = {item_name(row): row.swapped for row in preferences(RECORDED, Mixture(labels="shuffled"), seed=seed)}
    assert all(every[item_name(row)] == row.swapped for row in few)


def test_recorded_labels_leave_the_hash_and_the_rows_of_before_there_were_others() -> None:
    assert Mixture().model_dump_json() == (
        '{"crossed":null,"poles":null,"voice":null,"conversations":null,"documents":null,"replay":null,'
        '"pushed":0.5,"deliberated":true}'
    )
    assert Mixture(labels="shuffled").digest() != Mixture(labels="inverted").digest() != Mixture().digest()
    assert Mixture.model_validate_json(Mixture(labels="shuffled").model_dump_json()).labels == "shuffled"
    plain, swapped = (preferences(RECORDED, mixture, seed=0)[0] for mixture in (Mixture(), Mixture(labels="inverted")))
    assert "swapped" not in plain.model_dump_json()
    assert Preference.model_validate_json(swapped.model_dump_json()) == swapped


def test_a_pair_with_a_thought_has_a_deliberated_variant_and_others_draw_as_before() -> None:
    thought = "It touches the neighbours."
    poles = [PoleRow.model_validate(pair(n) | ({"thought": thought} if n < 3 else {})) for n in range(6)]
    recorded = RECORDED._replace(crossed=[], poles=poles, voice=[])
    rows = preferences(recorded, Mixture(), seed=4)
    varied = {row.source.partition(":")[2]: row for row in rows if row.kind == "pole-deliberated"}
    assert set(varied) == {row.id for row in poles[:3]}
    for row in rows:
        if row.kind == "pole" and (other := varied.get(row.source.partition(":")[2])):
            assert other.prompt[0].content in {f"{row.prompt[0].content} {cue}" for cue in CUES}
            assert other.chosen[0].content == f"{thought} {row.chosen[0].content}"
            assert other.rejected[0].content == f"{thought} {row.rejected[0].content}"
            assert other.group != row.group
    plain = preferences(recorded, Mixture(deliberated=False), seed=4)
    assert plain == [row for row in rows if row.kind == "pole"]
