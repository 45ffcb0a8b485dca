"""The trie kernel: every sequence is scored as if it were alone, whatever it is packed with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, PreTrainedModel

from ethos import scoring
from ethos.chat import Rendered
from ethos.scoring import pack, score, token_logprobs


def scored(prompt: Sequence[int], reply: Sequence[int]) -> Rendered:
    return Rendered((*prompt, *reply), (*[False] * len(prompt), *[True] * len(reply)))


def masked(tokens: list[int], mask: list[bool]) -> Rendered:
    """The first token is never scored: nothing stands before it."""
    return Rendered(tuple(tokens), (False, *mask[1:]))


def flags(size: int) -> st.SearchStrategy[list[bool]]:
    return st.lists(st.booleans(), min_size=size, max_size=size)


def beginning(tokens: list[int], sequences: list[Rendered]) -> list[Rendered]:
    """The same sequences, all after a beginning that is not scored."""
    return [Rendered((*tokens, *s.tokens), (*[False] * len(tokens), *s.mask)) for s in sequences]


TOKENS = st.lists(st.sampled_from([3, 4, 250]), min_size=2, max_size=10)  # few, so that beginnings are often shared
SEQUENCES = st.builds(
    beginning,
    st.lists(st.integers(3, 258), max_size=6),
    st.lists(
        TOKENS.flatmap(lambda tokens: st.builds(masked, st.just(tokens), flags(len(tokens)))), min_size=1, max_size=7
    ),
)
LIMITS = st.integers(1, 40)


@pytest.fixture(scope="module")
def model(tiny_base: Path) -> PreTrainedModel:
    """Weights large enough that a wrong position or a wrong context is seen; the head frozen, as it always is."""
    loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(tiny_base, dtype=torch.float32)
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in loaded.parameters():
            if weight.dim() == 2:
                weight.normal_(std=0.3)
    loaded.get_output_embeddings().requires_grad_(False)
    return loaded.eval()


def naive(model: PreTrainedModel, sequence: Rendered) -> torch.Tensor:
    """Log-probabilities of the scored tokens from an ordinary forward pass over one sequence."""
    logprobs = model(input_ids=torch.tensor([sequence.tokens])).logits[0].log_softmax(-1)
    places = [place for place, on in enumerate(sequence.mask) if on]
    return torch.stack([logprobs[place - 1, sequence.tokens[place]] for place in places] or [torch.zeros(())])[
        : len(places)
    ]


@given(sequences=SEQUENCES, limit=LIMITS)
def test_every_sequence_scores_as_it_does_alone(model: PreTrainedModel, sequences: list[Rendered], limit: int) -> None:
    for sequence, logprobs in zip(sequences, score(model, sequences, limit=limit), strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(logprobs, naive(model, sequence).numpy(), atol=1e-4, rtol=0)


def test_long_replies_to_one_prompt_score_as_they_do_alone(model: PreTrainedModel) -> None:
    rng = np.random.default_rng(0)
    prompt = rng.integers(3, 259, 60).tolist()
    sequences = [scored(prompt, rng.integers(3, 259, 20).tolist()) for _ in range(4)]
    for sequence, logprobs in zip(sequences, score(model, sequences), strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(logprobs, naive(model, sequence).numpy(), atol=1e-4, rtol=0)


def test_bfloat16_rounds_within_the_stated_bound(tiny_base: Path) -> None:
    """Weights as a model is born with them: the model above is far louder than any that was trained."""
    rng = np.random.default_rng(0)
    prompt = rng.integers(3, 259, 60).tolist()
    sequences = [scored(prompt, rng.integers(3, 259, 20).tolist()) for _ in range(8)]
    whole, rounded = (
        np.concatenate(score(AutoModelForCausalLM.from_pretrained(tiny_base, dtype=dtype).eval(), sequences))
        for dtype in (torch.float32, torch.bfloat16)
    )
    assert 0 < np.abs(whole - rounded).max() < 0.5


@settings(max_examples=30)
@given(sequences=SEQUENCES, data=st.data())
def test_the_order_of_input_does_not_change_a_score(
    model: PreTrainedModel, sequences: list[Rendered], data: st.DataObject
) -> None:
    order = data.draw(st.permutations(range(len(sequences))))
    limit = data.draw(LIMITS)
    scores = score(model, sequences, limit=limit)
    shuffled = score(model, [sequences[i] for i in order], limit=limit)
    for place, index in enumerate(order):
        np.testing.assert_array_equal(shuffled[place], scores[index])


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sequences=SEQUENCES, held=st.integers(1, 4000))
def test_gradients_through_the_trie_are_those_of_the_sum_over_sequences(
    model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch, sequences: list[Rendered], held: int
) -> None:
    """However few logits are held at once: a vocabulary of 259 makes blocks of one to fifteen positions."""
    monkeypatch.setattr(scoring, "LOGITS_HELD", held)
    weights = [1.0 + index for index in range(len(sequences))]  # unequal, so that a swapped sequence shows

    model.zero_grad()
    for packed in pack(sequences, [list(range(len(sequences)))]):
        logprobs = token_logprobs(model, packed)
        total = sum(
            (weights[index] * logprobs[torch.from_numpy(where)].sum())
            for index, where in zip(packed.sequences, packed.scored, strict=True)
        )
        assert isinstance(total, torch.Tensor)
        total.backward()
    through_trie = gradients(model)

    model.zero_grad()
    for weight, sequence in zip(weights, sequences, strict=True):
        if any(sequence.mask):
            (weight * naive(model, sequence).sum()).backward()
    alone = gradients(model)
    model.zero_grad()

    for name, gradient in alone.items():
        torch.testing.assert_close(through_trie[name], gradient, atol=1e-3, rtol=1e-3)


def gradients(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    return {
        name: torch.zeros_like(weight) if weight.grad is None else weight.grad.clone()
        for name, weight in model.named_parameters()
    }


def test_a_shared_prompt_is_computed_once() -> None:
    prompt = list(range(3, 103))
    (packed,) = pack([scored(prompt, [200, 201]), scored(prompt, [210, 211, 212]), scored(prompt, [200, 202])])
    assert len(packed.tokens_N) == 100 + 2 + 3 + 1
    assert packed.depth_N.max() == 102


@given(SEQUENCES)
def test_a_trie_holds_each_distinct_beginning_once(sequences: list[Rendered]) -> None:
    (packed,) = pack(sequences, limit=10_000)
    beginnings = {s.tokens[: end + 1] for s in sequences for end in range(len(s.tokens))}
    assert len(packed.tokens_N) == len(beginnings)


@given(SEQUENCES)
def test_a_position_sees_its_own_beginning_and_nothing_else(sequences: list[Rendered]) -> None:
    (packed,) = pack(sequences, limit=10_000)
    seen = {tuple(packed.tokens_N[row].tolist()) for row in packed.attends_NN}
    assert seen == {s.tokens[: end + 1] for s in sequences for end in range(len(s.tokens))}
    assert packed.attends_NN.sum(1).tolist() == (packed.depth_N + 1).tolist()


@given(SEQUENCES)
def test_the_head_runs_once_per_beginning_whose_next_token_is_scored(sequences: list[Rendered]) -> None:
    (packed,) = pack(sequences, limit=10_000)
    wanted = {s.tokens[:place] for s in sequences for place, on in enumerate(s.mask) if on}
    assert len(packed.parents_P) == len(wanted)


@given(SEQUENCES, LIMITS, st.data())
def test_groups_are_never_split_and_packs_keep_to_the_limit(
    sequences: list[Rendered], limit: int, data: st.DataObject
) -> None:
    owners = data.draw(st.lists(st.integers(0, 2), min_size=len(sequences), max_size=len(sequences)))
    groups = [[i for i, owner in enumerate(owners) if owner == name] for name in sorted(set(owners))]
    packs = list(pack(sequences, groups, limit=limit))
    assert [index for packed in packs for index in packed.sequences] == [index for group in groups for index in group]
    for group in groups:
        assert sum(bool(set(group) & set(packed.sequences)) for packed in packs) == 1
    for packed in packs:
        members = [group for group in groups if set(group) <= set(packed.sequences)]
        assert len(packed.tokens_N) <= limit or len(members) == 1


def test_a_group_larger_than_the_limit_is_kept_whole() -> None:
    pair = [scored([3, 4, 5], [6] * 20), scored([3, 4, 5], [7] * 20)]
    small = scored([8, 9], [10])
    packs = list(pack([small, *pair, small], [[0], [1, 2], [3]], limit=10))
    assert [packed.sequences for packed in packs] == [(0,), (1, 2), (3,)]
    assert len(packs[1].tokens_N) == 3 + 20 + 20


def test_a_group_that_shares_its_prompt_joins_a_pack_it_fits_in() -> None:
    first = [scored([3, 4], [5]), scored([3, 4], [6])]
    second = [scored([3, 7, 7, 7, 7], [5]), scored([3, 7, 7, 7, 7], [6])]  # 6 new positions, 10 counted apart
    (packed,) = pack([*first, *second], [[0, 1], [2, 3]], limit=10)
    assert len(packed.tokens_N) == 10


def test_a_beginning_that_all_share_is_read_once_and_changes_no_score(model: PreTrainedModel) -> None:
    rng = np.random.default_rng(0)
    system = rng.integers(3, 259, 80).tolist()
    sequences = [
        scored([*system, *rng.integers(3, 259, 10).tolist()], rng.integers(3, 259, 5).tolist()) for _ in range(6)
    ]
    with_others = score(model, sequences, limit=40)  # smaller than the beginning
    for sequence, logprobs in zip(sequences, with_others, strict=True):
        with torch.no_grad():
            np.testing.assert_allclose(logprobs, naive(model, sequence).numpy(), atol=1e-4, rtol=0)


def test_a_sequence_without_a_scored_token_has_no_scores(model: PreTrainedModel) -> None:
    nothing = Rendered((3, 4, 5), (False, False, False))
    assert [logprobs.shape for logprobs in score(model, [nothing, scored([3, 4], [6])])] == [(0,), (1,)]


def test_no_sequences_have_no_scores(model: PreTrainedModel) -> None:
    assert score(model, []) == []


def test_equal_tokens_with_unequal_masks_keep_their_own_scores(model: PreTrainedModel) -> None:
    whole, last = scored([3, 4], [5, 6]), scored([3, 4, 5], [6])
    one, other = score(model, [whole, last])
    assert one.shape == (2,)
    np.testing.assert_array_equal(other, one[1:])


def test_a_first_token_cannot_be_scored() -> None:
    with pytest.raises(AssertionError, match="no context"):
        list(pack([scored([], [3, 4])]))


def test_a_log_probability_of_every_next_token_sums_to_one(model: PreTrainedModel) -> None:
    everything = score(model, [scored([3, 4, 5], [token]) for token in range(259)])
    assert np.exp([logprobs[0] for logprobs in everything]).sum() == pytest.approx(1, abs=1e-5)


def test_logits_are_never_held_whole(model: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scoring, "LOGITS_HELD", 4 * 259)
    head, seen = model.get_output_embeddings(), list[int]()
    watch = head.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    (packed,) = pack([scored([3, 4], list(range(5, 35)))])
    token_logprobs(model, packed).sum().backward()
    watch.remove()
    assert seen == [4] * 7 + [2]


def test_a_head_that_would_have_to_learn_is_refused(model: PreTrainedModel) -> None:
    (packed,) = pack([scored([3, 4], [5])])
    head = model.get_output_embeddings().requires_grad_(True)
    try:
        with pytest.raises(AssertionError, match="a frozen head"):
            token_logprobs(model, packed)
    finally:
        head.requires_grad_(False)
