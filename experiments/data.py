"""Where data files lie that are not part of this repository."""

import os
from pathlib import Path

__all__ = ["find_data"]


def find_data(name: str) -> Path | None:
    """The file of that name in the folder that CONSTRAINED_DATA names, else in ``data`` or beside
    the repository, if anywhere."""
    folders = [os.environ.get("CONSTRAINED_DATA", "data"), "../shared/data"]
    return next((path for folder in folders if (path := Path(folder) / name).is_file()), None)
