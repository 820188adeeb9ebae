"""Biology-by-factor interaction of the mean, with scales of the residual per level."""

from __future__ import annotations

from causalfm.scm.location_scale import LocationScale


class InteractionLocationScale(LocationScale):
    """Location-scale noise around a mean with shrunken biology x factor effects."""

    coupling = (
        "rank-preserving in each dimension around a mean in which biology changes the effects of technical factors"
    )
    crossed = True
