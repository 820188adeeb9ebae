"""The shape of the project: links, import directions, file sizes, names."""

import ast
import gc
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "causalfm"
LINKS = ("datasets", "estimators")

# Units from the bottom up; a unit imports only from units before its own row, and from its own. The rows "nouns" and
# "engines" are one unit each, made of modules; the other units are folders, or a folder and the modules listed with it.
NOUNS = {
    "errors",
    "validation",
    "tables",
    "cohort",
    "confidence",
    "formats",
    "io",
    "lazy_rows",
    "row_tasks",
    "strata",
    "positivity",
    "crosstabs",
    "dropped_cells",
    "results",
} | {
    "arguments",
    "arrows",
    "clusters",
    "column_kinds",
    "dosing",
    "fingerprinting",
    "graph",
    "graph_checks",
    "graph_records",
    "identification",
    "matching",
    "model_files",
    "pairing",
    "restarted_ids",
    "selection",
    "separation",
    "trimming",
}
ENGINES = {
    "streamed_lists",
    "unit_vectors",
    "moments",
    "resampling",
    "neighbours",
    "symmetric_pass",
    "hits",
    "units",
    "standardisation",
} | {
    "singular_values",
    "level_moments",
    "covariances",
    "norms",
    "fieller",
    "norm_contrasts",
    "gram_norms",
    "dose_units",
    "factor_contrasts",
    "paired_units",
    "within_units",
    "wilson",
    "gradient_reversal",
}
MEMBERS = {
    "nouns": NOUNS,
    "engines": ENGINES,
    "auditing": {"auditing", "plot", "drawing", "graph_layout", "comparison_plot", "embedding_map", "map_drawing"}
    | {"pair_plot", "flip_plot", "sensitivity_plot", "effects_plot", "scoreboard_plot"},
    "cli": {"accessor", "cli", "command_options", "command_output", "correct_command", "demo", "doctor"}
    | {
        "evidence_command",
        "extract_command",
        "monitor_command",
        "policy_command",
        "report_command",
        "schedulers",
        "reports_command",
        "card_command",
        "data_command",
        "shift_command",
    },
}
ROWS = (
    ("nouns",),
    ("engines", "datasets", "extraction"),
    ("metrics", "invariance"),
    ("scm",),
    ("estimators",),
    ("augment", "training", "shift"),
    ("auditing",),
    ("cli",),
)
NOT_ABOVE = {"datasets", "extraction"}  # inputs of an analysis: only the command line builds on them
ALLOWED = {("cohort", "moments")}  # Cohort.aggregate, inside the method: moments itself imports no noun
TOO_LONG: set[str] = set()


def unit_of(module: str) -> str:
    """Return the unit of ``causalfm.<module>``."""
    found = [unit for unit, members in MEMBERS.items() if module in members]
    return found[0] if found else module


def row_of(unit: str) -> int:
    found = [i for i, row in enumerate(ROWS) if unit in row]
    assert found, f"causalfm.{unit} has no place in the import order: add it to this file"
    return found[0]


def imported(source: str) -> set[str]:
    """Return the first name under causalfm of every import, at any depth, type-checking ones included."""
    names = set()
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.split(".")[1] for name in names if name.startswith("causalfm.")} - {"__version__"}


def violations(module: str, source: str) -> list[str]:
    own = unit_of(module)
    out = []
    for other in sorted(imported(source)):
        unit = unit_of(other)
        if unit == own or (module, other) in ALLOWED:
            continue
        below = row_of(unit) < row_of(own)
        if not below or (unit in NOT_ABOVE and own != "cli"):
            out.append(f"{module} imports causalfm.{other}")
    return out


def sources() -> dict[str, Path]:
    """Return every source file of the library under its dotted name, through the links."""
    found = {}
    for folder, _, files in os.walk(PACKAGE, followlinks=True):
        for name in files:
            path = Path(folder) / name
            if path.suffix == ".py":
                found[".".join(path.relative_to(PACKAGE).with_suffix("").parts)] = path
    return found


def test_links_are_relative_links():
    for name in LINKS:
        link = PACKAGE / name
        assert link.is_symlink(), f"causalfm/{name} is no link: clone with git config core.symlinks true"
        assert str(link.readlink()) == f"../{name}"
        assert link.resolve() == ROOT / name


def test_the_shelf_datasets_is_no_package():
    assert not (ROOT / "datasets" / "__init__.py").exists(), "it would shadow the datasets library of Hugging Face"
    assert (ROOT / "estimators" / "__init__.py").exists()


def test_imports_point_one_way():
    found = {name: path for name, path in sources().items() if name != "__init__"}
    assert {"cohort", "io", "datasets.tcga_hipt"} <= set(found)
    wrong = [v for name, path in found.items() for v in violations(name.split(".")[0], path.read_text("utf-8"))]
    assert wrong == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cohort", "from causalfm.neighbours import knn"),
        ("neighbours", "import causalfm.metrics.neighbourhood"),
        ("moments", "from causalfm import estimators"),
        ("metrics", "def f():\n    from causalfm.auditing import audit"),
        ("metrics", "from causalfm.invariance import invariance_test"),
        ("datasets", "from causalfm.moments import cell_sums"),
        ("extraction", "from causalfm.datasets import histology"),
        ("auditing", "from causalfm.datasets import tcga_hipt"),
        ("plot", "if TYPE_CHECKING:\n    from causalfm.cli import main"),
    ],
)
def test_the_import_rule_can_fail(module, source):
    assert len(violations(module, source)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("cohort", "from causalfm.moments import cell_sums"),
        ("io", "from causalfm.cohort import Cohort"),
        ("metrics", "from causalfm.neighbours import knn\nfrom causalfm.metrics.design import x"),
        ("estimators", "from causalfm.invariance import invariance_test"),
        ("auditing", "from causalfm.plot import to_svg\nimport numpy"),
        ("auditing", "from causalfm import __version__"),
        ("demo", "from causalfm.datasets import histology"),
    ],
)
def test_the_import_rule_lets_pass(module, source):
    assert violations(module, source) == []


def test_an_unplaced_module_is_noticed():
    with pytest.raises(AssertionError, match="add it to this file"):
        violations("cli", "import causalfm.helpers")


def test_nobody_imports_a_shelf_by_its_bare_name():
    files = [
        path
        for folder in ("causalfm", "datasets", "estimators", "experiments", "tests")
        for path in (ROOT / folder).rglob("*.py")
    ]
    assert len(files) > 20
    assert [str(path.relative_to(ROOT)) for path in files if bare_shelf(path.read_text("utf-8"))] == []
    assert bare_shelf("import estimators.aipw")
    assert bare_shelf("def f():\n    from datasets import histology")
    assert not bare_shelf("from causalfm.datasets import histology")


def parsed(source: str) -> ast.Module:
    """Parse while nothing is collected: finalisers that log a traceback parse too, which Python 3.11 does not bear."""
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        gc.enable()


def bare_shelf(source: str) -> bool:
    nodes = list(ast.walk(parsed(source)))
    names = [alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module]
    return any(name.split(".")[0] in LINKS for name in names)


def test_files_are_small():
    long = {name for name, path in sources().items() if len(path.read_text("utf-8").splitlines()) > 300}
    assert long == TOO_LONG


def test_no_module_carries_the_name_of_a_public_function():
    import causalfm

    stems = {part for name in sources() for part in name.split(".")}
    functions = {name for name in causalfm._NAMES if name.islower()}
    assert {"audit", "effect", "knn"} <= functions
    assert functions & stems == set()
