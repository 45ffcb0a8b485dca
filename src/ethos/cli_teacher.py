"""The `ethos data` verbs that take a teacher, and the options that say who it is."""

from pathlib import Path
from typing import Annotated

import typer

taught = typer.Typer()

Constitution = Annotated[str, typer.Argument(help="A .toml file, or a shipped name.")]
TeacherName = Annotated[
    str, typer.Option("--teacher", help="A URL like http://localhost:8000/v1, or a subject here, e.g. a model folder.")
]
TeacherModel = Annotated[str, typer.Option("--model", help="The model's name, for a URL.")]
Interface = Annotated[str, typer.Option(help="openai (any compatible server) or anthropic.")]
KeyVariable = Annotated[str | None, typer.Option(help="Environment variable with the API key.")]
Concurrency = Annotated[int, typer.Option(min=1, help="Requests at a time.")]
Kind = Annotated[
    str,
    typer.Option(
        help="voice (against a plain reply), poles (against the opposite), crossed (two situations, two replies), or "
        "documents (texts about the assistant and its reasons)."
    ),
]
Candidates = Annotated[
    int,
    typer.Option(
        min=1,
        help="Answers to each side of a prompt; crossed: drafts for each trait and kind of deciding fact; documents: "
        "texts for each trait, type and section.",
    ),
]
Student = Annotated[
    str | None,
    typer.Option(help="voice: a subject here whose own plain replies are the rejected ones.  [default: the teacher's]"),
]
Rewrite = Annotated[
    bool, typer.Option("--rewrite", help="voice, poles: replies in character are criticised and rewritten once.")
]
Choose = Annotated[
    str,
    typer.Option(
        help="voice, poles: pair the candidates nearest in length, or (a teacher on this machine) those that the "
        "constitution tells apart most: length or ratio."
    ),
]
Deliberated = Annotated[
    bool, typer.Option("--deliberated", help="A thought before each reply: who is affected, what is at stake.")
]
Items = Annotated[
    bool,
    typer.Option(
        "--items",
        help="voice, poles: for the prompts of the domain, format, role and pressure splits, as benchmark items.",
    ),
]
Thinking = Annotated[
    str, typer.Option(help="What becomes of a teacher's thoughts before its replies: strip or keep (a <think> block).")
]
ThoughtTokens = Annotated[int, typer.Option(min=0, help="Tokens for thoughts in every request, beside the reply's.")]
Out = Annotated[Path | None, typer.Option(help="Folder of rows and replies.  [default: beside the constitution]")]
Seed = Annotated[int, typer.Option(min=0)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show requests, tokens, price and minutes.")]
Price = Annotated[float | None, typer.Option(min=0, help="Dollars per million tokens.")]


@taught.command("generate")
def generate(
    constitution: Constitution,
    teacher: TeacherName,
    kind: Kind = "voice",
    model: TeacherModel = "default",
    interface: Interface = "openai",
    key_variable: KeyVariable = None,
    candidates: Candidates = 4,
    concurrency: Concurrency = 16,
    thinking: Thinking = "strip",
    thought_tokens: ThoughtTokens = 0,
    student: Student = None,
    rewrite: Rewrite = False,
    choose: Choose = "length",
    deliberated: Deliberated = False,
    items: Items = False,
    out: Out = None,
    seed: Seed = 0,
    dry_run: DryRun = False,
    price_in: Price = None,
    price_out: Price = None,
    budget: Annotated[
        float | None, typer.Option(help="Dollars to stop at, what these rows cost before included; needs prices.")
    ] = None,
    budget_tokens: Annotated[int | None, typer.Option(min=1, help="Tokens to stop at, read and written.")] = None,
) -> None:
    """Let a teacher write a constitution's contrasts or documents. Run it again after an interruption: it resumes.

    Two situations and two replies of a crossed contrast are drafted, mended once where they break a rule, and kept
    where two verifications agree with them.
    """
    from ethos.config import budget_settings, order_settings, teacher_settings
    from ethos.teaching import foresee, write_contrasts

    asked = teacher_settings(
        teacher,
        model=model,
        interface=interface,
        key_variable=key_variable,
        concurrency=concurrency,
        thinking=thinking,
        thought_tokens=thought_tokens,
    )
    order = order_settings(
        kind=kind,
        candidates=candidates,
        seed=seed,
        student=student,
        rewrite=rewrite,
        choose=choose,
        deliberated=deliberated,
        measured=items,
    )
    caps = budget_settings(budget, budget_tokens, price_in, price_out)
    if dry_run:
        typer.echo(foresee(constitution, order, asked, out=out, prices=caps.prices))
    else:
        typer.echo(write_contrasts(constitution, order, asked, out=out, budget=caps))


@taught.command("shard")
def shard(
    constitution: Constitution,
    teacher: TeacherName,
    kind: Kind = "voice",
    model: TeacherModel = "default",
    thinking: Thinking = "strip",
    thought_tokens: ThoughtTokens = 0,
    candidates: Candidates = 4,
    student: Student = None,
    rewrite: Rewrite = False,
    deliberated: Deliberated = False,
    items: Items = False,
    out: Out = None,
    seed: Seed = 0,
    shards: Annotated[int, typer.Option(min=1, help="Files to share the requests out over.")] = 1,
    dry_run: DryRun = False,
    price_in: Price = None,
    price_out: Price = None,
) -> None:
    """Write what `data generate` with these arguments would ask, as files in FOLDER/shards, and send nothing.

    `vllm run-batch` and OpenAI's batch API read them. Take the results back with `data merge FOLDER RESULT...`. A
    process of several rounds (--rewrite, --kind crossed) needs several: shard and merge again until nothing is left to
    ask, then run `data generate` with the arguments given here, which then asks nobody.
    """
    from ethos.config import budget_settings, order_settings, teacher_settings
    from ethos.teaching import foresee, shard

    asked = teacher_settings(teacher, model=model, thinking=thinking, thought_tokens=thought_tokens)
    order = order_settings(
        kind=kind,
        candidates=candidates,
        seed=seed,
        student=student,
        rewrite=rewrite,
        deliberated=deliberated,
        measured=items,
    )
    if dry_run:
        prices = budget_settings(None, None, price_in, price_out).prices
        typer.echo(foresee(constitution, order, asked, out=out, prices=prices))
    else:
        typer.echo(shard(constitution, order, asked, out=out, shards=shards))


@taught.command("merge")
def merge(
    folder: Annotated[Path, typer.Argument(help="The folder that `data shard` wrote to.")],
    results: Annotated[list[Path], typer.Argument(help="Result files, also of failed requests.")],
) -> None:
    """Take the results of shards back into the store of replies. A line that is not sound is counted, never stored.

    Results may be merged as they come and more than once. What is still missing is asked by `data shard` or `data
    generate`.
    """
    from ethos.teaching import merge

    typer.echo(merge(folder, results))


@taught.command("widen")
def widen(
    constitution: Constitution,
    teacher: TeacherName,
    out: Annotated[Path, typer.Option(help="The new constitution, a .toml file; the old one stays as it is.")],
    per_trait: Annotated[int, typer.Option(min=1, help="New prompts for each trait in each split.")] = 10,
    split: Annotated[
        list[str] | None,
        typer.Option(help="familiar, domain, format, role, pressure or turns; repeat.  [default: the first three]"),
    ] = None,
    model: TeacherModel = "default",
    interface: Interface = "openai",
    key_variable: KeyVariable = None,
    concurrency: Concurrency = 16,
    thinking: Thinking = "strip",
    thought_tokens: ThoughtTokens = 0,
    seed: Seed = 0,
    dry_run: DryRun = False,
    price_in: Price = None,
    price_out: Price = None,
) -> None:
    """Let a teacher propose more prompts for a constitution; what is not new, telling or no request is refused."""
    from ethos.config import budget_settings, split_names, teacher_settings
    from ethos.drafting import Wish, foresee_widening, widen_constitution

    asked = teacher_settings(
        teacher,
        model=model,
        interface=interface,
        key_variable=key_variable,
        concurrency=concurrency,
        thinking=thinking,
        thought_tokens=thought_tokens,
    )
    wish = Wish(split_names(split or ["familiar", "domain", "format"]), per_trait, seed)
    if dry_run:
        prices = budget_settings(None, None, price_in, price_out).prices
        typer.echo(foresee_widening(constitution, wish, asked, out=out, prices=prices))
    else:
        typer.echo(widen_constitution(constitution, wish, asked, out=out))
