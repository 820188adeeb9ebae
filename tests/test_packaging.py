import email
import os
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = (
    "policy.yaml",
    "evidence_map.yaml",
    "schemas/audit-1.0.json",
    "schemas/audit-1.3.json",
    "schemas/comparison-1.0.json",
)
DATA += ("schemas/evidence-1.0.json", "schemas/evidence-map-1.0.json")


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory):
    """Build sdist, and the wheel from that sdist, as an installer would."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def package_files() -> list[str]:
    """Every file of the library, through the two links."""
    found = []
    for folder, _, files in os.walk(ROOT / "causalfm", followlinks=True):
        if "__pycache__" not in folder:
            found += [str((Path(folder) / name).relative_to(ROOT)) for name in files]
    return sorted(found)


def test_the_wheel_holds_each_file_exactly_once(artefacts):
    with zipfile.ZipFile(artefacts[0]) as wheel:
        names = [name for name in wheel.namelist() if ".dist-info/" not in name]
    assert sorted(names) == package_files()
    assert "causalfm/estimators/__init__.py" in names
    assert "causalfm/datasets/tcga_hipt.py" in names
    assert "causalfm/py.typed" in names
    assert {f"causalfm/auditing/{name}" for name in DATA} <= set(names)


def test_the_sdist_holds_each_module_once_and_no_tests(artefacts):
    with tarfile.open(artefacts[1]) as sdist:
        names = [member.name.partition("/")[2] for member in sdist.getmembers() if member.isfile()]
    modules = [name for name in names if name.endswith(".py")]
    # the shelves lie in the sdist where the package looks for them, once: under causalfm/ or as the target of a link
    homes = Counter(name.removeprefix("causalfm/") for name in modules)
    assert [name for name, count in homes.items() if count > 1] == []
    assert len(modules) == len([name for name in package_files() if name.endswith(".py")])
    assert {"README.md", "LICENSE", "CITATION.cff", "constraints.txt", "pyproject.toml"} <= set(names)
    assert [name for name in names if name.startswith("docs/")] == ["docs/Containerfile"]  # docs/hospital.md says so
    assert {f"causalfm/auditing/{name}" for name in DATA} <= set(names)
    assert not [name for name in names if name.startswith(("tests/", "experiments/", ".venv/"))]


def test_the_wheel_carries_licence_and_command(artefacts):
    with zipfile.ZipFile(artefacts[0]) as wheel:
        (entry,) = [name for name in wheel.namelist() if name.endswith("entry_points.txt")]
        assert "causalfm = causalfm.cli:main" in wheel.read(entry).decode()
        (metadata,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
        assert "License-Expression: Apache-2.0" in wheel.read(metadata).decode()
        assert [name for name in wheel.namelist() if name.endswith("licenses/LICENSE")]


def test_nothing_of_this_machine_is_published(artefacts):
    with zipfile.ZipFile(artefacts[0]) as wheel, tarfile.open(artefacts[1]) as sdist:
        contents = {name: wheel.read(name) for name in wheel.namelist()}
        contents |= {m.name: sdist.extractfile(m).read() for m in sdist.getmembers() if m.isfile()}
        owners = {(m.uid, m.uname, m.gname) for m in sdist.getmembers()}
    marks = [f"{folder}/".encode() for folder in (ROOT, Path.home())]
    assert [name for name, content in contents.items() if any(mark in content for mark in marks)] == []
    assert owners == {(0, "", "")}
    assert not [name for name in contents if "__pycache__" in name or name.endswith((".pyc", ".orig", ".swp", "~"))]


def test_the_metadata_say_what_is_needed_and_where_from(artefacts):
    with zipfile.ZipFile(artefacts[0]) as wheel:
        (name,) = [name for name in wheel.namelist() if name.endswith("METADATA")]
        metadata = email.message_from_bytes(wheel.read(name))
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert metadata["Requires-Python"].split(",") == sorted(declared["requires-python"].split(","))
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert len(needed) == len(declared["dependencies"])
    assert not [line for line in metadata.get_all("Requires-Dist") if "@" in line]  # nothing from outside a registry
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert metadata["Version"] == declared["version"]


def test_pins_name_the_torch_pair_and_nothing_local():
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert {"torch==2.14.1", "torchvision==0.29.1"} <= set(lines)
    assert [line for line in lines if line.count("==") != 1 or "@" in line or "/" in line] == []
    assert not [line for line in lines if line.startswith(("nvidia", "triton", "cuda", "causalfm"))]
