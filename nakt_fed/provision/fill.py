"""A kit's files from the templates beside this module."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from nakt_fed import __version__
from nakt_fed.provision.made import Made

AUTHORITY = {"README.md": "authority.md.j2"}
COORDINATOR = {
    "README.md": "coordinator.md.j2",
    "nginx.conf": "nginx.conf.j2",
    "nakt-coordinator.service": "nakt-coordinator.service.j2",
    "nakt-proxy.service": "nakt-proxy.service.j2",
    "Containerfile": "Containerfile.j2",
}
SITE = {
    "README.md": "site.md.j2",
    "site.toml": "site.toml.j2",
    "nakt-site.service": "nakt-site.service.j2",
    "nakt-supernode.service": "nakt-supernode.service.j2",
    "nakt-site-simple.service": "nakt-site-simple.service.j2",
    "Containerfile": "Containerfile.j2",
}


def fill(made: Made, kit: str, templates: dict[str, str], **values: Any) -> None:
    """Write a kit's files, {file: template}, with `values` and the version filled in."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # no page: names and hosts were checked to be plain
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    for name, template in templates.items():
        text = environment.get_template(template).render(version=__version__, **values)
        made.file(f"{kit}/{name}", text.encode())
