"""The benchmark by itself: any subjects, any claims, no training.

ethos bench run out/quickstart prompted         each subject against its own base
ethos bench compare A B                         B against A, on the same items
ethos bench plan out/quickstart --detect .05    how many items a shift of that size takes
"""

from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from statistics import stdev

from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Deciding, Score, differences, item_means
from ethos.bench.derived import hold_out
from ethos.bench.validity import legend, marked
from ethos.constitution import Constitution, read_constitution, recorded_folder
from ethos.data.recorded import NOTHING, read_recorded
from ethos.errors import ConfigError, DataError
from ethos.manifest import MANIFEST, read_manifest, read_scores
from ethos.measuring import SCORES, Asked, BenchSettings, Ruler, measure
from ethos.models import fast_dtype, load_tokenizer_chat
from ethos.pages import table
from ethos.records import read_jsonl
from ethos.report.findings import Finding, findings
from ethos.samplers.replies import ReplyCache
from ethos.stats import benjamini_hochberg, detectable, estimate, items_needed, p_value
from ethos.store import Run, write_text
from ethos.subjects import Found, find_subject

DEFAULT_CONSTITUTION = "virtuous-reasoner"
TABLE, NO_SCORES = "bench.md", tuple[Score, ...]()
OF_TRAITS, LEAST_ITEMS = ("crossed", "pole", "voice"), 3
"""Readouts whose items were written for a trait, and the fewest items of one trait that are a line."""


def run_bench(names: Sequence[str], settings: BenchSettings, constitution: str | None, out: Path, *, seed: int) -> str:
    """Every subject against its own base, as Markdown; also written to `out`."""
    asked = what_to_ask(names, constitution, settings, seed)
    found = [find_subject(name, asked.constitution) for name in dict.fromkeys(names)]
    chosen = [each for each in found if each.subject.digest() != each.without_character().subject.digest()]
    if not chosen:
        raise ConfigError(
            "nothing to compare with a base", hint="name a run folder, an adapter's folder, or 'prompted'"
        )
    controls = {each.subject.base: each.without_character() for each in chosen}
    scores = _measured([*controls.values(), *chosen], asked, out)
    parts = _notes(asked, chosen)
    for each in chosen:
        control = controls[each.subject.base]
        parts += [_table(each, control, scores, settings), *by_trait(asked, scores, control, each)]
    write_text(out / TABLE, "\n".join(parts))
    return "\n".join(parts)


def compare(one: str, other: str, settings: BenchSettings, constitution: str | None, out: Path, *, seed: int) -> str:
    """The second subject judged as if the first were its base, as Markdown."""
    asked = what_to_ask([one, other], constitution, settings, seed)
    first, second = (find_subject(name, asked.constitution) for name in (one, other))
    if first.subject.digest() == second.subject.digest():
        raise ConfigError(f"{one} and {other} are the same subject")
    scores = _measured([first, second], asked, out)
    parts = [*_notes(asked, [first, second]), f"Read 'base' as {one} below.", _table(second, first, scores, settings)]
    parts += by_trait(asked, scores, first, second)
    return "\n\n".join(parts)


def _notes(asked: Asked, found: Sequence[Found]) -> list[str]:
    """What a reader must know of the items, and of models that have no chat template."""
    notes = (asked.items.note, *(load_tokenizer_chat(each.base).note for each in found))
    return [note for note in dict.fromkeys(notes) if note]


def what_to_ask(names: Sequence[str], given: str | None, settings: BenchSettings, seed: int) -> Asked:
    """The items of the constitution that is named, or else shared by all runs among the subjects.

    Recorded data that is no longer beside it is no data.
    """
    constitution, where = shared_constitution(names, given)
    recorded = read_recorded(where) if recorded_folder(where).is_dir() else NOTHING
    held = hold_out(settings.items, constitution, recorded)
    return Asked(settings, constitution, held.items, held.trainable, seed, str(fast_dtype()))


def shared_constitution(names: Sequence[str], given: str | None) -> tuple[Constitution, str]:
    """The constitution named, or the one that all runs among the subjects were trained on, or the virtuous reasoner.

    With it, the name or path that its recorded rows are found by.
    """
    runs = [] if given else [read_manifest(Path(name)) for name in names if (Path(name) / MANIFEST).exists()]
    own = {run.constitution.digest(): run for run in runs}
    if len(own) > 1:
        told = ", ".join(sorted(run.constitution.name for run in own.values()))
        raise ConfigError(f"the runs have different constitutions: {told}", hint="choose one with --constitution")
    for run in own.values():
        return run.constitution, run.config.constitution
    return read_constitution(given or DEFAULT_CONSTITUTION), given or DEFAULT_CONSTITUTION


def _measured(found: Sequence[Found], asked: Asked, out: Path) -> dict[str, dict[str, Sequence[Score]]]:
    """Subject hash → claim → scores; a claim that was not asked for is empty."""
    run = Run(out)
    with run.opened(), closing(ReplyCache(out / "requests.sqlite")) as cache:
        ruler = Ruler(asked, run, cache)
        folders = {
            each.subject.digest(): measure(ruler, each.subject, each.base, each.adapter).folders for each in found
        }
    return {
        subject: {claim: read_jsonl(own[claim] / SCORES, Score) if claim in own else NO_SCORES for claim in CLAIMS}
        for subject, own in folders.items()
    }


def _table(
    found: Found, control: Found, scores: Mapping[str, Mapping[str, Sequence[Score]]], settings: BenchSettings
) -> str:
    """One subject's findings, a row a claim."""
    rows = findings(scores, found.subject.digest(), base=control.subject.digest())
    lines = [f"## {found.subject.name} against {control.subject.name}, {settings.items} items", ""]
    lines += ["| claim | outcome | what decides |", "|---|---|---|"]
    lines += [_row(finding) for finding in rows if finding.claim in settings.claims]
    return "\n\n".join(["\n".join(lines), *legend(settings.claims)]) + "\n"


def by_trait(
    asked: Asked, scores: Mapping[str, Mapping[str, Sequence[Score]]], control: Found, found: Found
) -> list[str]:
    """The shift on the items of every trait, all claims together, with p-values that allow for so many lines.

    None where no item was written for a trait, or none has enough of them.
    """
    traits = asked.items.traits()
    rows: list[tuple[str, str, list[float]]] = []
    for readout in OF_TRAITS:
        before, after = (_all_means(scores[each.subject.digest()], readout) for each in (control, found))
        common = sorted(before.keys() & after.keys() & traits.keys())
        for trait in dict.fromkeys(traits.values()):
            gaps = [after[item] - before[item] for item in common if traits[item] == trait]
            if len(gaps) >= LEAST_ITEMS:
                rows.append((trait, readout, gaps))
    if not rows:
        return []
    adjusted = benjamini_hochberg([p_value(gaps) for _, _, gaps in rows])
    lines = [
        [trait, readout, f"{estimate(list(gaps))} nats/token", f"{p:.3f}"]
        for (trait, readout, gaps), p in zip(rows, adjusted, strict=True)
    ]
    told = f"p: Benjamini and Hochberg's over these {len(rows)} lines; of those under 0.05 one in twenty is chance."
    return [f"### Trait by trait\n\n{table(['trait', 'contrast', 'shift', 'p'], lines)}\n\n{told}\n"]


def _all_means(scores: Mapping[str, Sequence[Score]], readout: str) -> dict[str, float]:
    """Item → its value on a readout, whichever claim measured it."""
    claims = ("knows_when", "shows_the_character", "carries_over")
    return {
        item: value for claim in claims for item, value in item_means(scores[claim], Deciding(readout, readout)).items()
    }


def _row(finding: Finding) -> str:
    decided = "; ".join(f"{line.label} {line.estimate} {line.unit}" for line in finding.deciding)
    return f"| {marked(finding.claim)} | {finding.outcome} | {decided or finding.sentence} |"


def render_power(root: Path, *, detect: float) -> str:
    """For each claim of a finished run: the shift its items can detect, and the items that `detect` would take."""
    manifest = read_manifest(root)
    if not {"base", "trained"} <= manifest.measured.keys():
        raise DataError(f"{root}: needs the scores of base and trained")
    rows = [("claim", "readout", "items", "sd of shifts", "detectable now", f"items for {detect:g}")]
    for claim in manifest.config.bench.claims:
        base, trained = (read_scores(root, manifest, name, claim) for name in ("base", "trained"))
        for part in CLAIMS[claim].deciding:
            shifts = differences(base, trained, part.readout, part.splits)
            if len(shifts) >= 2 and (spread := stdev(shifts)) > 0:
                now, needed = detectable(spread, len(shifts)), items_needed(spread, detect)
                rows.append((claim, part.label, str(len(shifts)), f"{spread:.3f}", f"{now:.3f}", f"{needed:,}"))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*told, "80 % power, two-sided 5 %, paired, items independent"])
