"""Interventions where samples are made: as a transform of samples or batches, and as a DataLoader's collate_fn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from causalfm.errors import DataError

if TYPE_CHECKING:
    from causalfm.augment.interventional import InterventionalAugment


class SampleTransform(torch.nn.Module):
    """Apply an :class:`InterventionalAugment` to a sample or a batch; works in ``torchvision.transforms.v2.Compose``.

    Parameters
    ----------
    augment
        What draws and changes. ``train()`` and ``eval()`` of this object reach it.
    image
        Key of the image in a mapping, or its position in a tuple.
    factors
        Key of each factor's level (its name; or its code, unless names are numbers); default keys are the factors'
        names, looked for in the mapping, or in the one mapping of a tuple ``(image, mapping)``.
    out
        Key of what was done in a mapping; a tuple gets it appended (or put into its mapping).

    Notes
    -----
    Images ``(C, ...)`` of a sample or ``(B, C, ...)`` of a batch, told apart by whether levels are single; tensors of
    a class of their own (``tv_tensors.Image``) keep it. PIL images: convert before. Nothing else in the sample is
    touched. Workers see ``train()`` and ``eval()`` when they start: persistent ones no later. Needs no torchvision.
    """

    def __init__(
        self,
        augment: InterventionalAugment,
        image: Any = "image",
        factors: Mapping[str, Any] | None = None,
        out: str = "intervened",
    ) -> None:
        super().__init__()
        self.augment, self.image, self.out = augment, image, out
        self.factors = dict(factors) if factors is not None else {name: name for name in augment.columns}
        if set(self.factors) != set(augment.columns):
            raise DataError(f"factors names {sorted(self.factors)}: say where {sorted(augment.columns)} are found.")

    def forward(self, *inputs: Any) -> Any:
        """Return the sample with its image changed and :class:`Intervened` beside it.

        Raises
        ------
        DataError
            No image or level where they were said to be, images that are no tensors, other errors of the augmentation.
        """
        sample = inputs[0] if len(inputs) == 1 else tuple(inputs)
        if isinstance(sample, Mapping):
            moved, done = self._moved(_at(sample, self.image, "image"), sample)
            return {**sample, self.image: moved, self.out: done}
        if not isinstance(sample, (tuple, list)):
            raise DataError(
                f"a sample is {type(sample).__name__}: pass a mapping, or a tuple that holds image and levels."
            )
        place = 0 if self.image == "image" else self.image
        tables = [i for i, part in enumerate(sample) if isinstance(part, Mapping)]
        source = sample[tables[0]] if tables else sample
        moved, done = self._moved(_at(sample, place, "image"), source)
        parts = list(sample)
        parts[place] = moved
        if tables:
            parts[tables[0]] = {**sample[tables[0]], self.out: done}
        else:
            parts.append(done)
        return tuple(parts)

    def _moved(self, image: Any, source: Any) -> tuple[torch.Tensor, Any]:
        if not isinstance(image, torch.Tensor):
            raise DataError(f"the image is {type(image).__name__}: convert it to a tensor before (v2.ToImage()).")
        columns = [self._codes(name, _at(source, self.factors[name], name)) for name in self.augment.columns]
        single = columns[0].ndim == 0
        codes = torch.stack([column.reshape(-1) for column in columns], dim=1)
        kind, plain = type(image), image.as_subclass(torch.Tensor)
        moved, done = self.augment(plain[None] if single else plain, codes)
        if single:
            moved, done = moved[0], type(done)(*(part[0] for part in done))
        return moved if kind is torch.Tensor else moved.as_subclass(kind), done

    def _codes(self, name: str, value: Any) -> torch.Tensor:
        """Return level codes, 0-d of one sample; names are looked up."""
        if isinstance(value, np.ndarray) and value.dtype.kind in "UO":
            value = value.tolist()
        if isinstance(value, str):
            return self.augment.encode_levels(name, [value])[0]
        if isinstance(value, Sequence) and value and isinstance(value[0], str):
            return self.augment.encode_levels(name, value)
        try:
            codes = torch.as_tensor(value, dtype=None if not isinstance(value, Sequence) or value else torch.int64)
        except (TypeError, ValueError, RuntimeError):
            raise DataError(f"the level of {name!r} is {type(value).__name__}: pass its name, or its code.") from None
        if any(level.lstrip("-").isdigit() for level in self.augment.levels[name]):
            raise DataError(
                f"levels of {name!r} are named by numbers, {list(self.augment.levels[name])}: a number could be a name "
                "or a code. Pass names as text, str(level)."
            )
        if codes.ndim > 1 or codes.is_floating_point() or codes.is_complex() or codes.dtype == torch.bool:
            raise DataError(
                f"levels of {name!r} have shape {tuple(codes.shape)} and type {codes.dtype}: names or codes."
            )
        return codes.long()


class Collate:
    """Make a batch, then intervene on it; picklable, for workers of any start method.

    Parameters
    ----------
    transform
        See :class:`SampleTransform`.
    inner
        Makes the batch of a list of samples; None: ``torch.utils.data.default_collate``.
    """

    def __init__(self, transform: SampleTransform, inner: Callable[[Sequence[Any]], Any] | None = None) -> None:
        self.transform, self.inner = transform, inner or torch.utils.data.default_collate

    def __call__(self, samples: Sequence[Any]) -> Any:
        """Return the batch with its images changed."""
        return self.transform(self.inner(list(samples)))


def _at(sample: Any, key: Any, name: str) -> Any:
    try:
        return sample[key]
    except (KeyError, IndexError, TypeError):
        there = sorted(map(str, sample)) if isinstance(sample, Mapping) else f"{len(sample)} parts"
        raise DataError(f"{name}: the sample has nothing at {key!r}; it has {there}. Say where it is found.") from None
