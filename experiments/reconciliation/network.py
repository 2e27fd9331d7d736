"""Net3, the example network of EPANET: its law, its flows over a week, and a few meters."""

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

with np.printoptions():  # importing it would change how every array is printed
    import wntr

LITRES = 1e3
"""Per cubic metre: flows are in litres per second."""


@dataclass(frozen=True, eq=False)
class Network:
    """Junctions, links, and a simulated week in hourly steps.

    Attributes:
        incidence: ``(97, 119)``, what each node gains from each link: junctions first, then the
            reservoirs and tanks.
        num_junctions: 92.
        area: ``(119,)`` cross-section of each link, as its flow in L/s at 1 m/s.
        inflow: ``(169, 97)`` L/s that each node takes: demand of a junction.
        flow: ``(169, 119)`` L/s, as simulated, in single precision.
        ends: ``(119, 2, 2)`` where each link begins and ends, on the map.
    """

    incidence: np.ndarray
    num_junctions: int
    area: np.ndarray
    inflow: np.ndarray
    flow: np.ndarray
    ends: np.ndarray

    @property
    def balance(self) -> np.ndarray:
        """``(92, 119)`` rows of the junctions alone: what is asked of flows in L/s."""
        return self.incidence[: self.num_junctions]

    @cached_property
    def unit(self) -> float:
        """L/s in the median link at 1 m/s. Rows of the law are in these units."""
        return float(np.median(self.area))

    @property
    def A(self) -> np.ndarray:
        """``(92, 119)`` balance as a law of velocities in m/s."""
        return self.balance * self.area / self.unit

    @property
    def k(self) -> np.ndarray:
        """``(169, 92)`` demand of each junction."""
        return self.inflow[:, : self.num_junctions] / self.unit


def load_network() -> Network:
    """Simulate the network that WNTR ships."""
    model = wntr.network.WaterNetworkModel(_inp_file())
    with tempfile.TemporaryDirectory() as folder:
        simulator = wntr.sim.EpanetSimulator(model)
        results = simulator.run_sim(file_prefix=str(Path(folder) / "net3"))
    nodes, links = model.node_name_list, model.link_name_list
    return Network(
        incidence=_incidence(model),
        num_junctions=model.num_junctions,
        area=_areas(model),
        inflow=LITRES * results.node["demand"][nodes].to_numpy(np.float64),
        flow=LITRES * results.link["flowrate"][links].to_numpy(np.float64),
        ends=np.array([[end.coordinates for end in _end_nodes(model, name)] for name in links]),
    )


def _inp_file() -> str:
    return str(Path(wntr.__file__).parent / "library" / "networks" / "Net3.inp")


def _incidence(model: wntr.network.WaterNetworkModel) -> np.ndarray:
    row = {name: i for i, name in enumerate(model.node_name_list)}
    incidence = np.zeros((model.num_nodes, model.num_links))
    for column, (_, link) in enumerate(model.links()):
        incidence[row[link.end_node_name], column] += 1
        incidence[row[link.start_node_name], column] -= 1
    return incidence


def _end_nodes(model: wntr.network.WaterNetworkModel, link: str) -> list:
    ends = model.get_link(link)
    return [ends.start_node, ends.end_node]


def _areas(model: wntr.network.WaterNetworkModel) -> np.ndarray:
    """Cross-sections; a pump has that of the widest pipe beside it."""
    pipe_area = {name: LITRES * np.pi / 4 * pipe.diameter**2 for name, pipe in model.pipes()}

    def area(name: str) -> float:
        if name in pipe_area:
            return pipe_area[name]
        pump = model.get_link(name)
        ends = (pump.start_node_name, pump.end_node_name)
        beside = {link for end in ends for link in model.get_links_for_node(end)}
        return max(pipe_area[link] for link in beside if link in pipe_area)

    return np.array([area(name) for name in model.link_name_list])
