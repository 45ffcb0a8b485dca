"""A teacher's data from the command line: shards and back, foresight, caps, and who may stand on the rejected side."""

import json
import shlex
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import Result
from typer.testing import CliRunner

from conftest import in_float32
from ethos.authoring import to_toml
from ethos.bench.contamination import item_texts
from ethos.cli import app
from ethos.constitution import Constitution, read_constitution
from ethos.data.generation import MAX_TOKENS, SEALED, Order, taught
from ethos.data.recorded import CrossedRow, DocumentRow, PoleRow, VoiceRow, read_recorded
from ethos.data.widening import ALIKE
from ethos.errors import UserError
from ethos.models import Loaded, Subject, load_subject, load_tokenizer_chat
from ethos.records import Message, read_jsonl, user
from ethos.samplers.budget import Unasked, only_stored
from ethos.samplers.local import LocalTeacher
from ethos.samplers.replies import Reply, ReplyCache, Request
from ethos.subjects import find_subject
from ethos.teachers import stored
from ethos.teaching import RESEMBLES, barred, gains
from served import Say, TeacherServer, batch_results

Serve = Callable[[Say], TeacherServer]
PROMPTS = read_constitution("loving").prompts("familiar")
IN_CHARACTER = "Ask her first and wait for her answer, because the house is as much hers as yours, you see."
PLAIN = "Paint it tonight in any colour that you like and tell her about it once it is quite dry."
REWRITTEN = "Ask her first and wait for her word, because the house is as much hers as it is yours too."
SECRET = "sk-planted-77aa"


def invoke(command: str, *paths: Path) -> Result:
    return CliRunner().invoke(app, [*shlex.split(command), *map(str, paths)])


def done(command: str, *paths: Path) -> str:
    result = invoke(command, *paths)
    assert result.exit_code == 0, result.exception or result.output
    return result.output


def tag(body: dict[str, Any]) -> str:
    """A few words that a reply to this prompt has and no other reply: stock answers are refused."""
    place = PROMPTS.index(body["messages"][1]["content"])
    return " ~ " + " ".join(f"w{place}{letter}" for letter in "abcdef")


def bare(text: str) -> str:
    return text.partition(" ~ ")[0]


def say(body: dict[str, Any]) -> str:
    """In character with the constitution in sight, plain without; a second thought where one is asked for."""
    if "Read your answer again" in body["messages"][-1]["content"]:
        return json.dumps({"critique": "It could be warmer.", "answer": REWRITTEN + tag(body)})
    return (IN_CHARACTER if "Your character" in body["messages"][0]["content"] else PLAIN) + tag(body)


def unreachable(body: dict[str, Any]) -> str:
    raise AssertionError(f"asked: {body}")


def answer_shards(folder: Path, teacher: Say) -> list[Path]:
    """Let a batch server answer all shards of a folder."""
    results = []
    for path in sorted((folder / "shards").glob("*-of-*.jsonl")):
        results.append(path.with_suffix(".out"))
        results[-1].write_text(batch_results(path.read_text(), teacher))
    return results


def test_shards_come_back_as_the_rows_that_asking_gives_and_nobody_is_asked(
    serve_teacher: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLANTED_KEY", SECRET)
    asked, silent = serve_teacher(say), serve_teacher(unreachable)
    live, batched = tmp_path / "live", tmp_path / "batched"
    order = "loving --candidates 2 --model m --seed 4"
    done(f"data generate {order} --teacher {asked.url} --key-variable PLANTED_KEY --out", live)
    told = done(f"data shard {order} --teacher {silent.url} --shards 3 --out", batched)
    assert f"round 1: {len(PROMPTS) * 4} requests, files: 3" in told
    results = answer_shards(batched, say)
    sent = [
        json.loads(line)["body"] for file in results for line in file.with_suffix(".jsonl").read_text().splitlines()
    ]
    assert {json.dumps(body, sort_keys=True) for body in sent} == set(asked.asked)
    assert f"{len(sent)} replies stored, 0 lines refused" in done("data merge", batched, *results)
    assert "nothing is left to ask" in done(f"data shard {order} --teacher {silent.url} --out", batched)
    done(f"data generate {order} --teacher {silent.url} --key-variable PLANTED_KEY --out", batched)
    assert (batched / "voice.jsonl").read_text() == (live / "voice.jsonl").read_text()
    assert silent.bodies == []
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert all(SECRET.encode() not in text for text in written)


def test_a_process_of_several_rounds_is_sharded_until_nothing_is_left(tmp_path: Path) -> None:
    order = "loving --candidates 1 --kind poles --rewrite --teacher http://nowhere.invalid/v1"
    rounds = []
    while "nothing is left" not in (told := done(f"data shard {order} --out", tmp_path)):
        rounds.append(told.splitlines()[0])
        done("data merge", tmp_path, *answer_shards(tmp_path, poles))
    count = 2 * len(PROMPTS)
    assert rounds == [f"round 1: {count} requests, files: 1", f"round 2: {count} requests, files: 1"]
    assert "rows, 0 dropped" in done(f"data generate {order} --out", tmp_path)
    rows = read_jsonl(tmp_path / "poles.jsonl", PoleRow)
    assert {(bare(row.chosen), bare(row.rejected)) for row in rows} == {(REWRITTEN, f"{REWRITTEN} Indeed.")}


def poles(body: dict[str, Any]) -> str:
    """As `say`, the opposite pole a word longer."""
    system = body["messages"][0]["content"]
    opposite = read_constitution("loving").inverted().system_prompt() in system
    if "Read your answer again" in body["messages"][-1]["content"]:
        answer = f"{REWRITTEN} Indeed." if opposite else REWRITTEN
        return json.dumps({"critique": "Hm.", "answer": answer + tag(body)})
    return (PLAIN if opposite else IN_CHARACTER) + tag(body)


def test_failed_lines_are_asked_again_in_the_next_shards(tmp_path: Path) -> None:
    order = "loving --candidates 1 --teacher http://nowhere.invalid/v1"
    done(f"data shard {order} --out", tmp_path)
    (result,) = answer_shards(tmp_path, say)
    lines = result.read_text().splitlines(keepends=True)
    broken = [lines[0].replace('"status_code": 200', '"status_code": 503'), lines[1][:40] + "\n"]
    result.write_text("".join([*broken, *lines[2:]]))
    told = done("data merge", tmp_path, result)
    assert f"{len(lines) - 2} replies stored, 2 lines refused" in told
    assert "1 failed with HTTP 503" in told
    assert "1 not JSON, or cut short" in told
    assert "2 requests, files: 2" in done(f"data shard {order} --shards 5 --out", tmp_path)


def test_shards_are_refused_where_no_batch_server_reads_them_and_merging_where_none_went_out(tmp_path: Path) -> None:
    refusals = [invoke("data shard loving --teacher base --out", tmp_path), invoke("data merge", tmp_path, tmp_path)]
    assert [type(result.exception).__mro__[1] for result in refusals] == [UserError, UserError]
    assert "no shards went out from here" in str(refusals[1].exception)


def test_a_dry_run_says_what_will_be_asked_and_writes_nothing(serve_teacher: Serve, tmp_path: Path) -> None:
    server, out = serve_teacher(say), tmp_path / "out"
    order = f"data generate loving --candidates 2 --rewrite --teacher {server.url} --concurrency 4 --out {out}"
    told = done(f"{order} --dry-run --price-in 1 --price-out 5")
    count = 4 * len(PROMPTS)
    assert f"round 1: {count} requests, 0 stored already, {count} to ask" in told
    assert f"{200 * count:,} completion tokens, $" in told
    assert f"later rounds: {count // 2} requests at most" in told
    assert "minutes at 4 at a time" in told
    assert f"{200 * count + 600 * (count // 2):,} completion tokens" in told.partition("in all\n")[2]
    assert (server.bodies, out.exists()) == ([], False)
    done(order)
    assert len(server.bodies) == count + count // 2
    (out / "voice.jsonl").unlink()
    assert "nothing is left to ask" in done(f"{order} --dry-run")


def test_a_budget_stops_cleanly_and_a_larger_one_goes_on(serve_teacher: Serve, tmp_path: Path) -> None:
    server = serve_teacher(say)
    order = f"data generate loving --candidates 1 --teacher {server.url} --price-in 1 --price-out 10 --out {tmp_path}"
    stopped = invoke(f"{order} --budget 0.02")
    assert isinstance(stopped.exception, UserError)  # printed bare, exit code 2
    asked = len(server.bodies)
    assert 0 < asked < 2 * len(PROMPTS)
    assert f"the budget is spent: {asked} replies took" in str(stopped.exception)
    assert not (tmp_path / "voice.jsonl").exists()
    stored = f"{2 * len(PROMPTS)} requests, {asked} stored already"
    assert stored in done(f"{order} --dry-run")
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as cache:
        replies = [json.loads(row[0]) for row in cache.database.execute("SELECT reply FROM replies")]
    assert all(reply["num_prompt_tokens"] > 0 and reply["num_tokens"] == 26 for reply in replies)
    done(f"{order} --budget 1")
    assert len(server.bodies) == 2 * len(PROMPTS)
    assert set(server.asked.values()) == {1}


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ("--kind plays", "Input should be 'voice', 'poles', 'crossed' or 'documents'"),
        ("--kind poles --student base", "a student's own replies are the rejected side of voice"),
        ("--kind crossed --rewrite", "only voice and pole contrasts are rewritten"),
        ("--kind documents --deliberated", "only contrasts have thoughts"),
        ("--choose ratio", "a ratio takes log-probabilities"),
        ("--budget 3", "a budget in dollars needs --price-in and --price-out"),
        ("--price-in 3", "--price-in and --price-out go together"),
    ],
)
def test_options_that_do_not_go_together_are_told(options: str, fault: str, tmp_path: Path) -> None:
    result = invoke(f"data generate loving --teacher http://nowhere.invalid/v1 {options} --out", tmp_path)
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith(fault) or fault in str(result.exception).splitlines()[0]


def test_a_students_own_replies_are_asked_of_the_student_alone(
    serve_teacher: Serve, tiny_base: Path, tmp_path: Path
) -> None:
    server = serve_teacher(say)
    order = f"data generate loving --candidates 1 --teacher {server.url} --student {tiny_base} --out {tmp_path}"
    shards = done(order.replace("generate", "shard") + " --shards 1")
    assert f"{len(PROMPTS)} requests, files: 1" in shards
    refused = invoke(order)  # a random model's babble is no contrast
    assert "every rejected reply was refused" in str(refused.exception)
    assert len(server.bodies) == len(PROMPTS)
    assert all("Your character" in body["messages"][0]["content"] for body in server.bodies)
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as cache:
        assert cache.database.execute("SELECT count(*) FROM replies").fetchone()[0] == 2 * len(PROMPTS)


def test_the_ratio_is_what_the_constitution_adds_to_a_replys_log_probability(tiny_base: Path) -> None:
    model, character = in_float32(tiny_base, loudness=20.0), read_constitution("loving")
    loaded = Loaded(Subject(name="tiny", base="tiny"), model, load_tokenizer_chat(tiny_base))
    means = []
    for turns in ([Message(role="system", content=character.system_prompt()), user("Hi")], [user("Hi")]):
        tokens = loaded.chat.prompt(turns)
        reply = loaded.chat.tokenizer.encode("Hello.", add_special_tokens=False)
        logits = model(torch.tensor([[*tokens, *reply]])).logits[0, len(tokens) - 1 : -1].detach()
        means.append(logits.log_softmax(-1)[range(len(reply)), reply].mean().item())
    (gain,) = gains(loaded, character, [("Hi", "Hello.")])
    assert gain == pytest.approx(means[0] - means[1], abs=1e-4)
    assert abs(gain) > 1e-3


def one_prompt(folder: Path) -> Constitution:
    """A constitution of one trait and one familiar prompt, as `few.toml` in the folder."""
    whole = read_constitution("loving")
    trait = whole.trait[0].model_copy(update={"prompts": {"familiar": [PROMPTS[0]]}})
    few = whole.model_copy(update={"name": "few", "trait": [trait], "priority": [trait.name]})
    (folder / "few.toml").write_text(to_toml(few))
    return few


@pytest.mark.parametrize(
    ("options", "order", "rejected"),
    [
        ("--kind voice", Order(candidates=1), PLAIN),
        ("--kind poles", Order(kind="poles", candidates=1), f"{PLAIN} Indeed."),
        ("--kind voice --student {student}", Order(candidates=1), f"{PLAIN} So do."),
    ],
    ids=["teacher unconditioned", "teacher at the opposite pole", "student as it is"],
)
def test_each_rejected_side_can_be_had_of_a_teacher_on_this_machine(
    options: str, order: Order, rejected: str, tiny_base: Path, tmp_path: Path
) -> None:
    """The tiny models' words are put into the store, by what each of them is asked; both are loaded all the same."""
    few, student = one_prompt(tmp_path), tmp_path / "student"
    in_float32(tiny_base, loudness=2.0).save_pretrained(student)
    load_tokenizer_chat(tiny_base).tokenizer.save_pretrained(student)
    opposite = few.inverted().system_prompt()

    def says(who: Path, request: Request) -> str:
        system = request.messages[0].content
        if who == student:
            return f"{PLAIN} So do."
        return IN_CHARACTER if few.system_prompt() in system else f"{PLAIN} Indeed." if opposite in system else PLAIN

    with closing(ReplyCache(tmp_path / "replies.sqlite")) as cache:
        for who in (tiny_base, student):
            name = find_subject(str(who)).subject.digest()
            with pytest.raises(Unasked) as gap:
                taught(few, order, only_stored(name, cache))
            cache.put(
                {
                    key: Reply(text=says(who, request), num_tokens=20, finish="stop")
                    for key, request in gap.value.missing.items()
                    if who == tiny_base or few.system_prompt() not in request.messages[0].content
                }
            )
        before = cache.database.execute("SELECT count(*) FROM replies").fetchone()
    command = f"data generate {tmp_path}/few.toml --teacher {tiny_base} --candidates 1 {options} --out"
    assert "1 rows, 0 dropped" in done(command.format(student=student), tmp_path)
    kind, row = (PoleRow, "poles") if order.kind == "poles" else (VoiceRow, "voice")
    (made,) = read_jsonl(tmp_path / f"{row}.jsonl", kind)
    assert (made.chosen, made.rejected) == (IN_CHARACTER, rejected)
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as cache:
        assert cache.database.execute("SELECT count(*) FROM replies").fetchone() == before  # nobody else was asked


def test_items_are_written_beside_the_rows_and_measured_on(serve_teacher: Serve, tmp_path: Path) -> None:
    few = one_prompt(tmp_path)
    elsewhere = {"familiar": PROMPTS[:1], "domain": PROMPTS[1:3], "role": PROMPTS[3:4]}
    trait = few.trait[0].model_copy(update={"prompts": elsewhere})
    (tmp_path / "few.toml").write_text(to_toml(few.model_copy(update={"trait": [trait]})))
    teacher = serve_teacher(say)
    command = f"data generate {tmp_path}/few.toml --teacher {teacher.url} --kind voice --candidates 1"
    assert "voice.jsonl: 1 rows, 0 dropped" in done(command)
    assert "voice.items.jsonl: 3 rows, 0 dropped" in done(f"{command} --items")
    again = invoke(f"{command} --items")
    assert "voice.items.jsonl is there already" in str(again.exception)
    recorded = read_recorded(str(tmp_path / "few.toml"))
    assert [row.prompt for row in recorded.voice] == PROMPTS[:1]
    assert [(row.split, row.prompt) for row in recorded.voice_items] == [
        ("domain", PROMPTS[1]),
        ("domain", PROMPTS[2]),
        ("role", PROMPTS[3]),
    ]
    (tmp_path / "few" / "voice.jsonl").unlink()
    assert "voice.jsonl: 1 rows, 0 dropped" in done(command)  # what is stored is not asked again
    asked = invoke(f"{command} --items --kind documents")
    assert "items are voice or pole contrasts" in str(asked.exception)


def test_a_teacher_on_this_machine_chooses_by_its_own_ratio(tiny_base: Path, tmp_path: Path) -> None:
    few, prompt = one_prompt(tmp_path), PROMPTS[0]
    texts = [IN_CHARACTER, REWRITTEN, PLAIN, f"{PLAIN} Yes."]
    found = find_subject(str(tiny_base))
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as cache:
        with pytest.raises(Unasked) as gap:
            taught(few, Order(candidates=2), only_stored(found.subject.digest(), cache))
        replies = [Reply(text=text, num_tokens=20, finish="stop") for text in texts]
        cache.put(dict(zip(gap.value.missing, replies, strict=True)))
    done(f"data generate {tmp_path}/few.toml --teacher {tiny_base} --candidates 2 --choose ratio --out", tmp_path)
    loaded = load_subject(found.base, found.subject, found.adapter)
    gain = dict(zip(texts, gains(loaded, few, [(prompt, text) for text in texts]), strict=True))
    (row,) = read_jsonl(tmp_path / "voice.jsonl", VoiceRow)
    assert row.chosen == max(texts[:2], key=gain.__getitem__)
    assert row.rejected == min(texts[2:], key=gain.__getitem__)


def scene(body: dict[str, Any]) -> str:
    """Drafts a story of its own for each request, and reads it rightly."""
    text = body["messages"][-1]["content"]
    if "Two replies were proposed" in text:
        first = text.partition("\n1. ")[2].partition("\n2. ")[0]
        urgent = "goes tonight" in text
        return json.dumps({"why": "Time.", "reply": 1 if ("now" in first) == urgent else 2})
    names = [f"{word}{body['seed']}" for word in ("anna", "boris", "clara", "dora", "emil", "fritz", "gerda")]
    story = f"My neighbours {' and '.join(names)} lent me a ladder for the roof, and its owner"
    return json.dumps(
        {
            "a": f"{story} goes tonight.",
            "b": f"{story} goes next year.",
            "r1": "Carry it back now, before anything else.",
            "r2": "Finish the roof first, then carry it back.",
            "fact": "tonight versus next year",
        }
    )


def test_crossed_rows_are_drafted_verified_and_written_with_their_trait(serve_teacher: Serve, tmp_path: Path) -> None:
    server = serve_teacher(scene)
    order = f"data generate loving --kind crossed --candidates 1 --teacher {server.url} --out {tmp_path}"
    traits = [trait.name for trait in read_constitution("loving").trait]
    count = 10 * len(traits)
    told = done(f"{order} --dry-run")
    assert f"round 1: {count} requests" in told
    assert f"later rounds: {5 * count} requests at most" in told
    assert f"{count} rows, 0 dropped" in done(order)
    rows = read_jsonl(tmp_path / "crossed.jsonl", CrossedRow)
    assert {(row.trait, row.kind) for row in rows} == {(t, k) for t in traits for k in {row.kind for row in rows}}
    assert len(server.bodies) == 5 * count  # a draft and four readings each


def test_a_prompt_that_is_nearly_an_items_is_barred_and_one_without_its_words_is_not() -> None:
    alike, plain = barred(alike=ALIKE), barred()
    longest = max((text for texts in item_texts() for text in texts), key=lambda text: len(set(text.split())))
    words = longest.split()
    near = " ".join("otherwise" if place % 8 == 7 else word for place, word in enumerate(words))  # never eight in a row
    assert (plain([longest]), alike([longest])) == (SEALED, SEALED)
    assert (plain([near]), alike([near])) == (None, RESEMBLES)
    assert alike([IN_CHARACTER]) is None


@pytest.mark.parametrize("thinking", ["strip", "keep"])
def test_what_a_teacher_on_this_machine_thought_is_kept_or_gone_and_counted(
    thinking: str, tiny_base: Path, tmp_path: Path
) -> None:
    few = one_prompt(tmp_path)
    teacher = LocalTeacher(subject=str(tiny_base), thought_tokens=50)
    with closing(ReplyCache(tmp_path / "replies.sqlite")) as cache:
        with pytest.raises(Unasked) as gap:
            taught(few, Order(candidates=1), stored(teacher, cache))
        assert {request.max_tokens for request in gap.value.missing.values()} == {MAX_TOKENS + 50}
        texts = [f"<think>\nWhose house?\n</think>\n\n{IN_CHARACTER}", PLAIN]
        replies = [Reply(text=text, num_tokens=20, finish="stop") for text in texts]
        cache.put(dict(zip(gap.value.missing, replies, strict=True)))
    told = done(
        f"data generate {tmp_path}/few.toml --teacher {tiny_base} --candidates 1 --thinking {thinking} "
        "--thought-tokens 50 --out",
        tmp_path,
    )
    assert "1 replies were thought about first" in told
    (row,) = read_jsonl(tmp_path / "voice.jsonl", VoiceRow)
    assert row.rejected == PLAIN
    assert row.chosen == (IN_CHARACTER if thinking == "strip" else texts[0])


def test_documents_are_written_from_the_constitution_alone(serve_teacher: Serve, tmp_path: Path) -> None:
    server = serve_teacher(
        lambda body: "The assistant asks her and " + " ".join(f"w{body['seed']}x{i}" for i in range(80))
    )
    order = f"data generate loving --kind documents --candidates 1 --teacher {server.url} --out {tmp_path}"
    count = 30 * len(read_constitution("loving").trait)
    assert f"round 1: {count} requests, 0 stored already, {count} to ask" in done(f"{order} --dry-run")
    assert f"{count} rows, 0 dropped" in done(order)
    rows = read_jsonl(tmp_path / "documents.jsonl", DocumentRow)
    assert {name for row in rows for name in row.traits} == {trait.name for trait in read_constitution("loving").trait}
