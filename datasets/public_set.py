"""What is known of a public data set before it is fetched: title, size, licence, and what must be agreed to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from causalfm.errors import DataError


@dataclass(frozen=True)
class PublicSet:
    """A data set that users bring.

    Attributes
    ----------
    name
        Of the module, and of the command ``causalfm data get NAME``.
    title
        In words.
    size
        Download, as the card says where it was read.
    licence
        Short name; :func:`agree` wants it repeated where ``consent`` is set.
    terms
        Page with the terms.
    source
        Repository, record or address, with revision where it is fixed.
    parts
        What ``parts=`` of ``download`` selects, in words; empty: the set comes as a whole.
    consent
        Whether the terms bind the user to more than naming the source.
    apply_at
        Where credentialed access is applied for; such sets are never fetched.
    """

    name: str
    title: str
    size: str
    licence: str
    terms: str
    source: str
    parts: str = ""
    consent: bool = False
    apply_at: str = ""

    @property
    def access(self) -> str:
        """``"open"``, ``"after consent"`` or ``"after application"``."""
        return "after application" if self.apply_at else "after consent" if self.consent else "open"

    def about(self) -> dict[str, str]:
        """Return what the lock file says of the source."""
        return {"data_set": self.title, "source": self.source, "licence": self.licence, "terms": self.terms}


def agree(data: PublicSet, accept: str | None) -> None:
    """Refuse a download whose terms were not accepted in words.

    Parameters
    ----------
    data
        The set.
    accept
        What the user accepts: the licence, spelt as ``data.licence``.

    Raises
    ------
    DataError
        Credentialed sets, which the user fetches; terms that need consent and were not repeated.
    """
    if data.apply_at:
        raise DataError(
            f"{data.title} is given to credentialed users only: apply at {data.apply_at}, fetch it there, and pass the "
            f"folder to causalfm.datasets.{data.name}."
        )
    if data.consent and (accept or "").casefold() != data.licence.casefold():
        raise DataError(
            f"{data.title} comes under {data.licence} ({data.terms}), which restricts its use. If you have read and "
            "accept "
            f"it, say so: accept={data.licence!r}, or --accept {data.licence!r} on the command line."
        )


def refuse_parts(data: PublicSet, parts: Sequence[str] | None) -> None:
    """Refuse parts of a set that comes as a whole.

    Raises
    ------
    DataError
        Any part.
    """
    if parts is not None:
        raise DataError(f"{data.title} is one archive and comes as a whole: leave out parts.")


def chosen(parts: Sequence[str] | None, known: tuple[str, ...]) -> tuple[str, ...]:
    """Return the parts asked for, or all.

    Raises
    ------
    DataError
        A part that the set does not have.
    """
    if parts is None:
        return known
    wanted = tuple(dict.fromkeys(parts)) if not isinstance(parts, str) else ()
    if not wanted or (unknown := [part for part in wanted if part not in known]):
        what = f"parts has no {unknown[0]!r}" if wanted else "parts must be a list with at least one name"
        raise DataError(f"{what}: choose from {', '.join(known)}.")
    return wanted
