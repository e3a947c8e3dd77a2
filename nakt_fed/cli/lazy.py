"""A group of commands whose modules are imported only when they are called: `nakt --help` answers at once."""

import importlib
from typing import Any

import click


class Lazy(click.Group):
    """Takes `lazy`: {command: (module, help line)}; the module holds the command under its name."""

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **settings: Any) -> None:
        super().__init__(*args, **settings)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.lazy:
            return None
        command = getattr(importlib.import_module(self.lazy[cmd_name][0]), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self.lazy.items()])
