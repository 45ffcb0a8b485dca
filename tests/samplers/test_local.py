"""A text depends on its own request and on nothing else, and no request is asked twice."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats as scipy_stats

from conftest import in_float32
from ethos import scoring
from ethos.errors import DataError, StoreError
from ethos.models import Loaded, Subject, load_tokenizer_chat
from ethos.records import Message, assistant, user
from ethos.samplers.local import Draft, _reply, next_tokens, sample
from ethos.samplers.replies import Reply, ReplyCache, Request

ASKED = [
    [user("Hi")],
    [user("Tell me of the sea, at some length, and of those who sail on it.")],
    [user("A"), assistant("B"), user("C")],
    [user("x" * 90)],
]


@pytest.fixture(scope="module")
def loaded(tiny_base: Path) -> Loaded:
    model = in_float32(tiny_base, loudness=30)  # loud: a wrong mask or position would change its words
    return Loaded(Subject(name="tiny", base="000000000000"), model, load_tokenizer_chat(tiny_base))


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    opened = ReplyCache(tmp_path / "requests.sqlite")
    yield opened
    opened.close()


def requests(*, seed: int = 0, max_tokens: int = 24, temperature: float = 0.7) -> list[Request]:
    return [
        Request(messages=messages, max_tokens=max_tokens, temperature=temperature, seed=seed + i)
        for i, messages in enumerate(ASKED)
    ]


def alone(loaded: Loaded, asked: list[Request], folder: Path) -> list[Reply]:
    """Every request in a batch of its own, with a cache of its own."""
    cache = ReplyCache(folder / "alone.sqlite")
    replies = sample(loaded, asked, cache, batch=1)
    cache.close()
    return replies


class Mute:
    """A model that must not be asked."""

    device = torch.device("cpu")
    config = None

    def get_decoder(self) -> object:
        raise AssertionError("the model was asked")

    def generate(self, **_: object) -> torch.Tensor:
        raise AssertionError("the model was asked")


@pytest.mark.parametrize("temperature", [0.0, 0.7, 1.5])
def test_the_same_seed_gives_the_same_text_alone_and_in_a_batch(
    loaded: Loaded, cache: ReplyCache, tmp_path: Path, temperature: float
) -> None:
    asked = requests(temperature=temperature)
    assert sample(loaded, asked, cache, batch=len(asked)) == alone(loaded, asked, tmp_path)


def test_replies_come_in_the_order_of_their_requests(loaded: Loaded, cache: ReplyCache, tmp_path: Path) -> None:
    asked = requests()
    assert alone(loaded, asked[::-1], tmp_path) == sample(loaded, asked, cache, batch=3)[::-1]


def test_different_seeds_give_different_texts(loaded: Loaded, cache: ReplyCache) -> None:
    asked = [Request(messages=ASKED[0], max_tokens=24, seed=seed) for seed in range(8)]
    assert len({reply.text for reply in sample(loaded, asked, cache)}) == 8


def test_temperature_0_equals_greedy_generation(loaded: Loaded, cache: ReplyCache) -> None:
    for request, reply in zip(requests(temperature=0), sample(loaded, requests(temperature=0), cache), strict=True):
        prompt = torch.tensor([loaded.chat.prompt(request.messages)])
        mask = torch.ones_like(prompt)
        greedy = loaded.model.generate(prompt, attention_mask=mask, do_sample=False, max_new_tokens=24)
        new = greedy[0, prompt.shape[1] :].tolist()
        assert reply.text == loaded.chat.tokenizer.decode(new, skip_special_tokens=True).strip()
        assert reply.text


def test_temperature_0_does_not_depend_on_the_seed(loaded: Loaded, cache: ReplyCache) -> None:
    assert sample(loaded, requests(temperature=0, seed=5), cache) == sample(loaded, requests(temperature=0), cache)


def test_a_reply_ends_at_its_stop_token_or_at_its_limit_and_says_which(loaded: Loaded, cache: ReplyCache) -> None:
    asked = [Request(messages=ASKED[seed % 4], max_tokens=60, temperature=2.0, seed=seed) for seed in range(24)]
    replies = sample(loaded, asked, cache)
    assert {reply.finish for reply in replies} == {"stop", "length"}  # both really happened
    for reply in replies:
        assert (reply.num_tokens < 60) == (reply.finish == "stop")
        assert "<|im_end|>" not in reply.text


def test_words_that_open_the_next_turn_end_a_reply_and_are_no_part_of_it(
    loaded: Loaded, tiny_base: Path, cache: ReplyCache, tmp_path: Path
) -> None:
    """Words that this model really says; nobody taught it to go on as the user."""
    asked = requests(max_tokens=40, temperature=2.0)
    whole = sample(loaded, asked, cache)
    spoken = max(whole, key=lambda reply: len(reply.text)).text
    chat = load_tokenizer_chat(tiny_base)
    chat.stop = spoken[10:12]
    other = ReplyCache(tmp_path / "stopping.sqlite")
    replies = sample(loaded._replace(chat=chat), asked, other)
    other.close()
    for long, short in zip(whole, replies, strict=True):
        before, found, _ = long.text.partition(chat.stop)
        assert short.text == before.strip()
        assert short.finish == ("stop" if found else long.finish)
        assert not found or short.num_tokens < long.num_tokens
    assert any(chat.stop in long.text for long in whole)


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([68, 69, 2], Reply(text="AB", num_tokens=2, finish="stop")),
        ([68, 69, 70, 71], Reply(text="ABCD", num_tokens=4, finish="length")),
        ([2], Reply(text="", num_tokens=0, finish="stop")),
    ],
)
def test_a_reply_is_its_tokens_without_the_stop(loaded: Loaded, tokens: list[int], expected: Reply) -> None:
    encoded = [
        loaded.chat.tokenizer.encode(chr(token - 3), add_special_tokens=False)[0] if token > 2 else token
        for token in tokens
    ]
    assert _reply(loaded.chat, encoded) == expected


def test_a_place_that_falls_free_is_taken_and_no_row_is_computed_in_vain(
    loaded: Loaded, cache: ReplyCache, tmp_path: Path
) -> None:
    """Every token but a reply's last is read once, the prompts apart; and never more rows at a time than asked for."""
    asked = [Request(messages=ASKED[n % 4], max_tokens=10 + 7 * (n % 5), temperature=2.0, seed=n) for n in range(20)]
    rows: list[int] = []

    def count(module: object, args: object, given: dict[str, torch.Tensor]) -> None:
        if given["input_ids"].shape[1] == 1:
            rows.append(len(given["input_ids"]))

    handle = loaded.model.get_decoder().register_forward_pre_hook(count, with_kwargs=True)
    replies = sample(loaded, asked, cache, batch=6)
    handle.remove()
    read = [reply.num_tokens - (reply.finish == "length") for reply in replies]
    assert sum(rows) == sum(read)
    assert max(rows) == 6
    assert replies == alone(loaded, asked, tmp_path)


def test_each_request_has_its_own_limit_within_one_batch(loaded: Loaded, cache: ReplyCache) -> None:
    asked = [Request(messages=ASKED[0], max_tokens=limit, temperature=0) for limit in (3, 5, 24)]
    replies = sample(loaded, asked, cache, batch=3)
    longest = replies[2]
    assert longest.finish == "length"  # so that every limit was reached
    assert [reply.num_tokens for reply in replies] == [3, 5, 24]
    assert [reply.finish for reply in replies] == ["length"] * 3


def test_cached_requests_are_answered_without_the_model(loaded: Loaded, cache: ReplyCache) -> None:
    replies = sample(loaded, requests(), cache)
    assert sample(loaded._replace(model=Mute()), requests(), cache) == replies  # type: ignore[arg-type]


def test_a_prompt_that_leaves_no_room_in_the_context_is_refused(
    loaded: Loaded, cache: ReplyCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaded.model.config, "max_position_embeddings", 100)
    assert sample(loaded, requests()[:1], cache)
    with pytest.raises(DataError, match=r"leaves no room in the model's context of 100"):
        sample(loaded, requests()[3:], cache)


def test_the_cache_outlives_its_process(loaded: Loaded, tmp_path: Path) -> None:
    first = ReplyCache(tmp_path / "r.sqlite")
    replies = sample(loaded, requests(), first)
    first.close()
    second = ReplyCache(tmp_path / "r.sqlite")
    assert sample(loaded._replace(model=Mute()), requests(), second) == replies  # type: ignore[arg-type]
    second.close()


@pytest.mark.parametrize("change", [{"seed": 9}, {"temperature": 0.8}, {"max_tokens": 25}, {"messages": [user("Hi!")]}])
def test_a_request_that_differs_in_anything_is_not_answered_from_the_cache(
    loaded: Loaded, cache: ReplyCache, change: dict[str, int | float | list[Message]]
) -> None:
    request = requests()[0]
    sample(loaded, [request], cache)
    with pytest.raises(AssertionError, match="was asked"):
        sample(loaded._replace(model=Mute()), [request.model_copy(update=change)], cache)  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [{"adapter": "0123"}, {"system": "Be kind."}, {"base": "111111111111"}])
def test_another_subject_is_not_answered_from_the_cache(
    loaded: Loaded, cache: ReplyCache, change: dict[str, str]
) -> None:
    sample(loaded, requests(), cache)
    other = Loaded(loaded.subject.model_copy(update=change), Mute(), loaded.chat)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match="was asked"):
        sample(other, requests(), cache)


def test_equal_requests_of_one_call_are_asked_once(loaded: Loaded, cache: ReplyCache) -> None:
    request = requests()[1]
    one, same = sample(loaded, [request, request], cache)
    assert one == same
    assert cache.database.execute("SELECT count(*) FROM replies").fetchone() == (1,)


def test_a_killed_call_keeps_the_batches_it_finished(loaded: Loaded, cache: ReplyCache) -> None:
    asked = requests()
    answered = {cache.key(loaded.subject.digest(), request) for request in asked[:1]}
    finished = sample(loaded, asked[:1], cache)
    with pytest.raises(AssertionError, match="was asked"):
        sample(loaded._replace(model=Mute()), asked, cache, batch=1)  # type: ignore[arg-type]
    assert [cache.get(key) for key in answered] == finished


def test_a_cache_that_is_no_database_or_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "requests.sqlite").write_text("not a database, but some text that is longer than its header " * 20)
    for path in (tmp_path / "requests.sqlite", tmp_path / "absent" / "requests.sqlite"):
        with pytest.raises(StoreError, match="cannot use the reply cache"):
            ReplyCache(path)


def frequencies(logits: list[float], temperature: float, *, draws: int) -> np.ndarray:
    """How often each token wins, over consecutive seeds as the pipeline gives them."""
    asked = [Request(messages=[user("?")], temperature=temperature, seed=seed) for seed in range(draws)]
    drafts = [Draft(0, request, ()) for request in asked]
    return np.bincount(next_tokens(drafts, torch.tensor([logits] * draws)), minlength=3)


@pytest.mark.parametrize("temperature", [0.5, 0.7, 2.0])
def test_sampled_frequencies_are_those_of_the_softmax(temperature: float) -> None:
    logits, draws = [0.3, 1.2, -0.4], 4000
    expected = torch.tensor(logits).div(temperature).softmax(-1).double().numpy() * draws
    seen = frequencies(logits, temperature, draws=draws)
    assert scipy_stats.chisquare(seen, expected / expected.sum() * draws).pvalue > 0.01
    hotter = torch.tensor(logits).div(temperature * 1.3).softmax(-1).double().numpy()
    assert scipy_stats.chisquare(seen, hotter / hotter.sum() * draws).pvalue < 0.01  # the test can tell


def test_each_token_of_a_text_gets_fresh_noise() -> None:
    logits, draws = [0.3, 1.2, -0.4], 4000
    draft, scores = Draft(0, Request(messages=[user("?")], temperature=1.0, seed=1), ()), torch.tensor([logits])
    seen = np.bincount([next_tokens([draft], scores)[0] for _ in range(draws)], minlength=3)
    expected = torch.tensor(logits).softmax(-1).double().numpy()
    assert scipy_stats.chisquare(seen, expected / expected.sum() * draws).pvalue > 0.01


def test_noise_leaves_rows_of_temperature_0_alone() -> None:
    asked = [Request(messages=[user("?")], temperature=t) for t in (0.0, 1.0)]
    cold, hot = (Draft(0, request, ()) for request in asked)
    scores = torch.tensor([[1.0, 1.1, 1.2]] * 2)
    told = [next_tokens([cold, hot], scores) for _ in range(40)]
    assert {one for one, _ in told} == {2}
    assert {other for _, other in told} == {0, 1, 2}
    assert torch.equal(scores, torch.tensor([[1.0, 1.1, 1.2]] * 2))  # and the given scores are not written to


def test_a_rows_noise_does_not_depend_on_the_rows_beside_it() -> None:
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    asked = [Request(messages=[user("?")], temperature=t, seed=seed) for seed, t in enumerate((0.7, 1.0, 1.3))]
    together, alone = ([Draft(0, request, ()) for request in asked] for _ in range(2))
    for _ in range(20):
        told = next_tokens(together, logits)
        assert told == [next_tokens([draft], logits[[row]])[0] for row, draft in enumerate(alone)]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_shared_system_prompt_read_once_changes_no_text(
    loaded: Loaded, cache: ReplyCache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    chat = load_tokenizer_chat(Path(loaded.model.config.name_or_path), system="You weigh what is at stake. " * 9)
    advised = Loaded(loaded.subject, loaded.model, chat)
    asked = requests(temperature=temperature)
    lengths: list[int] = []
    read = scoring.read_prefix

    def counted(model: scoring.Model, tokens: Sequence[int]) -> scoring.Prefix:
        lengths.append(len(tokens))
        return read(model, tokens)

    monkeypatch.setattr(scoring, "read_prefix", counted)
    shared = sample(advised, asked, cache)
    assert len(lengths) == 1
    assert lengths[0] > len("You weigh what is at stake. " * 9)  # a token a byte: all of the system prompt
    monkeypatch.setattr(scoring, "common_prefix", lambda sequences: 0)
    other = ReplyCache(tmp_path / "plain.sqlite")
    assert sample(advised, asked, other) == shared
    other.close()
    assert shared != alone(loaded, asked, tmp_path)  # and the prompt does matter


def test_equal_prompts_leave_each_row_a_token_to_read(loaded: Loaded, cache: ReplyCache) -> None:
    asked = [Request(messages=ASKED[0], max_tokens=8, seed=seed) for seed in range(3)]
    assert len({reply.text for reply in sample(loaded, asked, cache)}) == 3


def test_a_request_that_runs_on_goes_past_the_end_of_its_turn(loaded: Loaded, cache: ReplyCache) -> None:
    asked = [Request(messages=ASKED[0], max_tokens=60, seed=seed) for seed in range(12)]
    stopped = sample(loaded, asked, cache)
    running = sample(loaded, [request.model_copy(update={"runs_on": True}) for request in asked], cache)
    assert any(reply.finish == "stop" and reply.num_tokens < 59 for reply in stopped)
    for short, long in zip(stopped, running, strict=True):
        assert long.num_tokens >= 59  # the last token may happen to be a stop
        assert long.text.startswith(short.text[:5])
