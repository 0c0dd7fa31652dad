"""The site: `uv run --group docs sphinx-build -W docs build/site`."""

import sys
import tomllib
from pathlib import Path

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS / "_ext"))

from generated import LONG_NOTEBOOKS, REPOSITORY  # noqa: E402

PROJECT = tomllib.loads((DOCS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = PROJECT["name"]
author = PROJECT["authors"][0]["name"]
copyright = author
release = version = PROJECT["version"]

extensions = [
    "generated",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_ext", "viewer/node_modules", "viewer/example"]

# Markdown
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header"]  # the generated reference begins below its page's title

# Notebooks are committed without outputs. The tests execute the long ones, and the build the quick ones.
nb_execution_mode = "auto"
nb_execution_excludepatterns = [f"notebooks/{name}.ipynb" for name in LONG_NOTEBOOKS]
nb_execution_raise_on_error = True
nb_execution_timeout = 120
nb_execution_cache_path = str(DOCS.parent / "build" / "notebooks")

# The Python reference
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
python_maximum_signature_line_length = 88

# Appearance
smartquotes = False  # options begin with two hyphens
html_theme = "furo"
html_title = f"{project} {version}"
html_theme_options = {
    "source_repository": f"{REPOSITORY}/",
    "source_branch": "main",
    "source_directory": "docs/",
}
copybutton_prompt_text = r"\$ "
copybutton_prompt_is_regexp = True
