"""The command line as a user types it."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from causalfm import cli


def typed(monkeypatch: pytest.MonkeyPatch, *arguments: Any) -> int:
    """Run ``causalfm`` with these arguments and return its exit code."""
    with monkeypatch.context() as given:
        given.setattr(sys, "argv", ["causalfm", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return int(ended.value.code or 0)
