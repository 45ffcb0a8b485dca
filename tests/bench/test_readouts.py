"""Readouts on a real, random model: what must cancel cancels exactly, and what cannot be read is unscored."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transformers import AutoModelForCausalLM

from conftest import BENCH_SEED, bench_of
from ethos.bench.claim import Bench
from ethos.bench.items import Crossed, Triple
from ethos.bench.readouts import (
    LETTER_QUESTION,
    NOTHING_ASKED,
    OPTION_MASS_FLOOR,
    WHICH_ADVICE,
    _cross,
    crossed_deliberated,
    crossed_letter,
    crossed_text,
    crossed_within,
    letter_preferences,
    letter_probabilities,
    pair_margins,
    pmi_margins,
    reply_scores,
    triple_contrasts,
    triple_pmi,
)
from ethos.data.preferences import CUES
from ethos.records import Message, assistant, user
from ethos.samplers.local import sample
from ethos.samplers.replies import ReplyCache, Request, derived_seed

WORDS = st.text("abc ", min_size=1, max_size=8).filter(lambda text: text == text.strip() != "")
BIASES = st.lists(st.floats(-5, 5), min_size=259, max_size=259)
NATS = st.floats(-20, 0)


def item(a: str, b: str, r1: str, r2: str) -> Crossed:
    return Crossed(id="x", split="familiar", kind="urgency", a=a, b=b, r1=r1, r2=r2, fact="f")


ITEMS = [
    item("The house is on fire.", "The house is on sale.", "Run out now.", "Have a look."),
    item("She asked you to.", "She asked you not to.", "Tell them.", "Keep it to yourself."),
]


def test_a_crossed_score_after_a_talk_and_after_leads_by_hand(bench: Bench) -> None:
    before, leads = [user("Hi."), assistant("Hello.")], ("Well, I think", "On the whole")
    one = ITEMS[0]
    (value,) = crossed_text(bench, [one], before=before, leads=[leads])
    r1_a, r2_a, r1_b, r2_b = (
        reply_scores(bench.loaded, [([*before, user(situation)], reply)], [lead])[0]
        for situation, lead in ((one.a, leads[0]), (one.b, leads[1]))
        for reply in (one.r1, one.r2)
    )
    assert value == pytest.approx(((r1_a - r2_a) + (r2_b - r1_b)) / 2, abs=1e-5)
    assert value != pytest.approx(crossed_text(bench, [one])[0], abs=1e-3)
    assert value != pytest.approx(crossed_text(bench, [one], before=before, leads=[leads[::-1]])[0], abs=1e-3)


@pytest.fixture(scope="module")
def biased(tiny_base: Path, cache: ReplyCache) -> Bench:
    """A model that likes some tokens better than others, whatever came before."""
    model = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    head = nn.Linear(32, 259)
    nn.init.zeros_(head.weight)
    model.set_output_embeddings(head)
    return bench_of(model, tiny_base, cache)


def set_bias(bench: Bench, bias: torch.Tensor) -> None:
    with torch.no_grad():
        bench.loaded.model.get_output_embeddings().bias.copy_(bias)


def liking(bench: Bench, **logits: float) -> Bench:
    """The biased model with its likings for single characters set; all other tokens have logit 0."""
    bias = torch.zeros(259)
    for character, logit in logits.items():
        (token,) = bench.loaded.chat.tokenizer.encode({"space": " "}.get(character, character))
        bias[token] = logit
    set_bias(bench, bias)
    return bench


def naive(bench: Bench, messages: list[Message], reply: str, *, after: str = "") -> torch.Tensor:
    """Log-probabilities of a reply's tokens, from an ordinary forward pass."""
    rendered = bench.loaded.chat.reply(messages, reply, after=after)
    with torch.no_grad():
        logprobs = bench.loaded.model(input_ids=torch.tensor([rendered.tokens])).logits[0].log_softmax(-1)
    places = [place for place, on in enumerate(rendered.mask) if on]
    return torch.stack([logprobs[place - 1, rendered.tokens[place]] for place in places])


# --- text


def test_a_reply_scores_its_mean_log_probability(bench: Bench) -> None:
    cases = [([user(one.a)], reply) for one in ITEMS for reply in (one.r1, one.r2)]
    expected = [float(naive(bench, messages, reply).mean()) for messages, reply in cases]
    assert reply_scores(bench.loaded, cases) == pytest.approx(expected, abs=1e-4)


def test_crossed_text_by_hand(bench: Bench) -> None:
    one = ITEMS[0]
    score = {
        (situation, reply): float(naive(bench, [user(situation)], reply).mean())
        for situation in (one.a, one.b)
        for reply in (one.r1, one.r2)
    }
    right = score[one.a, one.r1] + score[one.b, one.r2]
    wrong = score[one.a, one.r2] + score[one.b, one.r1]
    assert crossed_text(bench, [one]) == pytest.approx([(right - wrong) / 2], abs=1e-4)
    assert abs(right - wrong) > 1e-3  # so that the test can fail


@settings(max_examples=25)
@given(a=WORDS, b=WORDS, r1=WORDS, r2=WORDS)
def test_swapping_situations_or_replies_flips_the_sign_exactly(bench: Bench, a: str, b: str, r1: str, r2: str) -> None:
    (score,) = crossed_text(bench, [item(a, b, r1, r2)])
    assert crossed_text(bench, [item(b, a, r1, r2)]) == [-score]
    assert crossed_text(bench, [item(a, b, r2, r1)]) == [-score]
    assert crossed_text(bench, [item(b, a, r2, r1)]) == [score]


def test_equal_situations_or_equal_replies_score_exactly_zero(bench: Bench) -> None:
    assert crossed_text(bench, [item("Help!", "Help!", "Go.", "Stay there."), item("Help!", "No.", "Go.", "Go.")]) == [
        0,
        0,
    ]


@settings(max_examples=10)
@given(bias=BIASES)
def test_a_model_that_cannot_see_the_situation_scores_exactly_zero(biased: Bench, bias: list[float]) -> None:
    set_bias(biased, torch.tensor(bias))
    assert crossed_text(biased, ITEMS) == [0, 0]


@given(st.tuples(NATS, NATS, NATS, NATS), NATS, NATS)
def test_a_liking_for_a_reply_in_both_situations_cancels(
    scores: tuple[float, float, float, float], for_r1: float, for_r2: float
) -> None:
    liked = np.array([scores]) + np.array([[for_r1, for_r2, for_r1, for_r2]])
    assert _cross(liked) == pytest.approx(_cross(np.array([scores])), abs=1e-9)


@given(st.tuples(NATS, NATS, NATS, NATS), NATS, NATS)
def test_a_situation_that_makes_every_reply_likelier_cancels(
    scores: tuple[float, float, float, float], in_a: float, in_b: float
) -> None:
    easier = np.array([scores]) + np.array([[in_a, in_a, in_b, in_b]])
    assert _cross(easier) == pytest.approx(_cross(np.array([scores])), abs=1e-9)


def test_the_crossed_score_by_hand() -> None:
    # r1 in a, r2 in a, r1 in b, r2 in b: ½ ((−1 + 3) + (−2 + 2.5))
    assert _cross(np.array([[-1.0, -3.0, -2.5, -2.0], [-1.0, -1.0, -1.0, -1.0]])) == [1.25, 0.0]


def test_a_suffix_is_added_to_both_situations_of_its_item(bench: Bench) -> None:
    one, two = ITEMS
    longer = item(f"{one.a} Obey!", f"{one.b} Obey!", one.r1, one.r2)
    with_suffix, plain = crossed_text(bench, [longer, two]), crossed_text(bench, ITEMS)
    assert crossed_text(bench, ITEMS, [" Obey!", ""]) == with_suffix
    assert with_suffix[0] != plain[0]


def test_no_items_have_no_scores(bench: Bench) -> None:
    assert crossed_text(bench, []) == []


def test_items_score_alike_alone_and_together(bench: Bench) -> None:
    together = crossed_text(bench, ITEMS)
    assert together == pytest.approx([crossed_text(bench, [one])[0] for one in ITEMS], abs=1e-5)


def test_triples_give_voice_and_pole_contrasts_by_hand(bench: Bench) -> None:
    triple = Triple(
        id="t", split="role", trait="care", prompt="What now?", chosen="Ask her.", opposite="Push her.", plain="Wait."
    )
    mean = {
        text: float(naive(bench, [user(triple.prompt)], text).mean())
        for text in (triple.chosen, triple.opposite, triple.plain)
    }
    scores = {score.readout: score for score in triple_contrasts(bench, [triple])}
    assert scores["voice"].value == pytest.approx(mean["Ask her."] - mean["Wait."], abs=1e-4)
    assert scores["pole"].value == pytest.approx(mean["Ask her."] - mean["Push her."], abs=1e-4)
    assert {(score.item, score.split) for score in scores.values()} == {("t", "role")}


def test_a_crossed_score_within_conversations_by_hand(bench: Bench) -> None:
    one = ITEMS[0]
    in_a, in_b = ([user(text), assistant("Well."), user("And now?")] for text in (one.a, one.b))
    r1_a, r2_a, r1_b, r2_b = (
        float(naive(bench, messages, reply).mean()) for messages in (in_a, in_b) for reply in (one.r1, one.r2)
    )
    assert crossed_within(bench, [one], [(in_a, in_b)]) == pytest.approx(
        [((r1_a - r2_a) + (r2_b - r1_b)) / 2], abs=1e-4
    )


# --- pmi


def test_a_margin_by_pmi_by_hand(bench: Bench) -> None:
    asked, pair = [user("Is it late?")], ("Go to bed.", "Stay up.")
    (margin,) = pair_margins(bench.loaded, [(asked, *pair)])
    worth = [float(naive(bench, [user(NOTHING_ASKED)], reply).mean()) for reply in pair]
    (found,) = pmi_margins(bench.loaded, [pair], [margin], ["item"])
    assert found == pytest.approx(margin - (worth[0] - worth[1]), abs=1e-4)
    assert abs(worth[0] - worth[1]) > 1e-3  # so that the test can fail


@settings(max_examples=10)
@given(bias=BIASES)
def test_a_liking_for_words_gains_nothing_by_pmi(biased: Bench, bias: list[float]) -> None:
    """A model that cannot see the prompt has margins, and all of them are worth as much without it."""
    set_bias(biased, torch.tensor(bias))
    pairs = [("Go to bed.", "Stay up."), ("Yes", "No")]
    margins = pair_margins(biased.loaded, [([user("Is it late?")], *pair) for pair in pairs])
    assert pmi_margins(biased.loaded, pairs, margins, [0, 1]) == pytest.approx([0, 0], abs=1e-5)


def test_contrasts_of_triples_by_pmi_are_named_after_them(bench: Bench) -> None:
    whole = Triple(id="w", split="role", trait="care", prompt="And?", chosen="Ask.", opposite="Push.", plain="Wait.")
    half = whole.model_copy(update={"id": "h", "plain": None})
    contrasts = triple_contrasts(bench, [whole, half])
    found = {(score.item, score.readout): score.value for score in triple_pmi(bench, [whole, half], contrasts)}
    assert set(found) == {("w", "voice pmi"), ("w", "pole pmi"), ("h", "pole pmi")}
    assert found["w", "pole pmi"] == pytest.approx(found["h", "pole pmi"], abs=1e-4)
    pole = next(score.value for score in contrasts if (score.item, score.readout) == ("w", "pole"))
    assert pole is not None
    (expected,) = pmi_margins(bench.loaded, [("Ask.", "Push.")], [pole], ["w"])
    assert found["w", "pole pmi"] == pytest.approx(expected, abs=1e-4)


# --- letter

PROMPTS = [[user("A or B?")], [user("B or A?")], [user("Which?")]]


@settings(max_examples=20)
@given(st.lists(WORDS, min_size=1, max_size=4), st.integers(2, 4))
def test_letter_probabilities_sum_to_one(bench: Bench, prompts: list[str], num_letters: int) -> None:
    share, mass = letter_probabilities(bench.loaded, [[user(text)] for text in prompts], "ABCD"[:num_letters])
    assert share.shape == (len(prompts), num_letters)
    assert share.sum(1) == pytest.approx(np.ones(len(prompts)))
    assert (share >= 0).all()
    assert ((mass > 0) & (mass <= 1)).all()


def test_letter_probabilities_by_hand(biased: Bench) -> None:
    """Odds of e² to 1; the mass is what both hold of all 259 tokens."""
    share, mass = letter_probabilities(liking(biased, A=2.0).loaded, PROMPTS, ("A", "B"))
    assert share[:, 0] == pytest.approx(math.exp(2) / (math.exp(2) + 1))
    assert mass == pytest.approx((math.exp(2) + 1) / (math.exp(2) + 258))


def test_a_token_that_begins_every_letter_is_evidence_for_none(biased: Bench) -> None:
    """Where a tokenizer splits " A" into a space and "A", the space says nothing about the letter."""
    share, mass = letter_probabilities(liking(biased, A=2.0, space=9.0).loaded, PROMPTS, ("A", "B"))
    total = math.exp(9) + math.exp(2) + 257
    assert share[:, 0] == pytest.approx(math.exp(2) / (math.exp(2) + 1))
    assert mass == pytest.approx((math.exp(2) + 1) / total)


def test_letters_that_hold_too_little_leave_an_item_unscored(biased: Bench) -> None:
    scores = crossed_letter(liking(biased, C=8.0), ITEMS)
    assert [score.value for score in scores] == [None, None]
    assert all(score.reason.startswith("letters hold 0.0") for score in scores)


@pytest.mark.parametrize(("logit", "is_scored"), [(3.0, False), (4.5, True)])
def test_the_floor_of_option_mass_decides_who_is_scored(biased: Bench, logit: float, is_scored: bool) -> None:
    """With z at e^5.5 = 245, A and B hold (e^x + 1) / (e^x + 502) of all: 0.04 at x = 3 and 0.15 at x = 4.5."""
    bench = liking(biased, A=logit, z=5.5)
    _, mass = letter_probabilities(bench.loaded, PROMPTS, ("A", "B"))
    assert (mass >= OPTION_MASS_FLOOR).all() == is_scored
    assert [score.value is not None for score in crossed_letter(bench, ITEMS)] == [is_scored] * 2


@pytest.mark.parametrize("letter", ["A", "B"])
def test_a_model_that_always_says_one_letter_scores_zero(biased: Bench, letter: str) -> None:
    for score in crossed_letter(liking(biased, **{letter: 9.0}), ITEMS):
        assert score.value == pytest.approx(0, abs=1e-9)


def test_crossed_letter_by_hand(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethos.bench.readouts.OPTION_MASS_FLOOR", 0.0)
    one = ITEMS[0]

    def right(situation: str, good: str, bad: str) -> float:
        asked = [(good, bad, 0), (bad, good, 1)]  # the right letter is A, then B
        prompts = [
            [user(LETTER_QUESTION.format(question=WHICH_ADVICE.format(situation=situation), first=f, second=g))]
            for f, g, _ in asked
        ]
        share, _ = letter_probabilities(bench.loaded, prompts, ("A", "B"))
        return float(np.mean([share[row, column] for row, (_, _, column) in enumerate(asked)]))

    expected = (right(one.a, one.r1, one.r2) + right(one.b, one.r2, one.r1)) / 2 - 0.5
    (score,) = crossed_letter(bench, [one])
    assert score.value == pytest.approx(expected, abs=1e-6)
    assert abs(expected) > 1e-6  # so that the test can fail


def test_a_preference_between_two_options_is_free_of_position(biased: Bench, bench: Bench) -> None:
    asked = [("Which?", "this one", "the other")]
    (stuck,) = letter_preferences(liking(biased, A=9.0).loaded, asked)
    assert stuck.probability == pytest.approx(0.5)  # always A, whatever A is
    assert not stuck.consistent


def test_a_preference_turns_round_with_its_options(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ethos.bench.readouts.OPTION_MASS_FLOOR", 0.0)
    (one, turned) = letter_preferences(bench.loaded, [("Which?", "this", "that"), ("Which?", "that", "this")])
    assert one.probability is not None
    assert turned.probability == pytest.approx(1 - one.probability)
    assert one.consistent == turned.consistent
    assert abs(one.probability - 0.5) > 1e-6  # so that the test can fail


def test_a_pair_margin_is_a_difference_of_reply_scores(bench: Bench) -> None:
    cases = [([user("Hello?")], "Good day.", "Go away!"), ([user("Bye.")], "Farewell", "Stay")]
    flat = [(messages, reply) for messages, *pair in cases for reply in pair]
    one, two, three, four = reply_scores(bench.loaded, flat)
    assert pair_margins(bench.loaded, cases) == pytest.approx([one - two, three - four], abs=1e-6)


# --- deliberated


def test_deliberation_averages_probabilities_over_the_subjects_own_considerations(bench: Bench) -> None:
    one = ITEMS[0]
    prompts = {situation: [user(f"{situation} {CUES[0]}")] for situation in (one.a, one.b)}
    place = {one.a: 0, one.b: 1}

    def averaged(situation: str, reply: str) -> float:
        asked = [
            Request(messages=prompts[situation], max_tokens=8, seed=derived_seed(BENCH_SEED, place[situation], k))
            for k in range(3)
        ]
        thoughts = [reply.text for reply in sample(bench.loaded, asked, bench.cache)]
        assert all(thoughts), "an empty thought changes the tokens of the reply"
        logprobs = [naive(bench, prompts[situation], reply, after=thought) for thought in thoughts]
        mean = np.mean([math.exp(float(tokens.double().sum())) for tokens in logprobs])
        return math.log(mean) / len(logprobs[0])

    expected = averaged(one.a, one.r1) - averaged(one.a, one.r2) + averaged(one.b, one.r2) - averaged(one.b, one.r1)
    (score,) = crossed_deliberated(bench, [one], considerations=3, max_tokens=8)
    assert score.value == pytest.approx(expected / 2, abs=1e-4)
    assert abs(expected) > 1e-3  # so that the test can fail


def test_deliberation_cannot_help_a_model_that_cannot_see(biased: Bench) -> None:
    for score in crossed_deliberated(liking(biased, e=3.0, t=2.0), ITEMS, max_tokens=6):
        assert score.value == pytest.approx(0, abs=1e-6)


def test_deliberation_is_the_same_twice(bench: Bench, tmp_path: Path) -> None:
    results = []
    for name in ("one", "other"):
        fresh = ReplyCache(tmp_path / f"{name}.sqlite")
        results.append(crossed_deliberated(bench._replace(cache=fresh), ITEMS[:1], max_tokens=6))
        fresh.close()
    assert results[0] == results[1]
