"""``{gallery}``: thumbnails of the notebooks that are there, by theme.

A thumbnail is the last picture that a notebook shows; without one, the card has a title only.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

from docutils import nodes
from PIL import Image
from sphinx.util.docutils import SphinxDirective
from twins import BACKENDS

THEMES = {
    "Begin here": ("01", "02", "03"),
    "Images": ("04", "08"),
    "Networks whose outputs obey a law": ("07", "11"),
    "Counts and subsets": ("05", "06"),
    "Fields, flows and hierarchies": ("09", "10", "12"),
    "A base law of one's own": ("13",),
}
WIDTH = 480

CARD = """
::::{{grid-item-card}} {title}
{image}
{links}
::::
"""


def notebooks(srcdir: Path) -> dict[str, dict[str, Path]]:
    """By number of the story and backend."""
    found: dict[str, dict[str, Path]] = {}
    for backend in BACKENDS:
        for path in sorted((srcdir / "notebooks" / backend).glob("[0-9][0-9]_*.ipynb")):
            found.setdefault(path.name[:2], {})[backend] = path
    return dict(sorted(found.items()))


def title_of(notebook: dict[str, Any]) -> str:
    """Its first heading."""
    for cell in notebook["cells"]:
        for line in "".join(cell["source"]).split("\n"):
            if cell["cell_type"] == "markdown" and line.startswith("# "):
                return line[2:].strip().replace("`", "")
    return "untitled"


def picture_of(notebook: dict[str, Any]) -> bytes | None:
    """Its last picture."""
    pictures = [
        output["data"]["image/png"]
        for cell in notebook["cells"]
        for output in cell.get("outputs", ())
        if "image/png" in output.get("data", {})
    ]
    if not pictures:
        return None
    return base64.b64decode("".join(pictures[-1]))


def thumbnail(path: Path, outdir: Path) -> str | None:
    """The name of the thumbnail that is made for a notebook."""
    picture = picture_of(json.loads(path.read_text()))
    if picture is None:
        return None
    image = Image.open(io.BytesIO(picture)).convert("RGB")
    image.thumbnail((WIDTH, WIDTH))
    name = f"{path.parent.name}_{path.stem}.png"
    (outdir / "_thumbnails").mkdir(parents=True, exist_ok=True)
    image.save(outdir / "_thumbnails" / name)
    return name


class Gallery(SphinxDirective):
    """Cards under a title for each theme, and the notebooks' table of contents."""

    def run(self) -> list[nodes.Node]:
        srcdir, outdir = Path(self.env.srcdir), Path(self.env.app.outdir)
        found = notebooks(srcdir)
        self.env.note_reread()
        if not found:
            text = "The notebooks are built by `make notebooks`; none is in this checkout."
            return self.parse_text_to_nodes(text)
        known = [number for numbers in THEMES.values() for number in numbers]
        themes = {**THEMES, "More": tuple(number for number in found if number not in known)}
        lines = []
        for theme, numbers in themes.items():
            cards = [self._card(found[n], outdir) for n in numbers if n in found]
            if cards:
                lines += [
                    f"## {theme}",
                    "",
                    ":::::{grid} 1 2 2 2\n:gutter: 3\n",
                    *cards,
                    ":::::",
                    "",
                ]
        pages = [
            f"{title_of(json.loads(path.read_text()))} ({BACKENDS[backend]}) <{_page(path)}>"
            for twins in found.values()
            for backend, path in twins.items()
        ]
        lines += ["```{toctree}", ":hidden:", "", *pages, "```"]
        return self.parse_text_to_nodes("\n".join(lines), allow_section_headings=True)

    def _card(self, twins: dict[str, Path], outdir: Path) -> str:
        first = next(iter(twins.values()))
        name = thumbnail(first, outdir)
        title = title_of(json.loads(first.read_text()))
        for backend in BACKENDS.values():
            title = title.removesuffix(f" ({backend})").removesuffix(f", {backend}")
        image = f'```{{raw}} html\n<img src="_thumbnails/{name}" alt="">\n```' if name else ""
        links = " · ".join(f"[{BACKENDS[b]}](/{_page(path)})" for b, path in twins.items())
        return CARD.format(title=title, image=image, links=links)


def _page(path: Path) -> str:
    return f"notebooks/{path.parent.name}/{path.stem}"


def setup(app: Any) -> dict[str, bool]:
    app.add_directive("gallery", Gallery)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
