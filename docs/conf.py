"""Sphinx configuration; ``make docs`` builds the site to ``build/docs``."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "docs" / "_ext")]

from constrained_core import __version__  # noqa: E402

project = "Constrained distributions"
author = "the authors of constrained-distributions"
copyright = author
version = release = __version__
root_doc = "index"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "matplotlib.sphinxext.plot_directive",
    # ours, in _ext
    "error_catalogue",
    "formulas",
    "gallery",
    "local_mathjax",
    "plain_docstrings",
    "twins",
]
exclude_patterns = ["_ext", "_static", "_templates", "figures", "snippets", "**/.ipynb_checkpoints"]
templates_path = ["_templates"]
nitpicky = False
smartquotes = False  # a prime is a transpose
suppress_warnings = [
    # Pages that code hosts show as well have links of their kind, to files that are no pages here.
    "myst.xref_missing",
    # A notebook may begin with a heading of any level.
    "myst.header",
    # Notebooks keep outputs for several formats, of which a page shows one.
    "mystnb.unknown_mime_type",
]

# Markdown and notebooks

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
myst_links_external_new_tab = False
nb_execution_mode = "off"  # outputs of notebooks are committed and tested elsewhere
nb_render_markdown_format = "myst"

# Figures are made by the scripts in figures/, with what the pages tell of.

plot_basedir = str(ROOT / "docs")
plot_include_source = False
plot_html_show_formats = False
plot_html_show_source_link = False
plot_formats = [("svg", 100)]
plot_apply_rcparams = True
GREY = "#808890"  # reads on white and on black
plot_rcparams = {
    "figure.figsize": (6.4, 3.2),
    "figure.constrained_layout.use": True,
    "savefig.transparent": True,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), GREY
    ),
}

# Reference

autosummary_generate = True
autodoc_typehints = "none"  # docstrings give types and shapes
autodoc_member_order = "groupwise"
autodoc_inherit_docstrings = False
autoclass_content = "class"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_custom_sections = [("Shapes", "notes_style")]

# HTML

html_theme = "pydata_sphinx_theme"
html_title = project
toc_object_entries_show_parents = "hide"
html_context = {"default_mode": "auto"}
html_favicon = "_static/favicon.svg"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "header_links_before_dropdown": 6,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "show_prev_next": True,
    "show_nav_level": 1,
    "footer_start": ["copyright"],
    "footer_end": [],
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}
ALONE = "index which_law gallery performance experiments errors how_it_works contributing changelog"
html_sidebars = {page: [] for page in (*ALONE.split(), "bibliography")}  # pages without a section
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
