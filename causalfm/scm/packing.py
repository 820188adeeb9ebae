"""Fitted model to header and arrays, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from causalfm.scm.density import Density
from causalfm.scm.exogenous import NodeTable
from causalfm.scm.fitted import Fitted
from causalfm.scm.mechanisms import Mechanism
from causalfm.scm.pair_maps import PairMaps
from causalfm.scm.parents import Parents
from causalfm.scm.regression import MeanModel
from causalfm.scm.sampling_error import SamplingError
from causalfm.scm.scalar_nodes import pack_scalars, unpack_scalars

if TYPE_CHECKING:
    from causalfm.graph import CausalGraph

KIND = "causalfm.EmbeddingSCM"
_ARRAYS = ("joint", "patients", "numbers", "within", "spline_means")
_MEAN = ("coefficients", "inverse", "estimable", "scale")
_ERROR = ("loadings", "left", "right", "moment", "cells", "second", "fourth")


def pack(fitted: Fitted) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the JSON header and the arrays of a fitted model."""
    parents = fitted.mean.parents
    tensors = {name: getattr(fitted, name) for name in _ARRAYS}
    tensors |= {f"mean/{name}": getattr(fitted.mean, name) for name in _MEAN} | {"mean/knots": parents.knots}
    tensors |= {f"error/{name}": getattr(fitted.error, name) for name in _ERROR}
    tensors |= {f"noise/{name}": value for name, value in fitted.noise.tensors().items()}
    density = fitted.density
    tensors |= {"density/basis": density.basis, "density/inside": density.inside}
    nodes = {}
    for i, (name, table) in enumerate(sorted(fitted.tables.items())):
        parts = {"order": table.order, "configurations": table.configurations, "count": table.count}
        tensors |= {f"node/{i}/{part}": value for part, value in parts.items()}
        nodes[name] = {"parents": list(table.parents), "position": i}
    scalars, parts = pack_scalars(fitted.scalars)
    tensors |= parts
    header = {
        "scalars": scalars,
        "numbers": list(fitted.continuous),
        "columns": list(fitted.columns),
        "levels": [list(levels) for levels in fitted.levels],
        "categorical": list(parents.categorical),
        "continuous": list(parents.continuous),
        "crossed": [list(pair) for pair in parents.crossed],
        "outside": density.outside,
        "nodes": nodes,
        "n": fitted.n,
        "n_groups": fitted.n_groups,
        "fingerprint": fitted.fingerprint,
    }
    if fitted.pairs is not None:
        tensors |= fitted.pairs.tensors()
        header["pairs"] = fitted.pairs.header()
    return header, tensors


def unpack(header: Mapping[str, Any], tensors: Mapping[str, np.ndarray], mechanism: Mechanism) -> Fitted:
    """Rebuild a fitted model."""
    columns = tuple(header["columns"])
    known = {name: tuple(levels) for name, levels in zip(columns, header["levels"], strict=True)}
    categorical = tuple(header["categorical"])
    parents = Parents(
        categorical,
        tuple(known[name] for name in categorical),
        tuple(header["continuous"]),
        tensors["mean/knots"],
        tuple((a, b) for a, b in header["crossed"]),
    )
    noise = {name.removeprefix("noise/"): value for name, value in tensors.items() if name.startswith("noise/")}
    tables = {}
    for name, node in header["nodes"].items():
        parts = [tensors[f"node/{node['position']}/{part}"] for part in ("order", "configurations", "count")]
        causes = tuple(node["parents"])
        tables[name] = NodeTable(name, causes, known[name], tuple(known[p] for p in causes), *parts)
    return Fitted(
        mean=MeanModel(parents, *(tensors[f"mean/{name}"] for name in _MEAN)),
        noise=mechanism.restore(noise, parents),
        error=SamplingError(*(tensors[f"error/{name}"] for name in _ERROR)),
        density=Density(tensors["density/basis"], tensors["density/inside"], float(header["outside"])),
        tables=tables,
        scalars=unpack_scalars(header["scalars"], tensors, known),
        continuous=tuple(header["numbers"]),
        columns=columns,
        levels=tuple(known.values()),
        **{name: tensors[name] for name in _ARRAYS},
        n=header["n"],
        n_groups=header["n_groups"],
        fingerprint=header["fingerprint"],
        pairs=PairMaps.restore(header["pairs"], tensors) if "pairs" in header else None,
    )


def graph_header(graph: CausalGraph) -> dict[str, Any]:
    """Arguments that declare the graph again."""
    return {
        "arrows": str(graph),
        "biology": graph.biology,
        "technical": list(graph.technical),
        "group": list(graph.groups),
        "covariates": list(graph.covariates),
        "specimen": graph.specimen,
        "selected": list(graph.selected),
        "kinds": dict(graph.kinds),
        **({"declared_by": graph.declared_by} if graph.declared_by else {}),
    }
