"""A training loop's do-operator: technical levels drawn independently of biology, in images and in embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from causalfm.arguments import check_seed
from causalfm.augment.embedding import CounterfactualAugment
from causalfm.augment.factor_changes import as_change
from causalfm.augment.intervention_spec import (
    Intervened,
    check_codes,
    check_embedding,
    check_share,
    check_state,
    drawn_levels,
    positions_in,
    specify,
)
from causalfm.augment.level_targets import check_factor, levels_of, untouched
from causalfm.augment.sample_hooks import Collate, SampleTransform
from causalfm.augment.worker_streams import WorkerStreams
from causalfm.errors import DataError, positions

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

SCHEMA = 1
COUNTED = ("rows", "drawn_elsewhere", "changed", "kept", "waiting", "embedded")


class InterventionalAugment(torch.nn.Module):
    """Set technical factors of a batch to levels drawn without looking at biology: do(factor := level).

    Parameters
    ----------
    graph
        Declared graph. The factors must cause ``Z``, must not cause biology, and must not decide with other causes
        which rows are in the data.
    changes
        What shows a row at another level, by technical factor, in the order in which light meets them (stain before
        scanner): a :class:`StainLibrary` or :class:`StainSwap`; :class:`ScannerProfile` or :class:`SitePreset` by
        level; or your own (:class:`causalfm.augment.factor_changes.FactorChange`).
    obs
        Training table (or cohort, or lists by column): which levels there are, and how frequent.
    donors
        By factor, the levels to draw among; default all levels of ``obs``.
    target
        ``"uniform"``: donors equally often. ``"marginal"``: as often as patients of ``obs`` have a level. Or weights by
        level, by factor.
    probability
        Of drawing a row anew. Below 1 a row keeps its levels otherwise, and with them that share of the association
        between factor and biology.
    embedding, image_share
        A :class:`CounterfactualAugment` of the same factors, and the share of rows whose images are changed; the others
        wait for :meth:`embed`.
    random_state
        Seed. Processes that train together need different ones.

    Notes
    -----
    Draws follow from the seed, the worker of the DataLoader and how many batches that worker has seen so far, over all
    epochs: every epoch differs, and a run with as many workers repeats it. The counts lie in shared memory and in the
    state dict. Use one object per loader. A loader left before its end has drawn ahead.

    Several factors are drawn independently of each other as well. Labels pass untouched: biology's distribution stays
    what it was. Technical causes of ``Z`` without a change (``untouched``) keep their association with biology. In
    ``eval()`` nothing is drawn.

    A row whose draw is its own level is not changed at all. So where a class is rare at a level, most of what shows it
    there went through a swap: what a swap gets wrong can itself tell the class. Swaps that are off by much break one
    shortcut and leave another; judge them first (docs/stain_errors.md).

    Examples
    --------
    >>> augment = InterventionalAugment(graph, {"stain": library}, obs)  # doctest: +SKIP
    >>> codes = augment.encode(obs)  # doctest: +SKIP
    >>> moved, done = augment(images, codes[rows])  # in the loop  # doctest: +SKIP
    >>> loader = DataLoader(data, collate_fn=augment.collate(), num_workers=4)  # doctest: +SKIP
    """

    def __init__(
        self,
        graph: CausalGraph,
        changes: Mapping[str, Any],
        obs: Any,
        *,
        donors: Mapping[str, Sequence[str]] | None = None,
        target: str | Mapping[str, Mapping[str, float]] = "uniform",
        probability: float = 1.0,
        embedding: CounterfactualAugment | None = None,
        image_share: float = 1.0,
        random_state: int = 0,
    ) -> None:
        super().__init__()
        check_seed(random_state)
        check_share(probability, "probability")
        check_share(image_share, "image_share")
        if not changes:
            raise DataError("changes is empty: name at least one factor and what changes it.")
        if image_share < 1.0 and embedding is None:
            raise DataError(f"image_share={image_share} and no embedding: pass a CounterfactualAugment, or 1.")
        for factor in changes:
            check_factor(graph, factor)
        self.changes = {factor: as_change(change, factor) for factor, change in changes.items()}
        self._change_modules = torch.nn.ModuleList([c for c in self.changes.values() if isinstance(c, torch.nn.Module)])
        self.untouched = untouched(graph, tuple(changes))
        self.probability, self.image_share, self.random_state = float(probability), float(image_share), random_state
        table = getattr(obs, "obs", obs)
        self.spec = specify(graph, self.changes, table, donors or {}, target)
        self._held = [
            torch.tensor([change.levels.index(level) if level in change.levels else -1 for level in levels])
            for change, levels in zip(self.changes.values(), self.spec["levels"], strict=True)
        ]
        self.embedding = embedding
        if embedding is not None:
            check_embedding(embedding, self.spec)
        self._streams = WorkerStreams(len(COUNTED))

    @property
    def columns(self) -> tuple[str, ...]:
        """Factors, in the order of the columns of ``codes``."""
        return tuple(self.spec["columns"])

    @property
    def levels(self) -> dict[str, tuple[str, ...]]:
        """Names that codes stand for, by factor."""
        return {name: tuple(found) for name, found in zip(self.columns, self.spec["levels"], strict=True)}

    def encode(self, obs: Any) -> torch.Tensor:
        """Code a table (or cohort, or lists by column) once before training: ``(n, k)`` int64.

        Raises
        ------
        DataError
            Columns missing or incomplete, levels that are not in the training table.
        """
        table = getattr(obs, "obs", obs)
        return torch.stack([self.encode_levels(name, levels_of(table, name)) for name in self.columns], dim=1)

    def encode_levels(self, factor: str, values: Sequence[str]) -> torch.Tensor:
        """Code levels of one factor ``(n,)``."""
        known = {level: i for i, level in enumerate(self.levels[factor])}
        wrong = [i for i, value in enumerate(values) if str(value) not in known]
        if wrong:
            names = ", ".join(map(repr, sorted({str(values[i]) for i in wrong})))
            raise DataError(
                f"{factor} {names} ({positions(wrong)}) is not in the training table: it has {list(known)}."
            )
        return torch.tensor([known[str(value)] for value in values], dtype=torch.int64)

    def forward(self, images: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, Intervened]:
        """Draw levels for a batch and show its rows at them.

        Parameters
        ----------
        images
            ``(B, 3, H, W)``, or what the changes take; uint8 is the fastest.
        codes
            ``(B, k)`` int64, from :meth:`encode`.

        Returns
        -------
        images : torch.Tensor
            Same shape, type and device; ``images`` itself in ``eval()``.
        done : Intervened
            What each row shows now, and what could not be done.

        Raises
        ------
        DataError
            Another number of codes than of images, codes out of range.
        """
        check_codes(self.spec, images, codes)
        none = torch.zeros_like(codes, dtype=torch.bool)
        if not self.training:
            return images, Intervened(codes, codes, none, none[:, 0])
        rng = self._streams.next(self.random_state)
        drawn, waiting = drawn_levels(self.spec, rng, codes, self.probability, self.image_share)
        after, kept, moved = codes.clone(), none, images
        for j, (change, held) in enumerate(zip(self.changes.values(), self._held, strict=True)):
            seed = int(rng.integers(2**32))
            rows = ((drawn[:, j] != codes[:, j]) & ~waiting).nonzero()[:, 0]
            if not len(rows):
                continue
            at = rows.to(images.device)
            places = held.to(codes.device)
            new, changed = change(moved[at], places[codes[rows, j]], places[drawn[rows, j]], seed)
            moved = moved.clone() if moved is images else moved
            moved[at] = new
            changed = changed.to(codes.device)
            after[rows, j] = torch.where(changed, drawn[rows, j], codes[rows, j])
            kept[rows, j] = ~changed
        elsewhere = (drawn != codes).any(dim=1)
        counts = (
            torch.ones_like(waiting),
            elsewhere,
            (after != codes).any(dim=1),
            kept.any(dim=1),
            waiting & elsewhere,
        )
        self._streams.count([*(int(c.sum()) for c in counts), 0])
        return moved, Intervened(after, drawn, kept, waiting & elsewhere)

    def embed(
        self, z: torch.Tensor, codes: torch.Tensor, done: Intervened, numbers: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Intervened]:
        """Move the embeddings of waiting rows to the levels drawn for them.

        Parameters
        ----------
        z
            ``(B, d)`` embeddings of the images that :meth:`forward` returned.
        codes
            ``(B, c)`` of the rows as seen, from ``embedding.encode``.
        done
            From :meth:`forward`.
        numbers
            ``(B, m)`` from ``embedding.encode``, where it returns them.

        Returns
        -------
        z : torch.Tensor
            ``(B, d)``.
        done : Intervened
            Without waiting rows; ``kept`` marks those that the model cannot move.

        Raises
        ------
        DataError
            No ``embedding``, or shapes that do not fit.
        """
        if self.embedding is None:
            raise DataError("there is no embedding-space model: pass embedding=CounterfactualAugment(scm).")
        if not bool(done.waiting.any()):
            return z, done._replace(waiting=torch.zeros_like(done.waiting))
        if len(codes) != len(done.waiting):
            raise DataError(f"{len(codes)} codes of {len(done.waiting)} images: pass the whole batch, in its order.")
        self.embedding.check(z, codes, numbers)
        rows = done.waiting.nonzero()[:, 0]
        at = positions_in(self.embedding, self.spec).to(done.drawn.device)
        wanted = torch.stack([at[j][done.drawn[rows, j]] for j in range(len(self.columns))], dim=1)
        found = self.embedding.draw(codes[rows], self.columns, wanted.to(codes.device))
        moved = z.clone()
        given = None if numbers is None else numbers[rows.to(numbers.device)]
        moved[rows.to(z.device)] = self.embedding.move(z[rows.to(z.device)], codes[rows], found.codes, given)
        stayed = found.kept.to(done.codes.device)[:, None]
        after, kept = done.codes.clone(), done.kept.clone()
        after[rows] = torch.where(stayed, done.codes[rows], done.drawn[rows])
        kept[rows] = stayed & (done.drawn[rows] != done.codes[rows])
        self._streams.count([0, 0, 0, int(stayed.sum()), 0, int((~stayed).sum())])
        return moved, Intervened(after, done.drawn, kept, torch.zeros_like(done.waiting))

    def counts(self) -> dict[str, int]:
        """Rows so far, over all workers: in all, with another level drawn, changed, kept, waiting, moved in ``Z``."""
        return dict(zip(COUNTED, self._streams.totals(), strict=True))

    def transform(
        self, image: Any = "image", factors: Mapping[str, Any] | None = None, *, out: str = "intervened"
    ) -> SampleTransform:
        """Return a torchvision-style transform of samples or batches: see :class:`SampleTransform`."""
        return SampleTransform(self, image, factors, out)

    def collate(
        self,
        inner: Callable[[Sequence[Any]], Any] | None = None,
        image: Any = "image",
        factors: Mapping[str, Any] | None = None,
        *,
        out: str = "intervened",
    ) -> Collate:
        """Return a ``collate_fn`` for a DataLoader, drawing in its workers: ``inner`` (default torch's), then this."""
        return Collate(self.transform(image, factors, out=out), inner)

    def get_extra_state(self) -> dict[str, Any]:
        """Levels, seed and how far each worker has drawn, for ``state_dict``."""
        return {"schema": SCHEMA, "spec": self.spec, "random_state": self.random_state, **self._streams.state()}

    def set_extra_state(self, state: Any) -> None:
        """Take them back.

        Raises
        ------
        DataError
            A state of other factors, levels or targets, or of a newer version.
        """
        check_state(state, self.spec, SCHEMA)
        self.random_state = state["random_state"]
        self._streams.restore(state)

    def extra_repr(self) -> str:
        """Say what is drawn, and what nobody draws."""
        return f"columns={self.columns}, donors={self.spec['donors']}, untouched={self.untouched}"
