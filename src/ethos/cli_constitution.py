"""The `ethos constitution` verbs: parse, call, print."""

from pathlib import Path
from typing import Annotated

import typer

from ethos.cli_teacher import (
    DryRun,
    Interface,
    KeyVariable,
    Price,
    TeacherModel,
    TeacherName,
    Thinking,
    ThoughtTokens,
)

constitutions = typer.Typer(help="Start, check, compare and print constitutions.", no_args_is_help=True)


@constitutions.command("check")
def constitution_check(file: Annotated[str, typer.Argument(help="A .toml file, or a shipped name.")]) -> None:
    """Lint a constitution: what would train badly, where, and how to mend it. Exit code 2 on findings."""
    from ethos.constitution import lint, read_constitution

    constitution = read_constitution(file)
    findings = lint(constitution)
    for finding in findings:
        typer.echo(f"{finding.rule}: {finding.where}: {finding.message}\n  hint: {finding.hint}")
    prompts = len(constitution.prompts())
    name = f"{constitution.name} {constitution.version}"
    typer.echo(f"{name}: {len(constitution.trait)} traits, {prompts} prompts, {len(findings)} findings")
    if findings:
        raise typer.Exit(2)


@constitutions.command("show")
def constitution_show(
    file: Annotated[str, typer.Argument(help="A .toml file, or a shipped name.")],
    inverted: Annotated[bool, typer.Option("--inverted", help="The control with every trait reversed.")] = False,
) -> None:
    """Print a constitution as the system prompt a model would see, with its reasons."""
    from ethos.constitution import read_constitution

    constitution = read_constitution(file)
    constitution = constitution.inverted() if inverted else constitution
    typer.echo(f"{constitution.name} {constitution.version} ({constitution.licence})\n{constitution.summary}\n")
    for trait in constitution.trait:
        typer.echo(f"{trait.name}\n  {trait.statement}\n  why: {trait.why}\n  opposite: {trait.opposite}\n")
    typer.echo(f"in a conflict: {' > '.join(constitution.priority)}")


@constitutions.command("new")
def constitution_new(
    name: Annotated[str, typer.Argument(help="Small letters, digits, hyphens: also the file's name.")],
) -> None:
    """Write NAME.toml, a constitution to fill in, with one trait that shows the form."""
    from ethos.authoring import scaffold

    written = _fresh_file(name, scaffold(name))
    typer.echo(f"wrote {written}; next: ethos constitution check {written}")


@constitutions.command("draft")
def constitution_draft(
    description: Annotated[str, typer.Argument(help="The character in a few sentences.")],
    name: Annotated[str, typer.Option(help="Small letters, digits, hyphens: also the file's name.")],
    teacher: TeacherName,
    model: TeacherModel = "default",
    interface: Interface = "openai",
    key_variable: KeyVariable = None,
    thinking: Thinking = "strip",
    thought_tokens: ThoughtTokens = 0,
    dry_run: DryRun = False,
    price_in: Price = None,
    price_out: Price = None,
) -> None:
    """Let a teacher write NAME.toml from a description. It is linted, mended once, and what is left says TODO."""
    from ethos.config import budget_settings, teacher_settings
    from ethos.drafting import draft_constitution, foresee_draft

    asked = teacher_settings(
        teacher,
        model=model,
        interface=interface,
        key_variable=key_variable,
        concurrency=1,
        thinking=thinking,
        thought_tokens=thought_tokens,
    )
    if dry_run:
        prices = budget_settings(None, None, price_in, price_out).prices
        typer.echo(foresee_draft(description, name, asked, prices))
        return
    written = _fresh_file(name, draft_constitution(description, name, asked))
    typer.echo(f"wrote {written}; next: ethos constitution check {written}")


@constitutions.command("import")
def constitution_import(
    file: Annotated[Path, typer.Argument(help="hand-written/*.txt or few-shot/*.jsonl of Open Character Training.")],
    name: Annotated[str, typer.Option(help="Name of the constitution; default: the file's.")] = "",
) -> None:
    """Write NAME.toml from another project's file; what that has no word for says TODO."""
    from ethos.authoring import import_oct, to_toml

    name = name or file.stem
    written = _fresh_file(name, to_toml(import_oct(file, name)))
    typer.echo(f"wrote {written}; next: ethos constitution check {written}")


@constitutions.command("diff")
def constitution_diff(
    old: Annotated[str, typer.Argument(help="A .toml file, or a shipped name.")],
    new: Annotated[str, typer.Argument(help="A .toml file, or a shipped name.")],
) -> None:
    """Print what changed between two versions, trait by trait."""
    from ethos.authoring import diff
    from ethos.constitution import read_constitution

    lines = diff(read_constitution(old), read_constitution(new))
    typer.echo("\n".join(lines) or "no difference")


@constitutions.command("list")
def constitution_list() -> None:
    """Print the constitutions that ship with ethos."""
    from ethos.constitution import SHIPPED, read_constitution

    for name in sorted(path.stem for path in SHIPPED.glob("*.toml")):
        constitution = read_constitution(name)
        typer.echo(f"{name:<18} {len(constitution.trait)} traits · {constitution.summary}")


def _fresh_file(name: str, text: str) -> Path:
    """Write NAME.toml here; a file that is already there is left alone."""
    from ethos.errors import ConstitutionError

    path = Path(f"{name}.toml")
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError as error:
        raise ConstitutionError(f"{path} exists", hint="choose another name, or remove it first") from error
    return path
