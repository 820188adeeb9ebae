"""Watch a model's stream of patients: alarms whose false ones are bounded over all time."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from causalfm.arguments import check_choice, check_positive, check_seed, check_type, check_whole, columns_of
from causalfm.cohort import Cohort
from causalfm.errors import DataError
from causalfm.graph import CausalGraph
from causalfm.graph_checks import check_inputs
from causalfm.results import Verdict
from causalfm.shift.watching.monitor_files import read_state, sole_writer, write_state
from causalfm.shift.watching.monitor_fit import first_state, fitted_plan
from causalfm.shift.watching.monitor_memory import check_key, key_mark, right_key
from causalfm.shift.watching.monitor_packing import pack, unpack
from causalfm.shift.watching.monitor_plan import Plan, State, Unit, next_stamp, step
from causalfm.shift.watching.monitor_scores import Source, source_again
from causalfm.shift.watching.monitor_status import MonitorStatus, guarantee, sentence, track_rows


class Monitor:
    """A conformal test martingale on a stream of patients.

    Make one with :meth:`fit` or :meth:`load`.

    Notes
    -----
    **What is compared.** Every patient of the stream is one observation, at the first visit: the mean of her rows, or
    one row drawn at random. Half of the reference's patients fix what is looked at (directions in which hospitals
    differ at the same biology, principal components, distances, log odds of the scores, the probability that the model
    left for wrong classes); the other half are ranked together with the stream
    (:func:`causalfm.shift.watching.conformal_ranks.sequential_p`). Each number is a track with a martingale of its own
    (:func:`causalfm.shift.watching.martingales.bet`).

    **Guarantee.** Under exchangeability each track's p-values are independent and uniform, so that by Ville's
    inequality its martingale ever reaches ``k / alpha`` with probability at most ``alpha / k``. Streams share ``alpha``
    equally, and tracks their stream's part; the sum over tracks bounds the probability that *any* alarm is ever raised,
    whatever the dependence between them. The average of the martingales would not do: each is a martingale in the
    filtration of its own p-values, and given the past ranks of *both* of two tracks the next rank of one need not be
    uniform. Three patients with the numbers (1, 2), (2, 3) and (3, 1) in random order: if the first two agree in order,
    the third one's second number is the lowest. Errors, whose labels come late, share no clock with the others either.

    **Memory** does not grow: one histogram per track and cell, hashes of at most ``capacity`` patients, digests of the
    last 4,096 batches.

    Assumptions
    -----------
    Patients of the stream are exchangeable with those of the reference, given the columns ``given``: the same hospital
    or mix of hospitals, the same way patients come in, and a reference that the model was not trained on. Days whose
    staining differs make patients of a day alike: declare the day as the independent unit then. Patients whose labels
    arrive are like those whose labels the reference has.

    References
    ----------
    Vovk, Gammerman and Shafer 2005, chapter 8. Vovk et al., arXiv 2102.10439. Prinster et al., arXiv 2505.04608.
    """

    def __init__(self, plan: Plan, state: State, key: bytes, key_is_stored: bool, source: Source | None) -> None:
        self._plan, self._state = plan, state
        self._key, self._key_is_stored = key, key_is_stored
        self._source = source
        self._path: Path | None = None

    def __repr__(self) -> str:
        return f"Monitor({self._plan.n_reference} reference {self._plan.group}s, {self.status().verdict})"

    @classmethod
    def fit(
        cls,
        reference: Cohort,
        graph: CausalGraph,
        *,
        alpha: float = 0.01,
        given: str | Sequence[str] = (),
        model: Any = None,
        scores: Mapping[str, str] | None = None,
        unit: Unit = "mean",
        noticeable: float = 1.0,
        capacity: int = 200_000,
        key: bytes | None = None,
        random_state: int = 0,
    ) -> Monitor:
        """Fix what is watched, on patients as they should be.

        Parameters
        ----------
        reference
            Patients like those of the stream as long as all is well: of the same hospital, accepted, and not among
            those the model was trained on. At least 40.
        graph
            Its ``group`` is the independent unit. Site and biology, where the reference has them, choose directions.
        alpha
            Bound on the probability that a false alarm is *ever* raised.
        given
            Columns whose change is benign (case mix that is known, age): patients are ranked among those with the same
            level, or in the same band, with a broken straight line taken off within bands.
        model, scores
            What gives probabilities: ``(n, d) -> (n, classes)``, or an estimator; or the columns that hold them,
            ``{class: column}``. With them scores are watched, and errors wherever the label is known.
        unit
            ``"mean"`` of a patient's rows, or one ``"row"`` drawn at random: the number of rows per patient may then
            change, at the price of noise.
        noticeable
            Size of a change, in standard deviations of one track, for "too early to tell".
        capacity
            Patients whose hashes are kept.
        key
            Secret of 16 to 64 bytes for hashing ids, needed again at :meth:`load`. None: one is drawn and stored in the
            file, where whoever has the file can try out ids.
        random_state
            Seed.

        Returns
        -------
        Monitor
            Before its first batch.

        Raises
        ------
        DataError, GraphError
            Too few patients, columns that are missing, empty cells, scores that are no probabilities.
        """
        check_inputs(reference, graph)
        check_seed(random_state)
        check_positive(alpha, "alpha", "it bounds the probability of a false alarm")
        if alpha >= 1:
            raise DataError(f"alpha={alpha!r}: it is a probability; choose one such as 0.01.")
        check_choice(unit, "unit", ("mean", "row"))
        check_positive(noticeable, "noticeable", "it is a size in standard deviations")
        check_whole(capacity, "capacity", 1, why="patients seen before are recognised by their hashes")
        check_key(key)
        plan, source = fitted_plan(
            reference, graph, alpha, columns_of(given, "given"), model, scores, unit, noticeable, random_state
        )
        secret = key or secrets.token_bytes(32)
        return cls(plan, first_state(plan, reference, secret, capacity), secret, key is None, source)

    def update(self, batch: Cohort, *, name: str = "", stamp: str = "") -> MonitorStatus:
        """Compare the new patients of a batch.

        Parameters
        ----------
        batch
            Embeddings of the same encoder with the group column, the columns of ``given`` and of scores. The biology
            column may be absent or empty: rows that come again with a label later are used for the errors then.
        name
            What messages call it, such as the day. Never an id of a patient.
        stamp
            Anything that tells versions of a named batch apart; see :meth:`has_seen`.

        Returns
        -------
        MonitorStatus
            Also written to the file, if :meth:`save` named one, before this returns.

        Raises
        ------
        DataError
            Columns missing, other dimensions, a label the reference does not know; the state is as it was then.
        """
        check_type(batch, Cohort, "batch", "read one with causalfm.read")
        plan, state = self._plan, self._state
        if batch.d != len(plan.view.centre):
            wanted = len(plan.view.centre)
            raise DataError(
                f"batch has {batch.d} dimensions and the reference {wanted}: use the same encoder for both."
            )
        digest = batch.fingerprint(plan.columns(batch))
        if any(digest == known for known, _, _ in state.seen):
            return self.status(repeated=True)
        after, returned = step(plan, state, batch, self._key, self._source, (digest, name, stamp))
        self._keep(after)
        return self.status(returned=returned)

    def status(self, *, repeated: bool = False, returned: int = 0) -> MonitorStatus:
        """Return the state in words and numbers, without a new batch."""
        plan, state = self._plan, self._state
        first = state.watches[0]
        labelled = state.watches[1].compared if len(state.watches) > 1 else 0
        early = not 0 <= plan.needed <= first.compared
        verdict: Verdict = "fail" if state.alarm is not None else "cannot tell" if early else "pass"
        forgotten = max(watch.memory.forgotten for watch in state.watches)
        promise = guarantee(plan.alpha, plan.group, plan.cells.columns, state.resets, forgotten)
        words = sentence(state.alarm, first.compared, first.outside, plan, promise)
        return MonitorStatus(
            verdict,
            words,
            state.alarm,
            promise,
            state.number,
            state.name_of(state.number),
            repeated,
            first.compared,
            labelled,
            returned,
            first.outside,
            forgotten,
            track_rows(plan, state),
        )

    def has_seen(self, name: str, stamp: str) -> bool:
        """Whether a batch of this name and stamp is among the last 4,096."""
        return (name, stamp) in {(known, mark) for _, known, mark in self._state.seen}

    def reset(self) -> MonitorStatus:
        """Take the alarm back and start again from the reference, once the cause is found and mended.

        Patients and batches stay remembered. Each start has its own guarantee. If the change is to stay, fit a new
        monitor on patients after it instead.
        """
        plan, state = self._plan, self._state
        watches = tuple(panel.start(watch.memory) for panel, watch in zip(plan.panels, state.watches, strict=True))
        stamp = next_stamp(state.stamp, "reset")
        self._keep(replace(state, watches=watches, alarm=None, resets=state.resets + 1, stamp=stamp))
        return self.status()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the monitor to a ``.safetensors`` file; every update is written there from now on."""
        write_state(Path(path), *self._packed(self._state))
        self._path = Path(path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, model: Any = None, key: bytes | None = None) -> Monitor:
        """Read a monitor back; it goes on as if it had never stopped, and updates are written to the file.

        Parameters
        ----------
        path
            Written by :meth:`save`.
        model, key
            As at the fit, where they were given. The model is tried on rows that are no patient's.

        Raises
        ------
        DataError
            Missing or damaged file, a model or key that is missing, not needed, or another one.
        """
        header, tensors = read_state(path)
        plan, state = unpack(header, tensors)
        secret = right_key(key, header, Path(path).name)
        source = source_again(model, plan.classes, plan.score_columns, plan.answers, plan.view, plan.dtype)
        monitor = cls(plan, state, secret, key is None, source)
        monitor._path = Path(path)
        return monitor

    def _packed(self, state: State) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        header, tensors = pack(self._plan, state)
        stored = self._key.hex() if self._key_is_stored else None
        return {**header, "key": stored, "key_check": key_mark(self._key)}, tensors

    def _keep(self, state: State) -> None:
        """Write the next state, then take it: a failed write leaves both as they were."""
        if self._path is not None:
            with sole_writer(self._path, self._state.stamp):
                write_state(self._path, *self._packed(state))
        self._state = state
