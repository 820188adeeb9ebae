"""The public data sets that have a loader: one list for the command line and the page on data."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any

from causalfm.datasets.public_set import PublicSet
from causalfm.errors import DataError

NAMES = (
    "pathorob",
    "wilds_camelyon17",
    "plism",
    "scorpion",
    "midogpp",
    "tcga_ut",
    "abide",
    "mimic_cxr",
    "chexpert",
)


def module_of(name: str) -> ModuleType:
    """Return the module of a set: ``SET``, ``graph()``, ``images()`` or ``load()``, ``download()``.

    Raises
    ------
    DataError
        A name that is not in the list.
    """
    if name not in NAMES:
        raise DataError(f"{name!r} is no public data set with a loader: choose from {', '.join(NAMES)}.")
    return import_module(f"causalfm.datasets.{name}")


def described() -> list[tuple[PublicSet, dict[str, Any]]]:
    """Return each set with the roles that its graph declares."""
    out = []
    for name in NAMES:
        module = module_of(name)
        graph = module.graph()
        roles = {
            "biology": graph.biology,
            "technical": ", ".join(graph.technical),
            "covariates": ", ".join(graph.covariates),
            "group": graph.group,
            "specimen": graph.specimen or "",
        }
        out.append((module.SET, roles))
    return out
