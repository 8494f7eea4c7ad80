"""How the documentation is built: `make docs`."""

import re
from importlib import import_module, metadata

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

project = "embed-core"
author = "The embed-core authors"
project_copyright = author
release = metadata.version("embed-core")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

default_role = "code"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_default_options = {"members": True, "exclude-members": "model_config, model_post_init"}
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False

html_theme = "furo"
html_title = f"embed-core {release}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False


class Commands(SphinxDirective):
    """Shows the help of every command, so that the reference cannot drift from it."""

    def run(self) -> list[nodes.Node]:
        import click
        from embed_core.cli import main

        def sections(command, name):
            context = click.Context(command, info_name=name, max_content_width=88, terminal_width=88)
            section = nodes.section(ids=[nodes.make_id(name)])
            section += nodes.title(text=name)
            section += nodes.literal_block(text=command.get_help(context), language="text")
            if isinstance(command, click.Group):
                for inner in command.list_commands(context):
                    section += sections(command.get_command(context, inner), f"{name} {inner}")
            return section

        return [sections(main, "embed")]


def fences_to_blocks(_app, _what, _name, _object, _options, lines):
    """Let the fenced examples of docstrings be code blocks; Sphinx reads docstrings as reStructuredText."""
    text = re.sub(
        r"^( *)```(\w+)\n(.*?)^ *```$",
        lambda match: f"{match[1]}.. code-block:: {match[2]}\n\n" + re.sub("^", "    ", match[3], flags=re.MULTILINE),
        "\n".join(lines),
        flags=re.MULTILINE | re.DOTALL,
    )
    lines[:] = text.split("\n")


def setup(app):
    for module in ("embed_core", "embed_core.testing"):
        import_module(module)
    app.connect("autodoc-process-docstring", fences_to_blocks, priority=100)
    app.add_directive("commands", Commands)
