"""Configuration of Sphinx, for `make docs`."""

import re
from importlib import import_module, metadata

from docutils import nodes
from pydantic import BaseModel
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
autodoc_type_aliases = {
    name: name
    for name in ("Vectors", "Embedding", "Kind", "OnError", "LongText", "Answer", "Answers", "NodeT", "Handler")
}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_rtype = False
napoleon_use_ivar = True

html_theme = "furo"
html_title = f"embed-core {release}"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_copy_source = False


DOCUMENTED = (
    "embed_core.bridges.langchain",
    "embed_core.index",
    "embed_core.instrumentation.otel",
    "embed_core.provider",
    "embed_core.testing",
    "embeddings_huggingface",
    "embeddings_openai",
    "embeddings_openai.presets",
    "embeddings_openai.testing",
)


class Commands(SphinxDirective):
    """Shows the help text of every command, so that the reference is always up to date."""

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
    """Turn fenced examples in docstrings into code blocks; Sphinx reads docstrings as reStructuredText."""
    text = re.sub(
        r"^( *)```(\w+)\n(.*?)^ *```$",
        lambda match: f"{match[1]}.. code-block:: {match[2]}\n\n" + re.sub("^", "    ", match[3], flags=re.MULTILINE),
        "\n".join(lines),
        flags=re.MULTILINE | re.DOTALL,
    )
    lines[:] = text.split("\n")


def fields_as_arguments(_app, what, _name, cls, _options, signature, returns):
    """Show the fields of a model with their defaults; the docstring has their types."""
    if what == "class" and issubclass(cls, BaseModel) and signature:
        fields = (
            name
            if field.is_required()
            else f"{name}={field.get_default(call_default_factory=True, validated_data={})!r}"
            for name, field in cls.model_fields.items()
        )
        return f"(*, {', '.join(fields)})", None
    return signature, returns


def setup(app):
    for module in DOCUMENTED:  # autodoc itself imports with `TYPE_CHECKING` set, which pydantic models cannot bear
        import_module(module)
    app.connect("autodoc-process-signature", fields_as_arguments)
    app.connect("autodoc-process-docstring", fences_to_blocks, priority=100)
    app.add_directive("commands", Commands)
