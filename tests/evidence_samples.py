"""Frozen reports to take evidence from, and what a text that rates by REAL-FM would hold."""

import json
import re
from pathlib import Path

from causalfm.auditing.evidence_map import RATINGS

FROZEN = Path(__file__).with_name("published") / "reports"
REPORTS = [FROZEN / f"{name}.json" for name in ("audit-1.2", "shift-1.2", "comparison-1.0")]
ANY = r"(\w+\W+){0,8}"
RATED = re.compile(rf"real.?fm\W+{ANY}({'|'.join(RATINGS)})|({'|'.join(RATINGS)})s?\W+{ANY}real.?fm", re.IGNORECASE)


def body_of(name: str) -> dict:
    return json.loads((FROZEN / f"{name}.json").read_text(encoding="utf-8"))
