"""Sphinx, for the API only; the guide is mkdocs' part. `python docs/build.py` runs it."""

import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(_HERE), str(_HERE.parents[1] / "src")]

from package_pages import hidden_names  # noqa: E402

from ganblocks import __version__  # noqa: E402

project = "ganblocks"
release = version = __version__
author = "The ganblocks authors"
project_copyright = author

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.doctest",
    "sphinx.ext.coverage",
    "package_pages",
]

default_role = "py:obj"  # single backticks: a link if such a name is known, else code (package_pages._resolve)
nitpicky = True  # a role whose name is unknown is a warning
add_module_names = False
toc_object_entries_show_parents = "hide"
python_maximum_signature_line_length = 100

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_inherit_docstrings = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

coverage_show_missing_items = True
coverage_statistics_to_stdout = False
coverage_ignore_pyobjects = hidden_names()

html_theme = "alabaster"
html_theme_options = {
    "description": "API",
    "extra_nav_links": {"Guide": "../index.html"},
    "fixed_sidebar": True,
    "font_family": "system-ui, sans-serif",
    "head_font_family": "system-ui, sans-serif",
    "page_width": "1100px",
    "sidebar_width": "260px",
}
html_static_path = ["static"]
html_css_files = ["api.css"]
html_copy_source = False
html_show_sourcelink = False
