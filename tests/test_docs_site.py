"""The site builds offline without a warning, holds every page, and asks for nothing from elsewhere."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from browser import chromium, visit

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The built site."""
    if importlib.util.find_spec("sphinx_gallery") is None:
        assert os.environ.get("CI", "").lower() != "true", "pip install 'causalfm[docs]'"
        pytest.skip("the packages of the documentation are not installed: pip install 'causalfm[docs]'")
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html", "-d", str(out / "trees")]
    done = subprocess.run([*command, str(DOCS), str(out / "html")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / "html"


def test_the_site_holds_every_page_and_every_name(site):
    from sphinx.util.inventory import InventoryFile

    for path in [*DOCS.glob("*.md"), *DOCS.glob("adr/*.md"), *DOCS.glob("concepts/plot_*.py")]:
        name = path.relative_to(DOCS).with_suffix(".html").as_posix().replace("concepts/", "gallery/")
        assert (site / name).is_file(), name
    with (site / "objects.inv").open("rb") as file:
        names = {name for kind in InventoryFile.load(file, "", os.path.join).values() for name in kind}
    assert {"causalfm.audit", "causalfm.metrics.kbet", "causalfm.estimators.ComBat", "causalfm.read"} <= names
    questions = re.findall(r"\{py:\w+\}`~([\w.]+)`", (DOCS / "questions.md").read_text("utf-8"))
    assert [name for name in questions if name not in names] == []


def test_every_concept_has_its_picture(site):
    for path in DOCS.glob("concepts/plot_*.py"):
        page = (site / "gallery" / path.with_suffix(".html").name).read_text("utf-8")
        assert f"sphx_glr_{path.stem}_001" in page, path.name


def test_nothing_sticks_out_of_a_phone(site):
    """Pages with long names, long calls, wide tables and code."""
    with chromium() as browser:
        for name in ("effects", "policy", "api/causalfm", "api/causalfm.metrics"):
            with visit(browser, site / f"{name}.html", width=400, site=site) as seen:
                assert seen.overflow(".bd-article") == [], name
                assert [said for said in seen.trouble if not said.startswith("console")] == [], name


IN_PAGES = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"(?:https?:)?//|<link\b[^>]*\bhref=\"(?:https?:)?//")
IN_STYLES = re.compile(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//")


def test_nothing_is_fetched_from_elsewhere(site):
    for ending, asked in (("html", IN_PAGES), ("css", IN_STYLES)):
        files = list(site.rglob(f"*.{ending}"))
        assert files
        assert [path.name for path in files if asked.search(path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        (IN_PAGES, '<link rel="stylesheet" type="text/css" href="https://cdn.example/a.css" />'),
        (IN_PAGES, '<link href="//cdn.example/a.css" rel="preload" />'),
        (IN_PAGES, '<script defer src="http://cdn.example/a.js"></script>'),
        (IN_STYLES, "@font-face { src: url(https://cdn.example/a.woff2) }"),
        (IN_STYLES, "@import '//cdn.example/a.css';"),
    ],
)
def test_what_is_fetched_from_elsewhere_would_be_found(asked, text):
    assert asked.search(text)
    assert not asked.search(re.sub("(?:https?:)?//", "../", text))


def test_no_line_of_a_page_is_taken_for_a_comment():
    """A line of Markdown that begins with % is a comment for MyST: a wrapped "95 %" took a sentence away."""
    for page in [*DOCS.rglob("*.md"), *ROOT.glob("datasets/*.md")]:
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
        assert re.findall(r"^ *%.*", text, flags=re.M) == [], page.name


def test_links_of_pages_outside_the_site_resolve():
    """Sphinx checks the links between pages; these are read on a code host."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *ROOT.glob("datasets/*.md")):
        text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.S)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if not target.startswith(("http", "#")):
                assert (page.parent / target.partition("#")[0]).exists(), f"{page.name}: {target}"


def test_the_container_file_says_what_it_does():
    """Every instruction is one that podman and docker know; nothing is fetched but the base; no root at the end."""
    text = re.sub(r"\\\n", " ", (DOCS / "Containerfile").read_text("utf-8"))
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    verbs = [verb for verb, _ in lines]
    assert set(verbs) <= {"ARG", "FROM", "COPY", "RUN", "USER", "WORKDIR", "ENV", "ENTRYPOINT", "CMD"}
    assert verbs.index("USER") < verbs.index("ENTRYPOINT")
    installs = [words for verb, words in lines if verb == "RUN" and "pip install" in words]
    assert installs
    assert all("--no-index" in words and "-c /constraints.txt" in words for words in installs)
    copied = [words.split()[0] for verb, words in lines if verb == "COPY" and "--from" not in words]
    assert copied == ["wheelhouse", "constraints.txt"]


def test_pip_knows_what_hospitals_are_told_to_type():
    """Their options are pip's, and their versions are those of the constraints."""
    from pip._internal.commands import create_command

    text = re.sub(r"\\\n\s*", " ", (DOCS / "hospital.md").read_text("utf-8"))
    lines = re.findall(r"^(?:causalfm-env/bin/)?pip (install|download) (.*)$", text, re.M)
    assert len(lines) >= 4
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    for verb, words in lines:
        options, named = create_command(verb).parse_args(words.split())
        assert options.no_index == ("--no-index" in words)
        for requirement in named:
            assert "==" not in requirement or requirement in pins, f"{requirement} is not what our tests ran"
