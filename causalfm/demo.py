"""The demonstration: render a confounded cohort, encode it with a real network, audit it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from causalfm.auditing import Audit, audit
from causalfm.auditing.report_files import write_reports
from causalfm.cohort import Cohort
from causalfm.graph import CausalGraph
from causalfm.io import write

N_PATIENTS = 120
TILES_PER_PATIENT = 6
ENCODER = "efficientnet-lite0"


def run_demo(
    out: str | Path, *, progress: Callable[[str, int, int], None] | None = None, random_state: int = 0
) -> Audit:
    """Render tissue of four invented hospitals, encode it with EfficientNet-Lite0, audit it and write everything.

    Parameters
    ----------
    out
        Folder for ``report.html``, ``report.md``, ``report.json``, and the embeddings.
    progress
        Called with (what is being done, steps done, steps in all).
    random_state
        Seed.

    Returns
    -------
    Audit
        The audit of the rendered cohort.

    Raises
    ------
    MissingDependencyError
        The ``demo`` extra is not installed.
    """
    from causalfm.datasets.histology import confounded_cohort
    from causalfm.extraction import encode

    say = progress or (lambda what, done, steps: None)
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    say("rendering tissue", 0, 1)
    started = time.perf_counter()
    images, obs = confounded_cohort(
        n_patients=N_PATIENTS, tiles_per_patient=TILES_PER_PATIENT, random_state=random_state
    )
    rendered = time.perf_counter()
    X = encode(images, ENCODER, progress=lambda done, steps: say(f"encoding with {ENCODER}", done, steps))
    info = {
        "source": "rendered tissue of four invented hospitals (causalfm.datasets.histology)",
        "encoder": f"{ENCODER}, trained on photographs (ImageNet), not on tissue",
        "seconds_rendering": round(rendered - started, 1),
        "seconds_encoding": round(time.perf_counter() - rendered, 1),
    }
    cohort = Cohort(X, obs, info)
    graph = CausalGraph.standard(biology="tumour", technical=["site", "scanner"], covariates=["age"], group="patient")
    # a linear head stands for the model of a user, so that the report shows decisions too
    result = audit(cohort, graph, model="linear", progress=progress, random_state=random_state)
    write(cohort, folder / "embeddings.npz")
    write_reports(result, folder)
    return result
