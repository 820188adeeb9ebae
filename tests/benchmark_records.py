"""Records of benchmarks with round numbers."""

from typing import Any

ABOUT: dict[str, Any] = {
    "processor": "processor of a test",
    "architecture": "x86-64",
    "cores": 2,
    "threads": 2,
    "memory_gib": 8.0,
    "system": "Linux 6.1",
    "python": "3.11.9",
    "versions": {"causalfm": "0.1.0", "numpy": "2.4.6"},
    "peers": {"dowhy": "0.14", "torch-staintools": ""},
    "code": "0123456789abcdef",
}


def frozen() -> list[dict[str, Any]]:
    """Return a claim, a growth, and one that could not be run."""
    seen = {"run": "r", "date": "2026-01-02", "load": 0.5, "seconds": 9.0, "asked": {}}
    times = {"wall": [0.19, 0.2, 0.21], "processor": [0.3, 0.3, 0.3], "mib": 12}
    return [
        {
            "name": "scm.gcm",
            **seen,
            "status": "done",
            "threads": 2,
            "sizes": {"n": 20_000, "d": 64, "sites": 8},
            "ours": times,
            "limit": {"wall": [0.1, 0.15, 0.16], "processor": [0.2, 0.2, 0.2], "mib": 1},
            "peer": {"wall": [3.9, 4.0, 4.1], "processor": [4.0, 4.0, 4.0], "mib": 1234},
            "over_limit": {"wall": [1.2, 1.33, 1.9], "processor": [1.3, 1.4, 1.5]},
            "peer_over_ours": {"wall": [19.0, 20.0, 21.0], "processor": [13.0, 13.0, 13.0]},
            "apart": 1e-12,
            "repeats": 5,
            "process_mib": 2000,
        },
        {
            "name": "growth.rows.moments",
            **seen,
            "status": "done",
            "threads": 2,
            "sizes": {"d": 768, "sites": 16},
            "along": "n",
            "values": [64_000, 128_000, 256_000, 512_000],
            "wall": [[0.14, 0.15, 0.16], [0.3, 0.3, 0.3], [0.6, 0.6, 0.7], [1.2, 1.3, 1.4]],
            "processor": [[0.15, 0.15, 0.15], [0.3, 0.3, 0.3], [0.6, 0.6, 0.7], [1.2, 1.3, 1.4]],
            "mib": [50, 60, 70, 1080],
            "exponent": 1.02,
            "error": 0.01,
            "exponent_processor": 1.01,
            "repeats": 3,
            "process_mib": 3000,
        },
        {"name": "neighbours.gpu", **seen, "status": "not run", "reason": "this machine has no CUDA device"},
    ]
