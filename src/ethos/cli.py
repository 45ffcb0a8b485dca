"""Verbs: parse, call, print. Heavy imports live inside the verbs, so that `--help` answers at once."""

import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from ethos.cli_constitution import constitutions
from ethos.cli_teacher import taught
from ethos.errors import UserError

app = typer.Typer(
    help="Train a language model's character from a written constitution, and show whether it holds.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
claims = typer.Typer(help="What a run measures.", no_args_is_help=True)
studies = typer.Typer(help="Compare methods, constitutions and seeds.", no_args_is_help=True)
benches = typer.Typer(help="Measure, compare and plan without training.", no_args_is_help=True)
data = typer.Typer(help="Make, look at and export training data.", no_args_is_help=True)
app.add_typer(constitutions, name="constitution")
app.add_typer(claims, name="claim")
app.add_typer(studies, name="study")
app.add_typer(benches, name="bench")
app.add_typer(data, name="data")
data.add_typer(taught)

Claims = Annotated[list[str] | None, typer.Option("--claim", help="A claim; repeat for more.  [default: all]")]
Items = Annotated[str, typer.Option(help="sealed, or development for everything that is tuned.")]
PerSplit = Annotated[int | None, typer.Option(min=1, help="Items per split and claim.  [default: all]")]
ByConstitution = Annotated[
    str | None,
    typer.Option(
        "--constitution", help="A .toml file or shipped name.  [default: the runs' own, or virtuous-reasoner]"
    ),
]
BenchFolder = Annotated[Path, typer.Option(help="Where scores are kept; what is there is not measured again.")]
Seed = Annotated[int, typer.Option(min=0, help="Seed of the sampled replies.")]
RunFolder = Annotated[Path, typer.Argument(help="A run folder, e.g. out/quickstart.")]


@app.command()
def run(
    file: Annotated[Path, typer.Argument(help="A run file, e.g. runs/quickstart.toml.")],
    out: Annotated[Path | None, typer.Option(help="Run folder.  [default: out/<name of the run>]")] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override a key: stages.0.optimisation.epochs=2")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show stages, what is cached, tokens and minutes.")
    ] = False,
) -> None:
    """Train, measure and report one experiment. Run it again after an interruption: it resumes.

    `torchrun --nproc-per-node N -m ethos run FILE` trains in N processes.
    """
    from ethos.config import read_config

    config = read_config(file, set_ or [])
    from ethos.store import Run

    folder = Run(out or Path("out") / config.name)
    if dry_run:
        from ethos.plan import render_plan

        typer.echo(render_plan(config, folder))
        return
    from ethos.pipeline import run_experiment
    from ethos.train import ranks

    try:
        with ranks.joined() as leads:
            if not leads:
                ranks.follow()
                return
            page = run_experiment(config, folder)
    except KeyboardInterrupt:
        typer.echo("\ninterrupted; the same command resumes where it stopped", err=True)
        raise typer.Exit(130) from None
    _echo_report(page, "report.md")


@app.command()
def report(folder: RunFolder) -> None:
    """Write report.html and report.md of a finished run again, from its files."""
    from ethos.report.page import write_report

    _echo_report(write_report(folder), "report.md")


def _echo_report(page: Path, text: str) -> None:
    """The report for terminals, and where its page is."""
    typer.echo((page.parent / text).read_text())
    typer.echo(f"report: {page.resolve()}")


@app.command()
def chat(
    subjects: Annotated[
        list[str], typer.Argument(help="Run folders, adapter folders, or 'base'; several answer side by side.")
    ],
    message: Annotated[str | None, typer.Option("--message", "-m", help="Ask once and leave.")] = None,
    temperature: Annotated[float, typer.Option(min=0, help="0 is deterministic.")] = 0.7,
    seed: Annotated[int, typer.Option(help="Seed of the sampling.")] = 0,
) -> None:
    """Talk with one or more subjects in the terminal, e.g. `ethos chat base out/quickstart`."""
    from ethos.conversation import converse

    converse(subjects, message=message, temperature=temperature, seed=seed)


@app.command()
def doctor() -> None:
    """Show versions, processor features, the dtype computed in, and the model cache."""
    from ethos.doctor import diagnose

    for what, value in diagnose():
        typer.echo(f"{what:<14} {value}")


StudyFile = Annotated[Path, typer.Argument(help="A study file, e.g. studies/methods.toml.")]
StudyFolder = Annotated[Path | None, typer.Option("--out", help="Study folder.  [default: out/<name of the study>]")]
StudyRoot = Annotated[Path, typer.Argument(help="A study's folder, e.g. out/methods.")]


@studies.command("run")
def study_run(
    file: StudyFile,
    out: StudyFolder = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that share the processor.")] = 1,
    engine: Annotated[Literal["local", "ray"], typer.Option(help="Here, or a task a cell on a Ray cluster.")] = "local",
    cpus: Annotated[float, typer.Option(min=0, help="ray: processors a cell.")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0, help="ray: accelerators a cell; 0.5 lets two share one.")] = 0.0,
    address: Annotated[str, typer.Option(help="ray: a running cluster's; local starts one here.")] = "local",
    amend: Annotated[bool, typer.Option("--amend", help="Go on with a changed plan; the report says so.")] = False,
) -> None:
    """Run every cell that is not finished, and write the report. Run it again after an interruption: it resumes.

    `torchrun --nproc-per-node N -m ethos study run FILE` trains every arm in N processes.
    """
    from ethos.design import read_study
    from ethos.engines import Engine
    from ethos.study import report_study, run_study
    from ethos.train import ranks

    study, settings = read_study(file), Engine(engine, workers, cpus, gpus, address)
    folder = out or Path("out") / study.name
    with ranks.joined() as leads:
        if not leads:
            ranks.follow()
            return
        if ranks.count() > 1 and settings != Engine():
            raise UserError("torchrun trains one arm at a time", hint="leave out --workers and --engine")
        run_study(study, folder, engine=settings, amend=amend)
    _echo_report(report_study(folder), "study.md")


@studies.command("plan")
def study_plan(file: StudyFile, out: StudyFolder = None) -> None:
    """Show the grid, what is done, and the minutes that the rest would take."""
    from ethos.design import read_study
    from ethos.plan import render_grid

    study = read_study(file)
    typer.echo(render_grid(study, out or Path("out") / study.name))


@studies.command("report")
def study_report(folder: StudyRoot) -> None:
    """Write study.html and study.md again from what is finished."""
    from ethos.study import report_study

    _echo_report(report_study(folder), "study.md")


@studies.command("list")
def study_list(folder: StudyRoot) -> None:
    """Print every cell with its state: finished, outdated, begun or to do."""
    from ethos.study import render_states

    typer.echo(render_states(folder))


@studies.command("export")
def study_export(
    folder: StudyRoot,
    to: Annotated[
        Literal["csv", "parquet", "latex", "archive"],
        typer.Option(help="Every score, a table of shifts (latex), or all results without weights (archive)."),
    ],
    out: Annotated[Path | None, typer.Option(help="File.  [default: results or shifts in the study's folder]")] = None,
) -> None:
    """Write a study's numbers for other programs, or to go on from elsewhere.

    An unpacked archive (`tar xf results.tar.xz -C out`) is a study's folder: report it, or run what is left of it.
    """
    from ethos.study import export

    typer.echo(f"wrote {export(folder, to, out)}")


@benches.command("run")
def bench_run(
    subjects: Annotated[list[str], typer.Argument(help="Run folders, adapter folders, model folders, or 'prompted'.")],
    claim: Claims = None,
    constitution: ByConstitution = None,
    items: Items = "sealed",
    per_split: PerSplit = None,
    out: BenchFolder = Path("out/bench"),
    seed: Seed = 0,
) -> None:
    """Measure subjects, each against its own base, and print what was found."""
    from ethos.benchmark import run_bench
    from ethos.config import bench_settings

    typer.echo(run_bench(subjects, bench_settings(claim, items, per_split), constitution, out, seed=seed))


@benches.command("compare")
def bench_compare(
    one: Annotated[str, typer.Argument(help="A subject.")],
    other: Annotated[str, typer.Argument(help="The subject to judge against it.")],
    claim: Claims = None,
    constitution: ByConstitution = None,
    items: Items = "sealed",
    per_split: PerSplit = None,
    out: BenchFolder = Path("out/bench"),
    seed: Seed = 0,
) -> None:
    """Judge one subject against another on the same items."""
    from ethos.benchmark import compare
    from ethos.config import bench_settings

    typer.echo(compare(one, other, bench_settings(claim, items, per_split), constitution, out, seed=seed))


@benches.command("plan")
def bench_plan(
    folder: RunFolder, detect: Annotated[float, typer.Option(min=1e-6, help="The shift to be detected.")] = 0.05
) -> None:
    """Show which shift each claim's items can detect, and how many items a given shift takes."""
    from ethos.benchmark import render_power

    typer.echo(render_power(folder, detect=detect))


@benches.command("validate")
def bench_validate(
    folders: Annotated[list[Path], typer.Argument(help="Finished runs, and studies, of one constitution and base.")],
    measure: Annotated[
        bool, typer.Option("--measure", help="Measure the half-strength prompt first, where it is missing.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder for validation.md and validity.json.")] = Path("out/validation"),
) -> None:
    """Say of each claim whether known subjects come out as they must, and how reliable it is."""
    from ethos.validation import validate

    typer.echo(validate(folders, out, measured=measure))


@claims.command("list")
def claim_list() -> None:
    """Print the claims a run can put to the test, each in a sentence."""
    from ethos.bench.battery import CLAIMS

    for name, claim in CLAIMS.items():
        typer.echo(f"{name:<34} {claim.sentence}")


@claims.command("show")
def claim_show(name: Annotated[str, typer.Argument(help="A claim's name, as `ethos claim list` prints it.")]) -> None:
    """Print how a claim is measured, what would refute it, and where it comes from."""
    from ethos.bench.battery import find_claim

    claim = find_claim(name)
    typer.echo(f"{claim.name}, version {claim.version}: {claim.sentence}\n")
    typer.echo((sys.modules[claim.measure.__module__].__doc__ or "").strip())


@data.command("show")
def data_show(
    folder: RunFolder,
    limit: Annotated[int, typer.Option(min=1, help="Rows of each kind.")] = 2,
) -> None:
    """Print training rows as the model sees them: learnt tokens green, context plain, drops with reasons."""
    from ethos.rows.show import show_run

    show_run(folder, limit=limit)


@data.command("stats")
def data_stats(folder: RunFolder) -> None:
    """Count a run's training rows: tokens, words, repeats, drops, what they are about, what a bag of words gets."""
    from ethos.rows.tally import render_stats

    typer.echo(render_stats(folder))


@data.command("page")
def data_page(folder: RunFolder) -> None:
    """Write data.html: every training row on one page, to filter and search, learnt words coloured."""
    from ethos.rows.page import write_page

    typer.echo(f"page: {write_page(folder).resolve()}")


@data.command("export")
def data_export(
    folder: Annotated[Path, typer.Argument(help="A run folder, or that of a data stage: out/NAME/data/DIGEST.")],
    to: Annotated[str, typer.Option(help="trl, axolotl, openai, or hub-folder (for datasets.load_dataset).")],
    out: Annotated[Path, typer.Option(help="A folder that is new or empty.")],
) -> None:
    """Write a run's training rows for another trainer; print what was written, left out and lost."""
    from ethos.rows.export import export_run

    typer.echo(export_run(folder, to, out))


def main() -> None:
    """Console entry: a user's mistake prints bare and exits 2; a bug keeps its traceback."""
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
