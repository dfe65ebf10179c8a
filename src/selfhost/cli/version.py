"""`selfhost version`: what is installed here, for bug reports and scripts."""

import platform
from importlib import metadata

import click

from selfhost import __version__
from selfhost.cli import options, output

REPORTED = ("click", "huggingface-hub", "nvidia-ml-py", "pydantic", "uv", "uvloop")


@click.command(epilog=options.examples("selfhost version", "selfhost version --json"))
@options.as_json
def version(*, as_json: bool) -> None:
    """Show the versions of selfhost and of what it uses."""
    packages = {name: metadata.version(name) for name in REPORTED}
    if as_json:
        output.json_document({"selfhost": __version__, "python": platform.python_version(), "packages": packages})
        return
    rows = [("selfhost", __version__), ("python", platform.python_version()), *packages.items()]
    output.table(("component", "version"), rows)
