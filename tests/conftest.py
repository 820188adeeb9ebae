import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of real data. Continuous integration must have it; elsewhere its tests are skipped."""
    named = os.environ.get("CAUSALFM_DATA", "")
    folder = Path(named).absolute()
    if named and folder.is_dir():
        return folder
    reason = "real data not found: set CAUSALFM_DATA to the folder that holds tcga_hipt_metadata.csv.gz"
    if os.environ.get("CI", "").lower() == "true":
        raise FileNotFoundError(reason)
    pytest.skip(reason)


@pytest.fixture
def without_self_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Audits say that what the design could see took too long, as on large data: a quarter of a small audit."""
    monkeypatch.setattr("causalfm.auditing.design_checks.MOST_WORK", 0.0)
