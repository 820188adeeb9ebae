"""What every loader of a public set must return: images that open after a trip, and a table that its graph fits."""

import pickle

import numpy as np

import causalfm as cfm
from causalfm.extraction import open_images


def seen(images):
    """Open what a loader returned as ``extract`` does, after a trip to a worker; read first and last."""
    source = pickle.loads(pickle.dumps(open_images(images)))
    assert source.read(0).mode == source.read(len(source) - 1).mode == "RGB"
    return source


def fits(graph, obs):
    """Check the declared roles against the table, with embeddings of noise."""
    X = np.random.default_rng(0).standard_normal((len(obs), 3)).astype(np.float32)
    graph.check(cfm.Cohort(X, obs.reset_index(drop=True)))
