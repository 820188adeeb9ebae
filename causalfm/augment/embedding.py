"""A torch module that moves embeddings to technical levels drawn independently of biology."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from causalfm.arguments import check_seed
from causalfm.augment.level_draws import Draw, abducted_noise, draw_levels, random_numbers
from causalfm.augment.linear_moves import moved_rows, reshapes
from causalfm.augment.move_tables import effect_arrays, move_tables
from causalfm.errors import DataError, positions

if TYPE_CHECKING:
    from causalfm.cohort import Cohort
    from causalfm.scm import EmbeddingSCM

SCHEMA = 1


class CounterfactualAugment(torch.nn.Module):
    """Move each embedding to technical levels drawn independently of biology, by a fitted causal model.

    Parameters
    ----------
    scm
        Fitted :class:`causalfm.EmbeddingSCM` with a linear mechanism (all but a flow).
    factors, target
        See :func:`causalfm.augment.balanced_counterfactuals`.
    random_state
        Seed of the draws. Processes that train together need different ones.
    device
        Where the tables lie; ``to(device)`` moves them later.

    Notes
    -----
    Every call draws anew, the same on every device; the state dict holds how many draws were made, so that a run that
    goes on draws on. In ``eval()`` embeddings pass unchanged. The noise of nodes that follow (which scanner) is drawn
    from what explains the row, anew in every call. Gradients pass. Call it in the training process: the copies in the
    workers of a DataLoader would all draw the same.

    A row that cannot move (the design leaves the effect open, or too few patients of its class were seen there) stays;
    :meth:`counts` says how many did. Assumptions: those of the model and its coupling.

    Examples
    --------
    >>> augment = CounterfactualAugment(scm)  # doctest: +SKIP
    >>> codes, numbers = augment.encode(cohort)  # doctest: +SKIP
    >>> moved = augment(z, codes[rows])  # doctest: +SKIP
    """

    def __init__(
        self,
        scm: EmbeddingSCM,
        factors: str | Sequence[str] | None = None,
        *,
        target: str = "marginal",
        random_state: int = 0,
        device: str | torch.device | None = None,
    ) -> None:
        super().__init__()
        check_seed(random_state)
        tables = move_tables(scm, factors, target)
        self._settle(tables.spec, {**tables.arrays, **effect_arrays(scm)}, random_state)
        self.to(device)

    def _settle(self, spec: dict[str, Any], arrays: Mapping[str, Any], random_state: int) -> None:
        self.spec, self.random_state, self.calls = spec, random_state, 0
        for name, value in arrays.items():
            tensor = torch.as_tensor(np.array(value)) if isinstance(value, np.ndarray) else value.clone()
            self.register_buffer(name, tensor.float() if tensor.is_floating_point() else tensor)
        self.register_buffer("counted", torch.zeros(3, dtype=torch.int64))

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> CounterfactualAugment:
        """Rebuild from ``state_dict()`` alone: where it trains, torch and numpy suffice.

        Raises
        ------
        DataError
            No state of this class, or of a newer version.
        """
        extra = _extra(state.get("_extra_state"))
        module = cls.__new__(cls)
        torch.nn.Module.__init__(module)
        arrays = {name: value for name, value in state.items() if name not in ("_extra_state", "counted")}
        module._settle(extra["spec"], arrays, extra["random_state"])
        module.load_state_dict(dict(state))
        return module

    def get_extra_state(self) -> dict[str, Any]:
        """Levels, seed and number of draws, for ``state_dict``."""
        return {"schema": SCHEMA, "spec": self.spec, "random_state": self.random_state, "calls": self.calls}

    def set_extra_state(self, state: Any) -> None:
        """Take them back.

        Raises
        ------
        DataError
            A state of other columns, levels or mechanism.
        """
        extra = _extra(state)
        for key in ("columns", "levels", "factors", "follow", "mechanism", "target"):
            if extra["spec"][key] != self.spec[key]:
                raise DataError(f"the state was made with other {key} than this module: use from_state(state).")
        self.spec, self.random_state, self.calls = extra["spec"], extra["random_state"], extra["calls"]

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of ``codes``, in order."""
        return tuple(self.spec["columns"])

    def encode(self, cohort: Cohort) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Code a cohort once before training.

        Parameters
        ----------
        cohort
            Rows at levels of the fit.

        Returns
        -------
        codes : torch.Tensor
            ``(n, k)`` int64, on the CPU.
        numbers : torch.Tensor or None
            ``(n, m)`` float32 continuous causes of ``Z``; None if there are none, or the mechanism needs none.

        Raises
        ------
        DataError
            Columns missing or incomplete, levels that the model never saw.
        """
        from causalfm.scm.parents import known_codes

        pairs = zip(self.columns, self.spec["levels"], strict=True)
        codes = torch.from_numpy(np.stack([known_codes(cohort, name, levels) for name, levels in pairs], axis=1))
        if not self._needs_numbers():
            return codes, None
        numbers = np.stack([cohort.numeric(name) for name in self.spec["numbers"]], axis=1)
        return codes, torch.from_numpy(numbers.astype(np.float32))

    def forward(self, z: torch.Tensor, codes: torch.Tensor, numbers: torch.Tensor | None = None) -> torch.Tensor:
        """Move a batch to drawn levels.

        Parameters
        ----------
        z
            ``(B, d)`` floating; computed in float32 and returned in its own type.
        codes
            ``(B, k)`` int64 level codes of :attr:`columns`, from :meth:`encode`.
        numbers
            ``(B, m)`` from :meth:`encode`, where it returns them.

        Returns
        -------
        torch.Tensor
            ``(B, d)``; ``z`` itself in ``eval()``.

        Raises
        ------
        DataError
            Shapes or types that do not fit, codes out of range.
        """
        if not self.training:
            return z
        self.check(z, codes, numbers)
        return self.move(z, codes, self.draw(codes).codes, numbers)

    def draw(
        self, codes: torch.Tensor, factors: Sequence[str] | None = None, levels: torch.Tensor | None = None
    ) -> Draw:
        """Draw levels for rows ``codes (B, k)``; counts as one call. Rows that cannot move keep their own.

        With ``levels (B, f)``, codes of ``factors``, these are set and not drawn.
        """
        self._check_codes(codes)
        tables = self._tables()
        positions_, luck = random_numbers(self.spec, len(codes), self.random_state, self.calls)
        self.calls += 1
        combination = torch.from_numpy(positions_).to(codes.device)
        if levels is not None:
            order = [tuple(factors or ()).index(name) for name in self.spec["factors"]]
            same = (levels[:, None, order] == tables["combinations"]).all(dim=2)
            combination = same.long().argmax(dim=1)
        noise, explained = abducted_noise(self.spec, tables, codes, torch.from_numpy(luck).float().to(codes.device))
        if levels is not None:  # a combination that the model never saw
            explained = explained & same.any(dim=1)
        drawn = draw_levels(self.spec, tables, codes, combination, noise)
        unseen = drawn.wanted & ~explained
        drawn = Draw(
            torch.where(unseen[:, None], codes, drawn.codes), drawn.wanted, drawn.open | unseen, drawn.few & ~unseen
        )
        rows = torch.full((), len(codes), dtype=torch.int64, device=codes.device)
        tables["counted"] += torch.stack([rows, drawn.wanted.sum(), drawn.kept.sum()])
        return drawn

    def move(
        self, z: torch.Tensor, codes: torch.Tensor, target: torch.Tensor, numbers: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Move rows ``z (B, d)`` from levels ``codes (B, k)`` to levels ``target (B, k)``, supported or not."""
        self.check(z, codes, numbers)
        self._check_codes(target)
        tables = self._tables()
        dtype = tables["constant"].dtype
        given = None if numbers is None else numbers.to(dtype)
        moved = moved_rows(self.spec, tables, z.to(dtype), codes, target, given).to(z.dtype)
        parents = self.spec["parents"]  # rows that stay are not rounded to the type of the tables
        return torch.where((codes[:, parents] != target[:, parents]).any(dim=1)[:, None], moved, z)

    def counts(self) -> dict[str, int]:
        """Rows drawn for, rows moved, and rows kept since they could not move, over all calls so far."""
        rows, wanted, kept = self._tables()["counted"].tolist()
        return {"rows": rows, "moved": wanted - kept, "kept": kept}

    def extra_repr(self) -> str:
        """Say what is drawn."""
        shown = {name: self.spec[name] for name in ("factors", "follow", "mechanism", "target")}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())

    def _tables(self) -> dict[str, torch.Tensor]:
        return dict(self.named_buffers(recurse=False))

    def _needs_numbers(self) -> bool:
        return bool(self.spec["numbers"]) and reshapes(self._tables())

    def check(self, z: torch.Tensor, codes: torch.Tensor, numbers: torch.Tensor | None = None) -> None:
        """Refuse a batch that :meth:`move` cannot move, without drawing for it."""
        self._check_codes(codes)
        constant = self._tables()["constant"]
        if constant.dtype not in (torch.float32, torch.float64):
            raise DataError(f"the tables were cast to {constant.dtype}: use this module in float32, call float().")
        if z.ndim != 2 or z.shape != (len(codes), len(constant)) or not z.is_floating_point():
            raise DataError(
                f"z has shape {tuple(z.shape)} and type {z.dtype}: pass floating ({len(codes)}, {len(constant)}), one "
                "row per row of codes."
            )
        if not z.device == codes.device == constant.device:
            raise DataError(
                f"z lies on {z.device}, codes on {codes.device}, the module on {constant.device}: move all to one."
            )
        m = len(self.spec["numbers"])
        if self._needs_numbers() and (numbers is None or numbers.shape != (len(z), m)):
            raise DataError(
                f"{', '.join(self.spec['numbers'])} cause Z: pass numbers ({len(z)}, {m}), the second value of "
                "encode(cohort)."
            )

    def _check_codes(self, codes: torch.Tensor) -> None:
        k = len(self.spec["columns"])
        if codes.ndim != 2 or codes.shape[1] != k or codes.dtype != torch.int64 or not len(codes):
            raise DataError(
                f"codes have shape {tuple(codes.shape)} and type {codes.dtype}: pass int64 (B, {k}) with the codes of "
                f"{', '.join(self.columns)}, from encode(cohort)."
            )
        sizes = torch.tensor([len(levels) for levels in self.spec["levels"]], device=codes.device)
        wrong = (codes < 0) | (codes >= sizes)
        if bool(wrong.any()):  # on a GPU an index out of range would end the process
            row, column = wrong.nonzero()[0].tolist()
            rows = wrong[:, column].nonzero()[:, 0].tolist()
            raise DataError(
                f"codes of {self.columns[column]!r} run from 0 to {int(sizes[column]) - 1}; {int(codes[row, column])} "
                f"is none ({positions(rows)}). Use codes of encode(cohort)."
            )


def _extra(state: Any) -> dict[str, Any]:
    if not isinstance(state, dict) or not {"schema", "spec", "random_state", "calls"} <= set(state):
        raise DataError("this is no state of CounterfactualAugment: pass what state_dict() returned.")
    if state["schema"] > SCHEMA:
        raise DataError(
            f"the state has schema {state['schema']}, this version reads up to {SCHEMA}: use a newer causalfm."
        )
    return dict(state)
