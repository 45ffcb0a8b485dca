"""Imports point one way: cli → pipeline → stages → core, stages never import one another, and nothing cycles."""

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "ethos"
CORE = {"errors", "templates", "records", "chat", "scoring", "models", "stats", "store", "progress", "constitution"} | {
    "pages",
    "steering",
    "units",
    "duels",
}


def modules() -> dict[str, set[str]]:
    """Every module of the package → the package's modules it imports anywhere in its file."""
    names = {path: ".".join(path.relative_to(SOURCE).with_suffix("").parts) for path in SOURCE.rglob("*.py")}
    known = {name.removesuffix(".__init__") for name in names.values()}
    graph: dict[str, set[str]] = {}
    for path, name in names.items():
        targets: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "ethos":
                module = node.module.removeprefix("ethos").lstrip(".")
                targets |= {".".join(filter(None, (module, alias.name))) for alias in node.names} | {module}
        graph[name.removesuffix(".__init__")] = (targets & known) - {""}
    return graph


def test_no_import_cycle() -> None:
    graph = modules()

    def reached(name: str, seen: set[str]) -> set[str]:
        for target in graph[name] - seen:
            seen.add(target)
            reached(target, seen)
        return seen

    assert [name for name in graph if name in reached(name, set())] == []


def test_core_imports_only_core() -> None:
    graph = modules()
    assert {name: graph[name] - CORE for name in CORE if graph[name] - CORE} == {}


@pytest.mark.parametrize(
    ("stage", "forbidden"),
    [
        ("train", ("data", "bench", "report")),
        ("data", ("train", "bench", "report")),
        ("bench", ("train", "report")),
    ],
)
def test_stages_do_not_import_one_another(stage: str, forbidden: tuple[str, ...]) -> None:
    graph = modules()
    crossing = {
        name: sorted(target for target in targets if target.split(".")[0] in forbidden)
        for name, targets in graph.items()
        if name.split(".")[0] == stage
    }
    assert {name: targets for name, targets in crossing.items() if targets} == {}


def test_nothing_below_the_pipeline_imports_it() -> None:
    graph = modules()
    importers = {name for name, targets in graph.items() if targets & {"pipeline", "cli"}}
    assert importers <= {"cli", "plan", "study", "__main__"}
