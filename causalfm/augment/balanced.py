"""Balanced counterfactual augmentation: rows moved to technical levels drawn independently of biology."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from causalfm.arguments import check_flag, check_seed, check_whole
from causalfm.augment.level_draws import Draw, draw_levels, random_numbers
from causalfm.augment.move_tables import MoveTables, move_tables, refuse_immovable
from causalfm.errors import DataError

if TYPE_CHECKING:
    import pandas as pd

    from causalfm.cohort import Cohort
    from causalfm.scm import EmbeddingSCM

ROW, COPY = "augmented:row", "augmented:copy"


def balanced_counterfactuals(
    scm: EmbeddingSCM,
    cohort: Cohort,
    factors: str | Sequence[str] | None = None,
    *,
    copies: int = 1,
    include_original: bool = False,
    target: str = "marginal",
    random_state: int = 0,
) -> Cohort:
    """Redraw the technical levels of every row independently of biology, and move its embedding there.

    Parameters
    ----------
    scm
        Fitted model; any mechanism.
    cohort
        Rows ``(n, d)`` at levels of the fit, of the fit or new ones.
    factors
        Technical factors to draw, several jointly, in combinations that patients of the fit have. None: those without
        a technical cause. Technical factors below them follow the graph, each row by its own abducted noise.
    copies
        Draws per row.
    include_original
        Return the rows as seen too, before the copies.
    target
        ``"marginal"``: as often as patients of the fit have a combination, ``"uniform"``: all equally often.
    random_state
        Seed of the draws.

    Returns
    -------
    Cohort
        Copy by copy in the order of the cohort; columns ``augmented:row`` (position in ``cohort``) and
        ``augmented:copy`` (0 is the row as seen). Patients keep their ids: split by patient, not by row, and give
        copies of a row the weight of one. Rows that cannot move stay as they are; ``info["augmented"]`` counts rows
        moved, rows whose draw was where they are, and rows kept, by combination.

    Raises
    ------
    DataError
        Arguments, levels that the model never saw, other dimensions.
    GraphError
        Factors that cause biology.
    NotIdentifiedError
        No row at all can be moved: the design cannot separate the factors from biology.

    Notes
    -----
    Assumptions: those of the model, and for single rows its coupling. What is balanced is the association of technical
    levels and biology; kept rows keep theirs.
    """
    from causalfm.graph_checks import check_inputs
    from causalfm.scm.counterfactuals import predict_rows
    from causalfm.scm.parents import Values

    check_whole(copies, "copies", 1)
    check_flag(include_original, "include_original")
    check_seed(random_state)
    tables = move_tables(scm, factors, target)
    check_inputs(cohort, scm.graph)
    scm._check_width(cohort)
    if taken := [name for name in (ROW, COPY) if name in cohort.obs.columns]:
        raise DataError(f"obs has a column {taken[0]!r}: this cohort was augmented before. Pass the rows as seen.")
    codes, noise = _abduct(scm, cohort, tables)
    draws = [_draw(tables, codes, noise, random_state, c) for c in range(copies)]
    _refuse_all_kept(scm, tables.spec, draws)
    source, parents = scm.fitted.mean.parents.read(cohort), tables.spec["parents"]
    blocks = [] if not include_original else [np.asarray(cohort.X)]
    blocks += [
        predict_rows(cohort.X, scm.fitted, source, Values(draw.codes.numpy()[:, parents], source.numbers))
        for draw in draws
    ]
    obs = _table(scm, cohort, tables, codes, noise, draws, include_original)
    record = _record(scm, tables, codes, draws, include_original, random_state)
    X = np.concatenate(blocks) if len(blocks) > 1 else blocks[0]
    return type(cohort)(X, obs, {**cohort.info, "augmented": record})


def _abduct(scm: EmbeddingSCM, cohort: Cohort, tables: MoveTables) -> tuple[np.ndarray, np.ndarray]:
    """Level codes ``(n, k)`` and the noise ``(n, nodes)`` of the nodes that follow."""
    from causalfm.scm.parents import known_codes

    spec = tables.spec
    pairs = zip(spec["columns"], spec["levels"], strict=True)
    codes = np.stack([known_codes(cohort, name, levels) for name, levels in pairs], axis=1)
    return codes, _noise(scm, cohort, spec["follow"])


def _noise(scm: EmbeddingSCM, cohort: Cohort, nodes: Sequence[str]) -> np.ndarray:
    """Abducted noise ``(n, nodes)``."""
    from causalfm.scm.exogenous import luck_of
    from causalfm.scm.interventions import abducted

    if not nodes:
        return np.zeros((len(cohort), 0))
    groups, tables = cohort.factor(scm.graph.group, private=True), scm.fitted.tables
    return np.stack([abducted(cohort, tables[n], luck_of(n, groups, scm.random_state)) for n in nodes], axis=1)


def _draw(tables: MoveTables, codes: np.ndarray, noise: np.ndarray, seed: int, copy: int) -> Draw:
    arrays = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in tables.arrays.items()}
    combination, _ = random_numbers(tables.spec, len(codes), seed, copy)
    return draw_levels(
        tables.spec, arrays, torch.from_numpy(codes), torch.from_numpy(combination), torch.from_numpy(noise)
    )


def _refuse_all_kept(scm: EmbeddingSCM, spec: Mapping[str, Any], draws: Sequence[Draw]) -> None:
    wanted, open_, few = (sum(int(getattr(d, name).sum()) for d in draws) for name in ("wanted", "open", "few"))
    if wanted and wanted == open_ + few:
        refuse_immovable(scm, spec["factors"], wanted, open_, few)


def _table(
    scm: EmbeddingSCM,
    cohort: Cohort,
    tables: MoveTables,
    codes: np.ndarray,
    noise: np.ndarray,
    draws: Sequence[Draw],
    include_original: bool,
) -> pd.DataFrame:
    """Table of all copies, the rows as seen before them."""
    from causalfm.scm.interventions import NOISE, levels_as

    spec, n = tables.spec, len(cohort)
    numbers = [*([0] if include_original else []), *range(1, len(draws) + 1)]
    row, copy = np.tile(np.arange(n), len(numbers)), np.repeat(numbers, n)
    obs, seen = cohort.obs.iloc[row].copy(), copy == 0
    after = np.concatenate([*([codes] if include_original else []), *(draw.codes.numpy() for draw in draws)])
    for name in (*spec["factors"], *spec["follow"]):
        column = spec["columns"].index(name)
        obs[name] = levels_as(obs[name], tuple(spec["levels"][column]), after[:, column])
    for name in spec["factors"]:  # a node that is set has no noise: its causes no longer move it
        if name in scm.fitted.tables:
            own = _noise(scm, cohort, [name])[row, 0] if include_original else np.nan
            obs[NOISE.format(name)] = np.where(seen, own, np.nan)
    for i, name in enumerate(spec["follow"]):
        obs[NOISE.format(name)] = noise[row, i]
    obs[ROW], obs[COPY] = row, copy
    return obs if len(numbers) == 1 else obs.set_axis([f"row {r} copy {c}" for r, c in zip(row, copy, strict=True)])


def _record(
    scm: EmbeddingSCM,
    tables: MoveTables,
    codes: np.ndarray,
    draws: Sequence[Draw],
    include_original: bool,
    random_state: int,
) -> dict[str, Any]:
    """Count what was done."""
    spec = tables.spec
    wanted, kept = (sum(int(getattr(d, name).sum()) for d in draws) for name in ("wanted", "kept"))
    shares = np.diff(np.asarray(spec["cumulated"]), prepend=0.0)
    names = [_spelled(spec, spec["factors"], c) for c in tables.arrays["combinations"]]
    by: Counter[str] = Counter()
    shown = [n for n in (*spec["factors"], spec["biology"]) if n in spec["columns"]]
    at = [spec["columns"].index(n) for n in shown]
    for draw in draws:
        rows, count = np.unique(codes[draw.kept.numpy()][:, at], axis=0, return_counts=True)
        for row, k in zip(rows, count, strict=True):
            by[_spelled(spec, shown, row)] += int(k)
    return {
        "factors": list(spec["factors"]),
        "follow": list(spec["follow"]),
        "target": {name: float(share) for name, share in zip(names, shares, strict=True)},
        "copies": len(draws),
        "include_original": include_original,
        "rows": len(codes),
        "moved": wanted - kept,
        "own_level": len(codes) * len(draws) - wanted,
        "kept": kept,
        "kept_at": dict(by),
        "mechanism": scm.mechanism,
        "coupling": scm.coupling,
        "assume": scm.assume,
        "random_state": random_state,
    }


def _spelled(spec: Mapping[str, Any], names: Sequence[str], codes: Sequence[int]) -> str:
    pairs = zip(names, codes, strict=True)
    return ", ".join(f"{n}={spec['levels'][spec['columns'].index(n)][c]}" for n, c in pairs)
