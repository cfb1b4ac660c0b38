"""Commands that other packages add to `earthgen`.

A package offers a typer app as an entry point of the group `earthgen.commands`; the entry point's name is the
command's. So the command line can do more than this package knows of, and this package imports none of the others. An
app is imported when its command is run or listed, so it has to be light.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup

from earthgen.errors import EarthgenError

GROUP = "earthgen.commands"


class PluggableGroup(TyperGroup):
    """A group of commands of its own and of the installed packages; its own win."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, own ones first."""
        own = super().list_commands(ctx)
        return [*own, *sorted(_offered().keys() - own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """A command by name, or None."""
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in _offered():
            return own
        try:
            app = _offered()[cmd_name].load()
        except ImportError as error:
            return _broken(cmd_name, f"the command {cmd_name} cannot be loaded: {error}")
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command


def _broken(name: str, why: str) -> TyperCommand:
    """A command that only says why it is none: the others are to be listed and to work all the same."""

    def complain() -> NoReturn:
        raise EarthgenError(why)

    anything = {"ignore_unknown_options": True, "allow_extra_args": True}
    return TyperCommand(name, callback=complain, help=f"({why})", add_help_option=False, context_settings=anything)


@cache
def _offered() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=GROUP)}
