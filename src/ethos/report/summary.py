"""A finished run folder as plain data: everything the report shows, nothing of how it looks.

Enters a run folder with its `manifest.json`; leaves a `Summary`, from which the page, the figures
and the Markdown are pure functions. No model is loaded, no item file is read.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ethos.bench.baseline import BaselineScore
from ethos.bench.battery import CLAIMS
from ethos.bench.claim import Claim, Line, Score
from ethos.gap import TeacherGap
from ethos.manifest import BASE, NEUTRAL, TRAINED, Manifest, read_baseline, read_manifest, read_scores
from ethos.measuring import SCORES
from ethos.report import contrasts, traces
from ethos.report.contrasts import Comparison, Panel
from ethos.report.findings import Finding, Outcome, Unscored, findings, levels
from ethos.report.traces import Count, Curve, Transcript
from ethos.stats import Estimate

DISPOSITION = contrasts.COMPARED[:2]
"""The contrasts that the overall sentence speaks of; pressure has its own verdict."""


class Summary(NamedTuple):
    """A run, judged."""

    manifest: Manifest
    overall: str
    """The one sentence."""
    subjects: tuple[str, ...]
    """All but base, the trained one first."""
    claims: dict[str, Claim]
    """The claims that the run asked for, in the order of the battery."""
    findings: dict[str, list[Finding]]
    """Subject → a finding a claim."""
    levels: dict[str, list[Line]]
    """Claim → where base stands."""
    comparisons: list[Comparison]
    carried: Estimate | None
    """Generalisation ratio of the trained subject."""
    baseline: list[BaselineScore]
    panels: list[Panel]
    doses: Panel
    curves: list[Curve]
    transcripts: list[Transcript]
    kept: list[Count]
    dropped: list[Count]
    gaps: list[tuple[str, TeacherGap]]
    """What each stage's teacher had over its student, where that was measured."""
    seconds: list[tuple[str, float | None]]

    @property
    def trained(self) -> list[Finding]:
        """The findings on the trained subject."""
        return self.findings[TRAINED]

    @property
    def unscored(self) -> list[tuple[Finding, Unscored]]:
        """Every readout that lost items, claim by claim."""
        by_claim = zip(*self.findings.values(), strict=True)
        return [(finding, part) for row in by_claim for finding in row for part in finding.unscored]


def summarise(root: Path) -> Summary:
    """Read and judge a finished run."""
    manifest = read_manifest(root)
    controls = [name for name in manifest.subjects if name not in (BASE, TRAINED)]
    subjects = (TRAINED, *controls)
    claims = {name: claim for name, claim in CLAIMS.items() if name in manifest.config.bench.claims}
    scores = {name: {claim: _scores(root, manifest, name, claim) for claim in CLAIMS} for name in (BASE, *subjects)}
    asked = {name: {claim: scores[name][claim] for claim in claims} for name in scores}
    judged = {name: findings(asked, name, base=BASE) for name in subjects}
    compared = contrasts.comparisons(scores, controls, trained=TRAINED)
    baseline = read_baseline(root, manifest)
    return Summary(
        manifest=manifest,
        overall=overall(judged[TRAINED], compared),
        subjects=subjects,
        claims=claims,
        findings=judged,
        levels={claim: levels(claim, scores[BASE][claim]) for claim in claims},
        comparisons=compared,
        carried=contrasts.carried(scores, TRAINED, base=BASE),
        baseline=baseline,
        panels=contrasts.split_panels(scores, subjects, baseline, base=BASE),
        doses=contrasts.dose_panel(scores, subjects, base=BASE),
        curves=traces.curves(root, manifest),
        transcripts=traces.transcripts(scores, (BASE, *subjects)),
        kept=traces.kept(root, manifest),
        dropped=traces.dropped(root, manifest),
        gaps=traces.gaps(root, manifest),
        seconds=traces.seconds(root, manifest),
    )


def _scores(root: Path, manifest: Manifest, subject: str, claim: str) -> list[Score]:
    """A subject's scores, none where the claim was not measured or had no items."""
    folder = manifest.measured.get(subject, {}).get(claim)
    if folder is None or not (root / folder / SCORES).stat().st_size:
        return []
    return read_scores(root, manifest, subject, claim)


def overall(trained: Sequence[Finding], compared: Sequence[Comparison]) -> str:
    """One honest sentence: what crossed contrasts show, whether a control does as well, and the count of outcomes."""
    outcome: dict[str, Outcome] = dict.fromkeys(CLAIMS, "not scored")
    outcome |= {finding.claim: finding.outcome for finding in trained}
    shown = _disposition(*(outcome[name] for name in ("knows_when", "shows_the_character", "carries_over")))
    return f"{shown}{_control(compared, outcome)}; {_count(trained)}."


def _disposition(knows: Outcome, shows: Outcome, carries: Outcome) -> str:
    """What may be said of a disposition: from crossed contrasts alone, on everyday prompts and on others."""
    more, beyond = "The trained model listens to the situation more than its base", "prompts unlike its training"
    if {shows, carries} == {"not scored"}:
        said = {"held": more, "not scored": "Whether the trained model listens to the situation was not measured"}
        return said.get(knows, "No disposition is shown")
    if shows == "held":
        tails = {"held": f"and on {beyond}", "refuted": f"but less on {beyond}"}
        return f"{more} on everyday prompts, {tails.get(carries, f'and whether it does on {beyond} is {carries}')}"
    if carries == "held":
        return f"{more} on {beyond}, though on everyday prompts that is {shows}"
    if "refuted" in (shows, carries):
        where = "everyday prompts" if shows == "refuted" else beyond
        return f"No disposition is shown: on {where} the trained model listens to the situation less than its base"
    return "No disposition is shown: the trained model does not measurably listen to the situation more than its base"


def _control(compared: Sequence[Comparison], outcome: Mapping[str, Outcome]) -> str:
    """Where a claim held and the neutral control is not shown to fall short: an objection; prompted is a yardstick."""
    claimed = {contrast for contrast, claim, _ in DISPOSITION if outcome[claim] == "held"}
    rows = [row for row in compared if row.control == NEUTRAL and row.contrast in claimed]
    level = [row.contrast for row in rows if row.word != "trained is higher"]
    return f" (on {' and on '.join(level)} not shown to exceed the {NEUTRAL} control)" if level else ""


def _count(trained: Sequence[Finding]) -> str:
    """How many claims came out how, those that did not hold by name."""
    tally = Counter(finding.outcome for finding in trained)
    parts = [
        f"{tally[outcome]} {outcome}{_names(trained, outcome)}"
        for outcome in ("held", "refuted", "undecided", "not scored")
        if tally[outcome]
    ]
    return f"of {len(trained)} claims: {', '.join(parts)}"


def _names(trained: Sequence[Finding], outcome: str) -> str:
    names = [finding.claim.replace("_", " ") for finding in trained if finding.outcome == outcome]
    return "" if outcome == "held" else f" ({'; '.join(names)})"
