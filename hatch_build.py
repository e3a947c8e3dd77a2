"""Puts the Flower apps into a wheel, under nakt_fed/_app: their names are too general to be packages of their own.

Not into an editable install: there they lie beside nakt_fed, and a folder of that name would hide the checkout.
"""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

APPS = ("server", "sites", "simulation", "pyproject.toml")


class AppsInside(BuildHookInterface):  # type: ignore[misc,type-arg,unused-ignore]
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version != "editable":
            build_data["force_include"].update({name: f"nakt_fed/_app/{name}" for name in APPS})
