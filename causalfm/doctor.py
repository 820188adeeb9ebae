"""What this machine offers: versions, devices, encoders. Nothing is downloaded, nothing is changed."""

from __future__ import annotations

import os
import platform
import sys
from importlib import metadata
from pathlib import Path

from causalfm.clusters import cores
from causalfm.results import Check

PACKAGES = (
    "numpy",
    "scipy",
    "pandas",
    "scikit-learn",
    "statsmodels",
    "torch",
    "dowhy",
    "econml",
    "networkx",
    "h5py",
    "pyarrow",
    "anndata",
    "matplotlib",
)


def diagnose() -> list[Check]:
    """Look at the installation.

    Returns
    -------
    list of Check
        Python, packages, folders, torch device, memory and cores, encoders, in this order. A failed check says
        the way out in its sentence; ``details["required"]`` is False for encoders: one is enough.
    """
    return [_python(), *map(_package, PACKAGES), _folders(), _device(), _machine(), *_encoders()]


def _check(name: str, ok: bool, sentence: str, *, required: bool = True) -> Check:
    return Check(name, "pass" if ok else "fail", sentence, {"required": required})


def _python() -> Check:
    ok = (3, 11) <= sys.version_info[:2] <= (3, 13)
    found = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return _check("python", ok, found if ok else f"{found}: causalfm runs on Python 3.11 to 3.13.")


def _package(name: str) -> Check:
    try:
        return _check(name, True, metadata.version(name))
    except metadata.PackageNotFoundError:
        return _check(name, False, f"not installed: pip install {name}")


def _folders() -> Check:
    """Check the two links of a checkout, which become plain text files where symbolic links are switched off."""
    here = Path(__file__).parent
    lost = [name for name in ("datasets", "estimators") if not (here / name).is_dir()]
    sentence = "estimators and datasets are in place"
    if lost:
        sentence = f"causalfm/{' and causalfm/'.join(lost)} lost: clone again with git config core.symlinks true."
    return _check("folders", not lost, sentence)


def _device() -> Check:
    try:
        import torch
    except ImportError as error:
        return _check("device", False, f"torch cannot be imported ({type(error).__name__}): pip install torch")
    names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    return _check("device", True, ", ".join(names) or f"CPU only, {torch.get_num_threads()} threads")


def _machine() -> Check:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return _check("machine", True, f"{cores()} cores, {memory:.0f} GiB memory")


def _encoders() -> list[Check]:
    from causalfm.extraction.availability import encoder_status

    return [
        _check(f"encoder {status.name}", status.state in ("ready", "download"), status.reason, required=False)
        for status in encoder_status()
    ]
