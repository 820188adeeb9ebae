"""Answers of web servers: over https, from hosts that were named, with errors that say what can be done."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import urlsplit

from causalfm.errors import DataError

TIMEOUT = 60.0  # seconds
LOOPBACK = ("127.0.0.1", "localhost", "::1")
DENIED, GONE, UNSATISFIABLE = (401, 403), (404, 410), 416


class CutError(Exception):
    """The connection ended before the file did, or the server was busy: worth another attempt."""


class NothingLeftError(Exception):
    """The server says that a file does not go on where we want to go on."""


def read_text(url: str, hosts: tuple[str, ...] = (), limit: int = 2**25) -> str:
    """Return a small text, such as the listing of a record.

    Raises
    ------
    DataError
        No answer, an answer that is not UTF-8, or one of more than ``limit`` bytes.
    """
    try:
        with opened(url, hosts, {}) as answer:
            content: bytes = answer.read(limit + 1)
    except (CutError, http.client.HTTPException, OSError) as error:
        reason = str(error) if isinstance(error, CutError) else f"{host_of(url)} broke off ({type(error).__name__})"
        raise DataError(f"{reason}: is there a network?") from None
    if len(content) > limit:
        raise DataError(f"{host_of(url)} answers with more than {limit} bytes, where a short list was expected.")
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        raise DataError(f"{host_of(url)} answers with something that is no UTF-8 text.") from None


def opened(url: str, hosts: tuple[str, ...], headers: dict[str, str]) -> Any:
    """Return the answer of a server, to be used in a ``with``.

    Parameters
    ----------
    url
        https; plain http to this machine only.
    hosts
        Hosts beside that of the address which may take over by redirection; ``".example.org"`` means all below it.
    headers
        Beside the usual ones.

    Raises
    ------
    DataError
        Another scheme, a host that was not named, access refused, no such file.
    CutError, NothingLeftError
        See there.
    """
    _refuse_address(url)
    request = urllib.request.Request(url, headers={"User-Agent": "causalfm", "Accept-Encoding": "identity", **headers})
    opener = urllib.request.build_opener(_Redirects((host_of(url), *hosts)))
    try:
        return opener.open(request, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code in DENIED:
                raise DataError(
                    f"{host_of(url)} refuses access (HTTP {error.code}): the file needs a login or an application."
                ) from None
            if error.code == UNSATISFIABLE:
                raise NothingLeftError(error.headers.get("Content-Range", "")) from None
            if error.code in GONE:
                raise DataError(
                    f"{host_of(url)} has no such file any more (HTTP {error.code}): see the card."
                ) from None
            raise CutError(f"{host_of(url)} answers with HTTP {error.code}") from None
    except urllib.error.URLError as error:
        raise CutError(f"{host_of(url)} cannot be reached ({type(error.reason).__name__})") from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to named hosts only: an address that was taken over must not choose where data come from."""

    def __init__(self, hosts: tuple[str, ...]) -> None:
        self.hosts = hosts

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        _refuse_address(newurl)
        host = host_of(newurl)
        if not any(host == name or (name.startswith(".") and host.endswith(name)) for name in self.hosts):
            raise DataError(
                f"{host_of(req.full_url)} sends on to {host}, a host that was not named: if you trust it, allow it "
                f"with hosts=({host!r},), or --allow-host {host} on the command line."
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _refuse_address(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise DataError(f"an address of {parts.scheme or 'no scheme'} is not fetched: files come over https only.")


def host_of(url: str) -> str:
    """Return the host of an address; on this machine with its port, which tells servers apart there."""
    parts = urlsplit(url)
    return parts.netloc if parts.hostname in LOOPBACK else parts.hostname or ""
