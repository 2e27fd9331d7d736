"""Cures for a broken law in the plane: ``python -m experiments.two_dimensions``.

The picture of the question: a law that breaks ``x_1 + x_2 = k``, its draws brought onto the line
by completion and by projection, and the law given that they are there.
"""

import sys
from collections.abc import Sequence

import pandas as pd
import torch

from experiments.command import parse
from experiments.record import write_table
from experiments.show import print_table
from experiments.two_dimensions.laws import METHODS, Plane, conditional_shadow, distance, shadow
from experiments.two_dimensions.picture import draw

NAME = "two_dimensions"
OURS = "conditional law (ours)"
TITLE = "A law of two variables on a line"
NOTE = """\
x ~ N({mean}, covariance) with standard deviations {deviations} and correlation {correlation},
brought onto x1 + x2 = {k}. Along the line, t counts from the point nearest to the origin: mean and
standard deviation of t, and the Kullback-Leibler divergence from the conditional law, in nats;
closed forms."""


def main(argv: Sequence[str] | None = None) -> pd.DataFrame:
    """Write the table and the picture; a row for each method."""
    options = parse(__doc__, argv)
    plane = Plane()
    shadows = {name: shadow(plane, method) for name, method in METHODS.items()}
    shadows[OURS] = conditional = conditional_shadow(plane)
    rows = [
        {
            "method": name,
            "mean of t": found.mean,
            "deviation of t": found.deviation,
            "divergence, nats": distance(found, conditional),
        }
        for name, found in shadows.items()
    ]
    table = pd.DataFrame(rows).set_index("method").round(3)
    write_table(options.folder / f"{NAME}.md", TITLE, NOTE.format(**vars(plane)), table)
    print_table(TITLE, table)
    torch.manual_seed(0)
    draw(options.folder / f"{NAME}.png", plane, shadows)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
