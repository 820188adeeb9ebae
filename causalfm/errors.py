"""One exception family: what was wrong, where, and the way out.

Messages name columns, factor levels, counts and row *positions*. Values of the index and of group columns are
never part of a message: they can identify patients.
"""

from dataclasses import dataclass

SHOWN = 5  # rows named in a message


class CausalFMError(Exception):
    """Base of every error that causalfm raises on purpose."""


class DataError(CausalFMError, ValueError):
    """The cohort, a file or an argument cannot be used as it is."""


class ImageError(DataError):
    """One image cannot be used.

    Attributes
    ----------
    row
        Its position in the source, or None where an error crossed processes as text.
    cause
        What is wrong, without a name or a path.
    """

    def __init__(self, message: str, *, row: int | None = None, cause: str | None = None) -> None:
        super().__init__(message)
        self.row = row
        self.cause = cause or message


@dataclass(frozen=True)
class FailedShard:
    """Images that an extraction on a cluster could not embed.

    Attributes
    ----------
    number
        Of the shard, from 0.
    rows
        First and last row position.
    attempts
        How often it was tried.
    reason
        Of the last attempt.
    errors
        ``(row, cause)`` of the images that cannot be used, where it is their fault.
    """

    number: int
    rows: tuple[int, int]
    attempts: int
    reason: str
    errors: tuple[tuple[int, str], ...] = ()


class ShardError(DataError):
    """Some shards of an extraction could not be made; the others are kept.

    Attributes
    ----------
    failed
        One :class:`FailedShard` each.
    """

    def __init__(self, message: str, failed: tuple[FailedShard, ...] = ()) -> None:
        super().__init__(message)
        self.failed = failed


class GraphError(CausalFMError, ValueError):
    """The causal graph is malformed or does not match the data."""


class NotIdentifiedError(GraphError):
    """The question has no answer under the declared graph: a path stays open whatever is conditioned on."""


class NotComparableError(DataError, NotIdentifiedError):
    """Two columns go together on these rows: what one does cannot be told from what the other does."""


class PolicyError(CausalFMError, ValueError):
    """The policy file is malformed."""


class MissingDependencyError(CausalFMError, ImportError):
    """An optional package is needed; the message says how to install it."""


def positions(where: "list[int]") -> str:
    """Format row positions for a message: the first few, never identifiers.

    Parameters
    ----------
    where
        Row positions, in ascending order.

    Returns
    -------
    str
        For instance ``"rows 3, 9, 12 and 40 more"``.
    """
    shown = ", ".join(str(int(i)) for i in where[:SHOWN])
    rest = len(where) - SHOWN
    label = "row" if len(where) == 1 else "rows"
    return f"{label} {shown}" + (f" and {rest} more" if rest > 0 else "")
