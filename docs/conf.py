"""Sphinx settings; `make docs` builds the pages and takes every warning for an error."""

from __future__ import annotations

import importlib.metadata

project = "otoscope"
author = "The otoscope developers"
copyright = "2026, The otoscope developers"
release = importlib.metadata.version("otoscope")
version = release

extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["_build", "results/*/*"]
nitpicky = True

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 4

html_theme = "furo"
html_title = "otoscope"
html_copy_source = False
