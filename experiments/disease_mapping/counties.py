"""Sudden infant deaths in the counties of North Carolina, 1974-78 and 1979-84.

The data of Cressie (1993, *Statistics for Spatial Data*, pages 386-389), the map and the lists of
neighbours, come with the package libpysal (its example ``sids2``).
"""

from dataclasses import dataclass
from functools import cache

import geopandas
import numpy as np
from libpysal.examples import get_path
from libpysal.io import open as open_map
from scipy import sparse

PERIODS = ("74", "79")


@dataclass(frozen=True, eq=False)
class Counties:
    """A map with counts.

    Attributes:
        map: the polygons.
        adjacency: ``(n, n)`` 1 for neighbours.
        deaths: ``(n,)``.
        expected: ``(n,)`` deaths at the rate of the whole state.
    """

    map: geopandas.GeoDataFrame
    adjacency: sparse.csr_array
    deaths: np.ndarray
    expected: np.ndarray

    @property
    def raw_risk(self) -> np.ndarray:
        """``(n,)`` deaths over expected ones."""
        return self.deaths / self.expected


@cache
def load(period: str = PERIODS[0]) -> Counties:
    """The 100 counties in a period, by the last digits of its first year."""
    frame = geopandas.read_file(get_path("sids2.shp"))
    stream = open_map(get_path("sids2.gal"))
    neighbours = stream.read().neighbors
    stream.close()
    place = {int(code): i for i, code in enumerate(frame["FIPSNO"])}
    pairs = np.array(
        [(place[int(one)], place[int(other)]) for one, near in neighbours.items() for other in near]
    )
    size = len(frame)
    adjacency = sparse.csr_array((np.ones(len(pairs)), pairs.T), shape=(size, size))
    deaths, births = (frame[name + period].to_numpy(dtype=float) for name in ("SID", "BIR"))
    return Counties(frame, adjacency, deaths, births * deaths.sum() / births.sum())
