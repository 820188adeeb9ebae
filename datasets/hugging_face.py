"""Files of a data set on the Hugging Face hub at one revision, with the SHA-256 that the hub keeps of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from causalfm.datasets.collecting import Get
from causalfm.datasets.fetching import Progress, RemoteFile
from causalfm.errors import DataError, MissingDependencyError

_COMMIT = re.compile(r"[0-9a-f]{40}")


def hub_files(
    repository: str, revision: str, wanted: Callable[[str], bool], *, endpoint: str | None = None
) -> list[RemoteFile]:
    """Ask the hub for the files of a revision.

    Parameters
    ----------
    repository
        ``owner/name`` of a data set.
    revision
        Commit, 40 hexadecimal digits: a branch can move.
    wanted
        Says of a path whether it is wanted.
    endpoint
        Address of the hub. None: huggingface.co, or what its client is configured for.

    Returns
    -------
    list of RemoteFile
        Sorted by path. Large files carry the hub's SHA-256; small ones (tables) are tied by the commit alone and get no
        checksum here: theirs is recorded at the first download.

    Raises
    ------
    DataError
        A revision that is no commit, no access, no such revision, no file that is wanted.
    MissingDependencyError
        huggingface_hub is not installed.
    """
    if not _COMMIT.fullmatch(revision):
        raise DataError(f"revision {revision!r} is no commit (40 hexadecimal digits): a branch can move.")
    hub = _hub()
    with _said(repository):
        tree = list(
            hub.HfApi(endpoint=endpoint).list_repo_tree(
                repository, revision=revision, repo_type="dataset", recursive=True
            )
        )
    base = f"{endpoint or 'https://huggingface.co'}/datasets/{repository}/resolve/{revision}"
    found = [
        RemoteFile(e.path, f"{base}/{e.path}", e.size, f"sha256:{e.lfs.sha256}" if e.lfs else None)
        for e in tree
        if hasattr(e, "size") and wanted(e.path)
    ]
    if not found:
        raise DataError(f"{repository} has no file of these parts at revision {revision[:12]}: see the card.")
    return sorted(found, key=lambda f: f.name)


def newest_commit(repository: str, *, endpoint: str | None = None) -> str:
    """Return the commit that the hub's main branch is at now; it goes into the lock and stays the one that is used."""
    with _said(repository):
        return str(_hub().HfApi(endpoint=endpoint).dataset_info(repository).sha)


def hub_get(repository: str, revision: str, *, endpoint: str | None = None) -> Get:
    """Return what fetches a file of the hub with its own client, which resumes and knows the user's login."""
    return partial(_get, repository, revision, endpoint)


def _get(
    repository: str, revision: str, endpoint: str | None, remote: RemoteFile, folder: Path, progress: Progress | None
) -> Path:
    if progress is not None:
        progress(remote.name, 0, remote.size or 0)
    with _said(repository):
        path = _hub().hf_hub_download(
            repository, remote.name, repo_type="dataset", revision=revision, local_dir=folder, endpoint=endpoint
        )
    return Path(path)


def _hub() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.errors
    except ImportError:
        raise MissingDependencyError(
            "huggingface_hub is not installed: pip install 'causalfm[encoders]', or fetch the files by hand."
        ) from None
    return huggingface_hub


@contextmanager
def _said(repository: str) -> Iterator[None]:
    """Turn the errors of the hub's client into ours."""
    errors = _hub().errors
    spoken = (
        (errors.GatedRepoError, "needs a login with accepted terms: open its page, accept, then 'hf auth login'"),
        (errors.RepositoryNotFoundError, "is not there, or needs a login: 'hf auth login'"),
        (errors.RevisionNotFoundError, "has no such revision"),
        ((errors.HfHubHTTPError, OSError), "cannot be reached or refuses: is there a network, and room on the disk?"),
    )
    try:
        yield
    except Exception as error:
        for kinds, words in spoken:
            if isinstance(error, kinds):
                raise DataError(f"{repository} on the Hugging Face hub {words}.") from None
        raise
