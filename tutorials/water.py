"""Prints the water network of tutorial 09 as it stands in its script.

Needs the extra ``experiments`` (WNTR):

    python -m tutorials.water

Net3 is the example network of EPANET, in the public domain. Flows are those of EPANET's simulation
at the tenth hour, rounded to .01 L/s; diameters are in millimetres, places in hundredths of the
width of the map. A pump has the diameter of the widest pipe beside it.
"""

import base64
import tempfile
import zlib
from pathlib import Path

import numpy as np
import wntr

HOUR = 10
WIDTH = 98


def widest(model: wntr.network.WaterNetworkModel, name: str) -> float:
    """Diameter in metres of a pipe, or of the widest pipe that a pump touches."""
    pipes = dict(model.pipes())
    if name in pipes:
        return pipes[name].diameter
    link = model.get_link(name)
    beside = {
        other
        for end in (link.start_node_name, link.end_node_name)
        for other in model.get_links_for_node(end)
    }
    return max(pipes[other].diameter for other in beside & pipes.keys())


def main() -> None:
    source = Path(wntr.__file__).parent / "library" / "networks" / "Net3.inp"
    model = wntr.network.WaterNetworkModel(str(source))
    with tempfile.TemporaryDirectory() as folder:
        simulator = wntr.sim.EpanetSimulator(model)
        results = simulator.run_sim(file_prefix=str(Path(folder) / "net3"))
    flow = results.link["flowrate"].loc[3600 * HOUR]
    names = model.node_name_list  # junctions first
    place = np.array([model.get_node(name).coordinates for name in names])
    place = np.round(100 * (place - place.min(0)) / np.ptp(place[:, 0])).astype(int)
    lines = [f"{x} {y}" for x, y in place]
    for name in model.link_name_list:
        link = model.get_link(name)
        ends = names.index(link.start_node_name), names.index(link.end_node_name)
        size, litres = round(1000 * widest(model, name)), round(1000 * float(flow[name]), 2)
        lines.append(f"{ends[0]} {ends[1]} {size} {litres:g}")
    packed = base64.b85encode(zlib.compress("\n".join(lines).encode(), 9)).decode()
    for first in range(0, len(packed), WIDTH):
        print(packed[first : first + WIDTH])


if __name__ == "__main__":
    main()
