"""Constitutions with a teacher's help, from the command line: new files only, checked as anybody's."""

import json
import random
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from ethos.authoring import to_toml
from ethos.cli import app
from ethos.constitution import Constitution, lint, read_constitution
from ethos.drafting import read_draft
from ethos.errors import UserError
from ethos.samplers.replies import Reply
from served import Say, TeacherServer

Serve = Callable[[Say], TeacherServer]
SHIPPED = read_constitution("loving")
SECRET = "sk-planted-90d2"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def invoke(command: str) -> Result:
    return CliRunner().invoke(app, shlex.split(command))


def done(command: str) -> str:
    result = invoke(command)
    assert result.exit_code == 0, result.exception or result.output
    return result.output


def failed(command: str) -> str:
    error = invoke(command).exception
    assert isinstance(error, UserError)
    return str(error)


def answers(*texts: str) -> Say:
    """A teacher that says one text after the other, by the length of the talk."""
    return lambda body: texts[len(body["messages"]) // 2]


def flawed() -> Constitution:
    """One finding: a statement that says no."""
    first = SHIPPED.trait[0].model_copy(update={"statement": "I never leave anybody alone."})
    return SHIPPED.model_copy(update={"trait": [first, *SHIPPED.trait[1:]]})


def test_a_sound_draft_is_written_under_its_own_name_and_asked_for_once(
    serve_teacher: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_KEY", SECRET)
    server = serve_teacher(answers(f"```toml\n{to_toml(SHIPPED)}```"))
    told = done(f"constitution draft 'It loves people.' --name warm --teacher {server.url} --key-variable PLANTED_KEY")
    assert "wrote warm.toml; next: ethos constitution check warm.toml" in told
    assert read_constitution("warm.toml") == SHIPPED.model_copy(update={"name": "warm"})
    assert "0 findings" in done("constitution check warm.toml")
    assert all(SECRET.encode() not in path.read_bytes() for path in Path().rglob("*") if path.is_file())
    (body,) = server.bodies
    assert "It loves people." in body["messages"][0]["content"]


def test_findings_are_sent_back_once_and_what_is_left_stands_in_the_file(serve_teacher: Serve) -> None:
    server = serve_teacher(answers(to_toml(flawed()), to_toml(flawed())))
    done(f"constitution draft 'It loves people.' --name warm --teacher {server.url}")
    assert len(server.bodies) == 2
    (finding,) = lint(flawed())
    sent = server.bodies[1]["messages"][-1]["content"]
    todo = f"{finding.rule}: {finding.where}: {finding.message}; {finding.hint}"
    assert f"\n- {todo}\n" in sent
    assert f"\n# TODO {todo}\n" in Path("warm.toml").read_text()
    assert invoke("constitution check warm.toml").exit_code == 2


@pytest.mark.parametrize(
    ("texts", "findings"),
    [
        (("It is a warm character.", to_toml(SHIPPED)), 0),
        ((to_toml(flawed()), "I would leave it."), 1),
        ((to_toml(flawed()), to_toml(SHIPPED).replace("[[trait]]", "[[traits]]")), 1),
    ],
)
def test_the_better_attempt_is_kept(texts: tuple[str, str], findings: int, serve_teacher: Serve) -> None:
    done(f"constitution draft D --name warm --teacher {serve_teacher(answers(*texts)).url}")
    assert len(lint(read_constitution("warm.toml"))) == findings
    assert Path("warm.toml").read_text().count("# TODO ") == findings


def test_what_is_no_constitution_twice_is_not_written_and_is_not_paid_for_again(serve_teacher: Serve) -> None:
    server = serve_teacher(answers("It is warm.", "name = 3"))
    command = f"constitution draft D --name warm --teacher {server.url}"
    for _ in range(2):
        assert "the teacher wrote no constitution, and did not mend it: version: Field required" in failed(command)
    assert not Path("warm.toml").exists()
    assert len(server.bodies) == 2


def test_a_file_that_is_there_and_a_bad_name_are_refused_before_anybody_is_asked() -> None:
    Path("warm.toml").write_text("mine")
    Path("wide.toml").write_text("mine")
    nowhere = "--teacher http://nowhere.invalid/v1"
    assert "warm.toml exists" in failed(f"constitution draft D --name warm {nowhere}")
    assert "'../warm' cannot name a constitution" in failed(f"constitution draft D --name ../warm {nowhere}")
    assert "wide.toml exists" in failed(f"data widen loving --out wide.toml {nowhere}")
    assert "'Wide One' cannot name a constitution" in failed(f"data widen loving --out 'Wide One.toml' {nowhere}")
    assert "a constitution is a .toml file" in failed(f"data widen loving --out wide {nowhere}")
    assert "no split 'familar' to widen\nhint: did you mean 'familiar'?" in failed(
        f"data widen loving --out w.toml --split familar {nowhere}"
    )
    assert {path.read_text() for path in Path().glob("*.toml")} == {"mine"}


@given(st.text() | st.text(alphabet='[]"=\n{}trai.', max_size=60))
def test_no_text_breaks_the_reader(text: str) -> None:
    for written in (text, f"```toml\n{text}\n```", f"{to_toml(SHIPPED)}\n{text}"):
        found = read_draft(Reply(text=written, num_tokens=1, finish="stop"), "warm")
        assert isinstance(found, str) or found.name == "warm"


def test_a_draft_that_was_cut_off_or_nests_too_deeply_is_none() -> None:
    whole = to_toml(SHIPPED)
    assert read_draft(Reply(text=whole, num_tokens=1, finish="length"), "warm") == (
        "cut off: no stop token within the limit"
    )
    for deep in ("a" + ".a" * 200 + " = 1", "a = " + "[" * 5000):
        assert "nested too deeply" in str(read_draft(Reply(text=deep, num_tokens=1, finish="stop"), "warm"))


def proposals(body: dict[str, Any]) -> str:
    """A prompt of nonsense for every line that is asked for; the first of each request speaks of a user."""
    rng = random.Random(body["seed"])
    prompts = []
    for form, least in re.findall(r"^\d+\. about .*; (.*); (\d+) to \d+ words$", body["messages"][0]["content"], re.M):
        text = [
            "I",
            *("".join(rng.choices("bdfklmnprstvz", k=1)) + rng.choice("aeiou") * 3 for _ in range(int(least) - 1)),
        ]
        text[1:3] = ["need", form.removeprefix("asks for a ")] if form.startswith("asks for a ") else text[1:3]
        prompts.append(" ".join(text) + ("?" if "question" in form else "."))
    return json.dumps({"prompts": ["A user wants something from me that is hard to say.", *prompts[1:]]})


def test_a_widened_constitution_is_a_new_file_that_passes_the_check(
    serve_teacher: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_KEY", SECRET)
    server = serve_teacher(proposals)
    command = f"data widen loving --per-trait 4 --out wide.toml --teacher {server.url} --key-variable PLANTED_KEY"
    told = done(command)
    wide = read_constitution("wide.toml")
    added = len(wide.prompts()) - len(SHIPPED.prompts())
    assert f"wide.toml: {added} prompts added, " in told
    assert "ethos constitution check: 0 findings" in told
    assert "not a request" in told
    assert "0 findings" in done("constitution check wide.toml")
    assert wide.name == "wide"
    assert {split for trait in wide.trait for split in trait.prompts} == {
        split for trait in SHIPPED.trait for split in trait.prompts
    }
    asked = len(server.bodies)
    Path("wide.toml").unlink()
    done(command)
    assert read_constitution("wide.toml") == wide
    assert len(server.bodies) == asked
    assert all(SECRET.encode() not in path.read_bytes() for path in Path().rglob("*") if path.is_file())


def test_nothing_is_written_where_no_proposal_is_accepted(serve_teacher: Serve) -> None:
    server = serve_teacher(lambda body: "I have no idea.")
    assert "no proposal was accepted: not the JSON that was asked for" in failed(
        f"data widen loving --per-trait 1 --split role --out wide.toml --teacher {server.url}"
    )
    assert not Path("wide.toml").exists()


def test_a_dry_run_of_a_draft_names_both_rounds_and_asks_nobody(serve_teacher: Serve) -> None:
    server = serve_teacher(answers(to_toml(flawed()), to_toml(SHIPPED)))
    order = f"constitution draft D --name warm --teacher {server.url}"
    told = done(f"{order} --dry-run --price-in 1 --price-out 5")
    assert "round 1: 1 requests, 0 stored already, 1 to ask" in told
    assert "later rounds: 1 requests at most" in told
    assert "8,000 completion tokens, $0.04" in told
    assert (server.bodies, list(Path().iterdir())) == ([], [])
    done(order)
    Path("warm.toml").unlink()
    assert "nothing is left to ask" in done(f"{order} --dry-run")


def test_a_dry_run_of_widening_foresees_the_first_round_and_the_worst_of_the_others(serve_teacher: Serve) -> None:
    server = serve_teacher(proposals)
    order = f"data widen loving --per-trait 4 --out wide.toml --teacher {server.url}"
    told = done(f"{order} --dry-run")
    count = 3 * len(SHIPPED.trait)
    assert f"round 1: {count} requests, 0 stored already, {count} to ask" in told
    assert f"later rounds: {3 * count} requests at most" in told
    assert (server.bodies, list(Path().iterdir())) == ([], [])
    done(order)
    assert count < len(server.bodies) <= 4 * count
