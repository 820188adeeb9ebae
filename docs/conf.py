"""Configuration of the documentation: ``make docs`` builds it offline, and warnings are errors."""

import os
import sys
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
os.environ.setdefault("OMP_NUM_THREADS", "1")

project = "causalfm"
author = "the authors of causalfm"
copyright = "the authors of causalfm, Apache-2.0"
release = version = import_module("causalfm").__version__  # of this checkout, installed or not

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_gallery.gen_gallery",
    "api_pages",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build", "concepts/**", "**/sg_execution_times.rst", "sg_execution_times.rst"]
suppress_warnings = ["ref.python"]  # names of attributes are no links: several classes have a "kind"
nitpicky = False  # types in signatures are those of numpy, pandas and torch, whose inventories need a network

myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]

autodoc_typehints_format = "short"
autodoc_typehints = "description"  # beside what a parameter means; signatures stay short
autodoc_typehints_description_target = "documented"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_custom_sections = ["Assumptions"]
napoleon_use_ivar = True  # attributes of a result are fields of its entry, not entries of their own
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

sphinx_gallery_conf = {
    "examples_dirs": "concepts",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "min_reported_time": 3600,
    "write_computation_times": False,
    "within_subsection_order": "FileNameSortKey",
    "remove_config_comments": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "causalfm"
html_static_path = ["_static"]
html_css_files = ["layout.css"]
html_copy_source = False
html_show_sourcelink = False
html_theme_options = {
    "header_links_before_dropdown": 7,
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "show_prev_next": False,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "collapse_navigation": True,
    "navigation_with_keys": False,
}
