"""A study's design: what a file may say, the grid it means, and the plan that it is held to."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from ethos.design import Quantity, Study, cells, preregister, read_plan, read_study, slug
from ethos.errors import ConfigError, StoreError
from ethos.methods import Stage
from ethos.train.fit import Training

ROOT = Path(__file__).parent.parent
DESIGN = """
name = "design"
primary = "knows_when"
smallest_effect = 0.5
seeds = [0, 1]
constitutions = ["neutral"]
[[hypotheses]]
text = "Contrasts beat likelihood."
better = "dpo"
than = "sft"
[[hypotheses]]
text = "Readers will see."
[common.mixture]
crossed = 4
[common.neutral.optimisation]
max_tokens = 5000
[common.bench]
claims = ["knows_when", "leaves_other_requests_alone"]
[[arms]]
name = "sft"
[[arms.stages]]
method = "sft"
[arms.stages.optimisation]
max_tokens = 2000
[[arms]]
name = "dpo"
[[arms.stages]]
method = "sft"
[arms.stages.optimisation]
max_tokens = 2000
[[arms.stages]]
method = "preference"
[arms.stages.optimisation]
max_tokens = 2000
"""

VALUES = '{ claim = "values_cohere", readout = "decisive" }'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "design.toml"
    path.write_text(DESIGN)
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name = "dpo"', 'name = "sft"', "two arms are named sft"),
        ("seeds = [0, 1]", "seeds = [1, 1]", "a seed stands twice"),
        ('better = "dpo"', 'better = "ipo"', "hypotheses name arms that are not there: ipo"),
        ('than = "sft"\n', "", "better and than come together"),
        ('primary = "knows_when"', 'primary = "decides_well"', "is not in common.bench.claims"),
        ('method = "preference"', 'method = "dpo"', "arms.1.stages.1"),
        ("smallest_effect = 0.5", "smallest_effect = 0", "smallest_effect"),
        ("[[hypotheses]]", "[[guesses]]", "hypotheses: Field required"),
        ('primary = "knows_when"', 'primary = "leaves_other_requests_alone"', "neither way is better on it"),
        ('primary = "knows_when"', 'primary = { claim = "knows_when", readout = "wone" }', "cannot be primary"),
        ('primary = "knows_when"', 'primary = "values_cohere"', "cannot be primary"),
        ("max_tokens = 2000\n[[arms]]", "max_tokens = 900\n[[arms]]", "keep different rows"),
        ('name = "sft"\n[[', 'name = "prompted"\n[[', "no arm can be named prompted"),
        ('name = "sft"\n[[', 'name = "sft"\nlabels = "random"\n[[', "arms.0.labels"),
        ("seeds =", 'controls = ["shuffled"]\nseeds =', "controls that are no arms: shuffled"),
        ("seeds =", 'controls = ["sft", "dpo"]\nseeds =', "every arm is a control"),
        ('name = "sft"\n[[', 'name = "sft"\nshares = [1, 2]\n[[', "one for each of the 1 training stages"),
        ('name = "sft"\n[[', 'name = "sft"\nconstitutions = ["kind"]\n[[', "that the study has not: kind"),
        ('name = "sft"\n[[', 'name = "sft"\ntrained_on = "neutral"\n[[', "trained on neutral and measured on it, too"),
        (
            'constitutions = ["neutral"]',
            'constitutions = ["neutral", "good"]\n[common.training]\ncolour = 1',
            "common.neutral.colour",
        ),
        ("max_tokens = 5000", "max_tokens = 5000\nepochs = 2\n[budget]\ntokens = 9", "leave out epochs"),
        ("[common.mixture]", "[budget]\ntokens = 0\n[common.mixture]", "budget.tokens"),
        ('than = "sft"', f'than = "sft"\non = {VALUES}', "not in common.bench.claims: values_cohere"),
        ('than = "sft"', 'than = "sft"\non = { claim = "is_nice", readout = "x" }', "no claim"),
        ('than = "sft"', f'than = "sft"\nthan_on = {VALUES}', "than_on goes with on"),
        ('than = "sft"', f'than = "base"\non = {VALUES}\nthan_on = {VALUES}', "the base has no shift"),
        ('text = "Readers will see."', 'text = "Readers will see."\ndiffers = true', "go with better and than"),
    ],
)
def test_a_bad_study_file_names_what_is_wrong(file: Path, tmp_path: Path, old: str, new: str, message: str) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text(file.read_text().replace(old, new))
    with pytest.raises(ConfigError) as caught:
        read_study(broken)
    assert message in str(caught.value)


def test_the_primary_claim_is_what_its_verdict_rests_on_or_a_readout_by_name(file: Path) -> None:
    assert read_study(file).primary == Quantity(claim="knows_when", readout="crossed")
    named = '{ claim = "knows_when", readout = "won", splits = ["consent"] }'
    file.write_text(file.read_text().replace('"knows_when"', named, 1))
    primary = read_study(file).primary
    assert (primary.line.label, primary.line.unit, primary.line.better) == ("won, consent", "share of items", "higher")
    assert Quantity(claim="carries_over", readout="pole").line.better == "higher"


@pytest.mark.parametrize("path", sorted((ROOT / "studies").glob("*.toml")), ids=lambda path: path.name)
def test_every_shipped_study_is_whole(path: Path) -> None:
    study = read_study(path)
    assert isinstance(study, Study)
    assert f"ethos study run studies/{path.name}" in path.read_text().splitlines()[0]


def test_two_constitutions_of_one_name_and_odd_names_are_told_apart(file: Path, tmp_path: Path) -> None:
    assert slug("/a b/My_Character v2.toml") == "my-character-v2"
    twice = tmp_path / "twice.toml"
    twice.write_text(
        re.sub(r"constitutions = .*", 'constitutions = ["a/neutral.toml", "b/neutral.toml"]', file.read_text())
    )
    with pytest.raises(ConfigError, match="two constitutions have the same name"):
        read_study(twice)


def test_a_changed_plan_is_refused_and_an_amended_one_is_told(file: Path, tmp_path: Path) -> None:
    study = read_study(file)
    preregister(study, tmp_path, amend=False)
    changed = study.model_copy(update={"smallest_effect": 0.1, "seeds": (0,)})
    with pytest.raises(
        ConfigError, match=r"planned otherwise: smallest_effect changed from 0.5 to 0.1; seeds changed from"
    ):
        preregister(changed, tmp_path, amend=False)
    assert read_plan(tmp_path).study == study
    preregister(changed, tmp_path, amend=True)
    assert read_plan(tmp_path).amendments == (
        "smallest_effect changed from 0.5 to 0.1",
        "seeds changed from [0, 1] to [0]",
    )
    preregister(changed, tmp_path, amend=False)  # the plan it now has


def test_added_and_changed_arms_are_amendments_by_name(file: Path, tmp_path: Path) -> None:
    study = read_study(file)
    first = study.model_copy(update={"arms": study.arms[:1], "hypotheses": study.hypotheses[1:]})
    preregister(first, tmp_path, amend=False)
    with pytest.raises(ConfigError, match=r"arm dpo added; hypothesis “Contrasts beat likelihood[.]” added\n"):
        preregister(study, tmp_path, amend=False)


def test_a_change_that_several_arms_share_is_told_once_and_to_the_setting(file: Path, tmp_path: Path) -> None:
    preregister(read_study(file), tmp_path, amend=False)
    text = file.read_text().replace("max_tokens = 2000", "max_tokens = 1000").replace("Readers will see.", "You will.")
    shared = "stages.1.optimisation.max_tokens changed from 2000 to 1000"
    file.write_text(
        text.replace('than = "sft"', 'than = "base"').replace('name = "dpo"', 'name = "dpo"\nshares = [0.7, 0.3]')
    )
    assert preregister(read_study(file), tmp_path, amend=True).amendments == (
        f"arms sft, dpo: {shared}",
        f"arm dpo: {shared.replace('1', '2', 1)}",
        "arm dpo: shares set to [0.7, 0.3]",
        'hypothesis “Contrasts beat likelihood.” than changed from "sft" to "base"',
        "hypothesis “Readers will see.” removed",
        "hypothesis “You will.” added",
    )


def test_a_changed_setting_of_all_cells_is_named_apart_from_its_neighbours(file: Path, tmp_path: Path) -> None:
    study = read_study(file)
    preregister(study, tmp_path, amend=False)
    mixture = study.common.mixture.model_copy(update={"crossed": 5})
    common = study.common.model_copy(update={"mixture": mixture})
    with pytest.raises(ConfigError, match=r"planned otherwise: common.mixture.crossed changed from 4 to 5\n") as caught:
        preregister(study.model_copy(update={"common": common}), tmp_path, amend=False)
    assert "common.bench" not in str(caught.value)


def test_an_arm_with_labels_of_its_own_differs_in_nothing_else(file: Path) -> None:
    text = file.read_text()
    file.write_text(text.replace('name = "sft"\n[[', 'name = "sft"\nlabels = "shuffled"\n[['))
    control, plain = (cell.config for cell in cells(read_study(file))[:2])
    assert (control.mixture.labels, plain.mixture.labels) == ("shuffled", "recorded")
    assert control.mixture.model_copy(update={"labels": "recorded"}) == plain.mixture


def test_an_arm_can_take_back_the_labels_of_the_common_mixture(file: Path) -> None:
    text = file.read_text().replace("crossed = 4", 'crossed = 4\nlabels = "inverted"')
    file.write_text(text.replace('name = "dpo"\n[[', 'name = "dpo"\nlabels = "recorded"\n[['))
    study = read_study(file)
    assert {cell.arm: cell.config.mixture.labels for cell in cells(study)} == {"sft": "inverted", "dpo": "recorded"}
    assert Study.model_validate_json(study.model_dump_json()) == study  # as the plan keeps it


def test_labels_that_no_stage_reads_are_refused(file: Path) -> None:
    text = file.read_text().replace('method = "sft"\n', 'method = "documents"\n', 1)
    file.write_text(text.replace('name = "sft"\n[[', 'name = "sft"\nlabels = "shuffled"\n[['))
    with pytest.raises(ConfigError, match="labels = 'shuffled' changes nothing: no stage reads"):
        read_study(file)


def test_a_hypothesis_may_name_a_control_that_every_cell_has(file: Path) -> None:
    file.write_text(file.read_text().replace('than = "sft"', 'than = "prompted"'))
    assert read_study(file).hypotheses[0].than == "prompted"


def test_the_hash_of_a_plan_without_control_arms_is_that_of_before_there_were_any(file: Path) -> None:
    assert "labels" not in read_study(file).model_dump_json()


def test_a_folder_without_a_plan_and_a_damaged_plan_say_what_to_do(file: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no study here"):
        read_plan(tmp_path)
    preregister(read_study(file), tmp_path, amend=False)
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(StoreError, match=r"plan.json is damaged or of another version"):
        read_plan(tmp_path)


BUDGETED = DESIGN.replace("[common.mixture]", "[budget]\ntokens = 1000\ngenerated = 90\n[common.mixture]", 1)
SHARED = """[common.training]
lora = { rank = 5, top_layers = 1 }
[common.training.optimisation]
learning_rate = 0.5
[common.bench]"""
ONLINE = """
[[arms]]
name = "online"
shares = [1, 3]
[[arms.stages]]
method = "distillation"
[arms.stages.optimisation]
max_tokens = 2000
[[arms.stages]]
method = "preference"
[arms.stages.optimisation]
max_tokens = 2000
[[arms.stages]]
method = "steering"
"""


def trainings(stages: Sequence[Stage]) -> list[Training]:
    return [stage for stage in stages if isinstance(stage, Training)]


def test_a_budget_is_divided_over_the_stages_of_every_arm_and_the_neutral_control_has_it_whole(file: Path) -> None:
    file.write_text(BUDGETED + ONLINE)
    found = {cell.arm: cell.config for cell in cells(read_study(file)) if cell.seed == 0}
    ends = {
        arm: [(stage.optimisation.tokens, stage.optimisation.generated) for stage in trainings(config.stages)]
        for arm, config in found.items()
    }
    assert ends == {
        "sft": [(1000, None)],
        "dpo": [(500, None), (500, None)],
        "online": [(250, 22), (750, None)],  # only what is sampled as it trains is capped
    }
    assert {config.neutral.optimisation.tokens for config in found.values()} == {1000}


def test_a_study_without_a_budget_has_no_word_of_it(file: Path) -> None:
    told = read_study(file).model_dump_json()
    assert [word for word in ("budget", "tokens", "controls", "claimed_by", "trained_on") if f'"{word}"' in told] == []


def test_what_all_trainings_share_is_said_once_and_a_stage_may_differ(file: Path) -> None:
    own = 'method = "sft"\nlora = { rank = 9 }\n[arms.stages.optimisation]'
    text = DESIGN.replace("[common.bench]", SHARED) + ONLINE
    file.write_text(text.replace('method = "sft"\n[arms.stages.optimisation]', own, 1))
    study = read_study(file)
    shapes = {arm.name: [(s.lora.rank, s.lora.top_layers) for s in trainings(arm.stages)] for arm in study.arms}
    assert shapes == {"sft": [(9, 1)], "dpo": [(5, 1), (5, 1)], "online": [(5, 1), (5, 1)]}
    assert study.common.neutral.lora.rank == 5
    assert study.common.neutral.optimisation.max_tokens == 5000  # its own stays
    assert {s.optimisation.learning_rate for arm in study.arms for s in trainings(arm.stages)} == {0.5}
    assert Study.model_validate_json(study.model_dump_json()) == study


def test_an_arm_may_be_for_some_constitutions_and_train_on_another(file: Path) -> None:
    own = 'constitutions = ["good"]\ntrained_on = "poetic"\ndemonstrated = ["image"]'
    text = DESIGN.replace('["neutral"]', '["neutral", "good"]')
    file.write_text(text.replace('name = "sft"\n[[', f'name = "sft"\n{own}\n[['))
    study = read_study(file)
    grid = [(cell.constitution, cell.arm) for cell in cells(study) if cell.seed == 0]
    assert grid == [("good", "sft"), ("neutral", "dpo"), ("good", "dpo")]  # constitutions take turns
    one, other = (next(cell.config for cell in cells(study) if cell.arm == arm) for arm in ("sft", "dpo"))
    assert (one.trained_on, one.mixture.demonstrated) == ("poetic", ("image",))
    assert one.ordinary == other.ordinary


def test_traits_to_demonstrate_are_of_one_constitution_and_the_same_in_all_arms(file: Path) -> None:
    shown = DESIGN.replace('name = "sft"\n[[', 'name = "sft"\ndemonstrated = ["care"]\n[[')
    file.write_text(shown.replace('["neutral"]', '["neutral", "good"]'))
    with pytest.raises(ConfigError, match="arm sft demonstrates traits of one constitution"):
        read_study(file)
    file.write_text(shown.replace('name = "dpo"\n[[', 'name = "dpo"\ndemonstrated = ["candour"]\n[['))
    with pytest.raises(ConfigError, match="demonstrate different traits of neutral"):
        read_study(file)
