"""Sampled rejections: the reply in the place of the recorded one, cut at a sentence, dropped with its group."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ethos.chat import Chat
from ethos.constitution import read_constitution
from ethos.data.rejections import Rejections, resampled, whole_sentences
from ethos.models import Loaded, Subject
from ethos.records import Preference, assistant, user
from ethos.samplers import local
from ethos.samplers.replies import Reply, ReplyCache, Request

CONSTITUTION = read_constitution("virtuous-reasoner")
PLAIN = "Look the answer up in the manual that came with it, and then do it. Then"
SAID = {"one": PLAIN, "two": "Short.", "three": PLAIN, "four": f"{PLAIN} rest."}


def row(prompt: str, group: str, chosen: str = "Ask her first.") -> Preference:
    return Preference(
        prompt=[user(prompt)],
        chosen=[assistant(chosen)],
        rejected=[assistant("Take it all.")],
        group=group,
        kind="pole",
        source=f"pole:{prompt}",
    )


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[ReplyCache]:
    opened = ReplyCache(tmp_path / "requests.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def student(chat: Chat, monkeypatch: pytest.MonkeyPatch) -> Loaded:
    """A model that says `SAID`, cut off but for the last."""

    def write(
        model: object, chat: Chat, requests: Sequence[Request], batch: int
    ) -> Iterator[tuple[int, tuple[int, ...]]]:
        for place, request in enumerate(requests):
            asked = request.messages[-1].content
            tokens = chat.tokenizer.encode(SAID[asked], add_special_tokens=False)
            yield place, (*tokens, *([2] if asked == "four" else []))

    monkeypatch.setattr(local, "written", write)
    return Loaded(Subject(name="student", base="0"), None, chat)  # type: ignore[arg-type]


def test_a_sampled_reply_takes_the_place_of_the_recorded_one(student: Loaded, cache: ReplyCache) -> None:
    rows = [row("one", "a"), row("two", "b"), row("three", "b"), row("four", "c", chosen=SAID["four"])]
    kept, dropped = resampled(student, rows, CONSTITUTION, Rejections(max_tokens=500), cache, seed=0)
    (found,) = kept
    assert found.rejected[0].content == PLAIN.removesuffix(" Then")
    assert found.model_copy(update={"rejected": rows[0].rejected}) == rows[0]
    assert {drop.source: drop.reason for drop in dropped} == {
        "b": "rejected reply: short: under 12 words",  # its other situation had a sound reply
        "c": "rejected reply: says what is chosen",
    }


@pytest.mark.parametrize(
    ("text", "finish", "whole"),
    [
        ("One. Two", "stop", "One. Two"),
        ("One. Two", "length", "One."),
        ('He said "no." Then', "length", 'He said "no."'),
        ("It costs 3.5 and", "length", ""),
        ("First! Second? Third", "length", "First! Second?"),
    ],
)
def test_a_cut_off_reply_ends_with_its_last_whole_sentence(text: str, finish: str, whole: str) -> None:
    assert whole_sentences(Reply(text=text, num_tokens=9, finish=finish)) == whole  # type: ignore[arg-type]
