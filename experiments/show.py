"""Tables on the terminal."""

import pandas as pd
from rich.console import Console
from rich.table import Table


def print_table(title: str, table: pd.DataFrame, width: int = 200) -> None:
    """Print a table whose index names its lines."""
    shown = Table(title=title)
    for name in table.index.names:
        shown.add_column(str(name), justify="left")
    for heading in table.columns:
        shown.add_column(str(heading), justify="right")
    for line in table.reset_index().astype(str).itertuples(index=False):
        shown.add_row(*line)
    Console(width=width).print(shown)
