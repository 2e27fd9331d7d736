"""The table and the pictures of the diffusion models."""

from pathlib import Path

import pandas as pd

from experiments.diffusion.gallery import Gallery
from experiments.diffusion.settings import Settings


def write_report(
    folder: Path, name: str, settings: Settings, frame: pd.DataFrame, gallery: Gallery
) -> None:
    """Later."""
