"""The documentation site: Sphinx, MyST, Furo. ``make docs`` builds it, without a network, and takes warnings as errors.

Pages are Markdown. What the code knows better than a writer (options, keys, optimizers, presets) is written by
``generate.py`` at the start of a build and included by the pages of ``reference/``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from fairstep import __version__

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "fairstep"
release = version = __version__
copyright = "the fairstep authors, Apache-2.0"
extensions = ["myst_parser", "sphinx.ext.autodoc", "mathml"]
exclude_patterns = ["_build", "_generated"]
html_theme = "furo"
html_title = "fairstep"
html_theme_options = {"navigation_with_keys": True}
html_show_sourcelink = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_math_renderer = "mathml"
html_copy_source = False

myst_enable_extensions = ["dollarmath", "fieldlist"]
myst_heading_anchors = 3
myst_links_external_new_tab = False

autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_class_signature = "mixed"
suppress_warnings = ["misc.highlighting_failure"]  # TOML and shell fragments that are not whole files


def setup(app: object) -> None:
    from docstrings import restructure
    from generate import write

    write(HERE)
    app.connect("autodoc-process-docstring", restructure)  # type: ignore[attr-defined]
