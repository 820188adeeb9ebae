"""One version everywhere, a changelog of one shape, a citation, and a page of releases written from its records."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import causalfm
from experiments.releasing import core_tests, page
from experiments.releasing.environments import pins

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
VERSION = PYPROJECT["project"]["version"]
SECTIONS = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
# What the standard library has lost since 3.11.
REMOVED = {
    "3.12": "asynchat asyncore distutils imp smtpd",
    "3.13": "aifc audioop cgi cgitb chunk crypt imghdr lib2to3 mailcap msilib nis nntplib ossaudiodev pipes sndhdr "
    "spwd sunau telnetlib uu xdrlib",
}


def test_one_version_stands_everywhere():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert re.fullmatch(r"\d+\.\d+\.\d+", VERSION)
    assert causalfm.__version__ == VERSION == str(cited["version"])


def test_the_citation_says_what_the_format_asks_for():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(
        cited
    )  # required by the format; the rest of its schema
    assert cited["cff-version"] == "1.2.0"  # is held by make release
    assert cited["license"] == PYPROJECT["project"]["license"]
    assert all("name" in author or "family-names" in author for author in cited["authors"])
    assert cited["keywords"] == PYPROJECT["project"]["keywords"]


def shape_of(changelog: str) -> list[str]:
    """Return what is wrong with the shape of a changelog."""
    wrong = []
    headings = re.findall(r"^(#{1,3}) (.*)$", changelog, re.MULTILINE)
    versions = [name for level, name in headings if level == "##"]
    if not headings or headings[0] != ("#", "Changelog") or versions[:1] != ["[Unreleased]"]:
        wrong.append("it begins with '# Changelog' and '## [Unreleased]'")
    if odd := [v for v in versions[1:] if not re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", v)]:
        wrong.append(f"versions are '[x.y.z] - YYYY-MM-DD', not {odd}")
    numbers = [tuple(map(int, re.findall(r"\d+", v)[:3])) for v in versions[1:]]
    if numbers != sorted(set(numbers), reverse=True):
        wrong.append("versions stand newest first, each once")
    for block in re.split(r"^## ", changelog, flags=re.MULTILINE)[1:]:
        sections = re.findall(r"^### (.*)$", block, re.MULTILINE)
        if sections != [s for s in SECTIONS if s in sections]:
            wrong.append(f"sections are {', '.join(SECTIONS)}, each once, in this order, not {sections}")
    return wrong


def test_the_changelog_has_the_shape_of_keep_a_changelog():
    assert shape_of((ROOT / "CHANGELOG.md").read_text("utf-8")) == []


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("# Changelog\n## [0.1.0] - 2026-01-01\n", "begins with"),
        ("# Changelog\n## [Unreleased]\n## 0.1\n", "versions are"),
        ("# Changelog\n## [Unreleased]\n## [0.1.0] - 2026-01-01\n## [0.2.0] - 2026-02-01\n", "newest first"),
        ("# Changelog\n## [Unreleased]\n### Fixed\n### Added\n", "sections are"),
        ("# Changelog\n## [Unreleased]\n### Added\n### Added\n", "sections are"),
    ],
)
def test_the_check_of_the_changelog_can_fail(text, wrong):
    assert [found for found in shape_of(text) if wrong in found]


def test_no_module_that_later_pythons_lack_is_imported():
    removed = set(" ".join(REMOVED.values()).split())
    sources = [
        p.read_text("utf-8")
        for folder in ("causalfm", "estimators", "datasets")
        for p in Path(ROOT, folder).rglob("*.py")
    ]
    used = {name for source in sources for name in re.findall(r"^\s*(?:import|from) (\w+)", source, re.MULTILINE)}
    assert {"dataclasses", "tempfile"} <= used
    assert used & removed == set()


def test_pythons_promised_are_those_checked():
    from experiments.releasing.published import OWN, PYTHONS

    lower, upper = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", PYPROJECT["project"]["requires-python"]).groups()
    assert tuple(f"3.{minor}" for minor in range(int(lower), int(upper))) == PYTHONS
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py3{lower}"
    assert PYTHONS[0] == OWN


def test_every_dependency_has_a_lower_bound_that_its_pin_meets():
    from packaging.requirements import Requirement

    pinned = {name.lower().replace("_", "-"): version for name, version in (pin.split("==") for pin in pins())}
    for text in PYPROJECT["project"]["dependencies"]:
        needed = Requirement(text)
        assert any(spec.operator in (">=", "==") for spec in needed.specifier), text
        assert needed.specifier.contains(pinned[needed.name.lower()]), text


def test_the_conda_recipe_asks_for_the_same():
    from packaging.requirements import Requirement

    (block,) = re.findall(r"^```yaml\n(.*?)^```", page.PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    recipe = yaml.safe_load(block)
    assert recipe["package"] == {"name": "causalfm", "version": VERSION}
    assert recipe["source"]["path"] == f"dist/causalfm-{VERSION}.tar.gz"
    assert recipe["build"]["entry_points"] == [f"causalfm = {PYPROJECT['project']['scripts']['causalfm']}"]
    renamed = {"torch": "pytorch", "matplotlib": "matplotlib-base"}
    needed = map(Requirement, PYPROJECT["project"]["dependencies"])
    wanted = {renamed.get(one.name, one.name): set(map(str, one.specifier)) for one in needed}
    wanted["python"] = set(PYPROJECT["project"]["requires-python"].split(","))
    asked = dict(line.split(" ") for line in recipe["requirements"]["run"])
    assert {name: set(re.sub("^=", "==", spec).split(",")) for name, spec in asked.items()} == wanted


def test_the_core_tests_are_there():
    assert [name for name in core_tests.CORE_TESTS if not (ROOT / "tests" / name).is_file()] == []


def test_the_tables_of_the_page_are_those_of_the_records():
    for part, text in page.parts(page.PAGE.read_text("utf-8")):
        assert text.strip() == page.table(page.rows_of(part)).strip()
