import os
from importlib import metadata

import pytest

from causalfm import clusters, doctor
from causalfm.extraction import EncoderStatus


def by_name():
    return {check.name: check for check in doctor.diagnose()}


def test_this_environment_is_sound():
    checks = by_name()
    assert [name for name, check in checks.items() if check.verdict != "pass" and check.details["required"]] == []
    assert checks["numpy"].sentence == metadata.version("numpy")
    assert "cores" in checks["machine"].sentence


def test_cores_are_counted_where_the_system_does_not_bind_processes_to_them(monkeypatch):
    """The scheduler "local" asked for the affinity without looking whether there is one: macOS has none."""
    monkeypatch.delattr(os, "sched_getaffinity")
    assert clusters.cores() == os.cpu_count()
    assert by_name()["machine"].verdict == "pass"


def test_a_missing_package_says_how_to_install_it(monkeypatch):
    monkeypatch.setattr(doctor, "PACKAGES", ("numpy", "no-such-package"))
    lost = by_name()["no-such-package"]
    assert (lost.verdict, lost.sentence) == ("fail", "not installed: pip install no-such-package")


def test_an_encoder_that_cannot_be_loaded_is_no_fault_of_the_installation(monkeypatch):
    found = [EncoderStatus("uni", "gated", "ask for access"), EncoderStatus("phikon", "download", "downloads")]
    monkeypatch.setattr("causalfm.extraction.availability.encoder_status", lambda: found)
    checks = by_name()
    assert (checks["encoder uni"].verdict, checks["encoder uni"].sentence) == ("fail", "ask for access")
    assert checks["encoder uni"].details == {"required": False}
    assert checks["encoder phikon"].verdict == "pass"


def test_links_turned_into_files_are_seen(monkeypatch, tmp_path):
    (tmp_path / "datasets").write_text("../datasets")
    (tmp_path / "estimators").mkdir()
    monkeypatch.setattr(doctor, "__file__", str(tmp_path / "doctor.py"))
    lost = by_name()["folders"]
    assert lost.verdict == "fail"
    assert "causalfm/datasets lost" in lost.sentence
    assert "estimators" not in lost.sentence


@pytest.mark.parametrize(("version", "verdict"), [((3, 10), "fail"), ((3, 11), "pass"), ((3, 14), "fail")])
def test_python_versions(monkeypatch, version, verdict):
    monkeypatch.setattr(doctor.sys, "version_info", version)
    assert doctor._python().verdict == verdict
