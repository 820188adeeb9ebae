"""The command line as a user types it, and files for it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

import causalfm as cfm
from causalfm import cli
from causalfm.datasets.linear_scm import linear_scm

ROLES = ("--biology", "tumour", "--technical", "site", "--group", "patient")


def typed(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    """Run ``causalfm`` with these arguments and return its exit code."""
    with monkeypatch.context() as given:
        given.setattr(sys, "argv", ["causalfm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    cohort, _ = linear_scm(n_groups=48, site_effect=1.5, n_scanners=2, random_state=0)
    cfm.write(cohort, folder / "z.npz")
    cohort.obs.to_csv(folder / "table.csv", index=False)
    return folder
