"""The table of the diffusion models."""

from pathlib import Path

import pandas as pd

from experiments.diffusion.gallery import Gallery
from experiments.diffusion.methods import LINES, REFERENCE
from experiments.diffusion.pictures import draw_distances, draw_paths, draw_samples
from experiments.diffusion.settings import SHORT_STUDIES, STUDIES, Settings
from experiments.record import mean_and_spread, write_table
from experiments.show import print_table

FORMS = {
    "fid": ".3f",
    "precision": ".3f",
    "recall": ".3f",
    "coverage": ".3f",
    "agreement": ".3f",
    "bound": ".1f",
}
HEADINGS = {"fid": "FID", "agreement": "class agreement", "bound": "bound, nats"}
BY = ["data", "method", "sampler"]

NOTE = """\
{seeds} seeds (± is the standard deviation over them) of a perceptron of three layers of {hidden},
batches of {batch}. {levels} levels; DDIM uses {fewer} of them. FID: the Frechet distance on the 32
features of a small classifier, to the test images whose sums the drawn ones have (397 digits, 1,000
of other sets). Class agreement: how often the classifier finds a drawn image in the class of the
image whose sums it got. Bound: on log p(x | A x = k) of the test images, pixels in [0, 1], nats on
the subspace, with the reverse variances that are best on training images; its lines draw with the
variances given x_0 but for the one that says so. Violation: the largest |A x - k| of all runs,
pixels in [0, 1], float32. Seconds per image: of drawing, one thread of a busy machine, the fastest
run. Training images at random have other sums. What the network predicts (the image, but for a
share of the state) was chosen by another seed on digits with 2 x 2 blocks and by its test images,
for plain and for our diffusion alike; nothing else was tuned."""


def results_table(frame: pd.DataFrame, settings: Settings) -> pd.DataFrame:
    """A line for each method and sampler."""
    frame = in_order(frame.reindex(columns=[*frame, *({"bound"} - set(frame))]))
    runs = frame.groupby(BY, sort=False)
    table = mean_and_spread(frame, BY, FORMS)
    table["violation"] = runs["violation"].max().map("{:.0e}".format)
    table["seconds per image"] = runs["seconds"].min().map("{:.4f}".format).replace("nan", "")
    steps = {"DDIM": settings.fewer_levels, REFERENCE[1]: 0}
    table["steps"] = [steps.get(sampler, settings.levels) for *_, sampler in table.index]
    table["runs"] = runs.size()
    return table.rename(columns=HEADINGS)


def in_order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the studies and of the methods."""
    studies = [study.title for study in (*SHORT_STUDIES, *STUDIES)]
    places = {name: place for place, name in enumerate([REFERENCE, *LINES])}
    order = [
        (studies.index(data), places[method, sampler], seed)
        for data, method, sampler, seed in frame[[*BY, "seed"]].itertuples(index=False)
    ]
    rows = sorted(range(len(frame)), key=order.__getitem__)
    return frame.iloc[rows].reset_index(drop=True)


def write_report(
    folder: Path, name: str, settings: Settings, frame: pd.DataFrame, gallery: Gallery
) -> None:
    """Markdown, pictures, and the table on the screen."""
    note = NOTE.format(
        seeds=settings.seeds,
        hidden=settings.hidden,
        batch=settings.batch_size,
        levels=settings.levels,
        fewer=settings.fewer_levels,
    )
    table = results_table(frame, settings)
    write_table(folder / f"{name}.md", "Diffusion", note, table)
    draw_distances(folder / f"{name}.png", in_order(frame))
    draw_samples(folder / f"{name}_images.png", gallery, list(dict.fromkeys(frame["data"])))
    draw_paths(folder / f"{name}_paths.png", gallery, list(dict.fromkeys(frame["data"])))
    print_table("Diffusion", table[["FID", "coverage", "class agreement", "bound, nats"]])
