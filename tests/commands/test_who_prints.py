"""Printing is the business of commands: the library reports to an observer."""

import re
from pathlib import Path

import tascnet

PACKAGE = Path(tascnet.__file__).parent
PRINTS = re.compile(r"^\s*(?:import rich\b|from rich\b)|(?<!\w)print\(", re.MULTILINE)


def printing() -> set[str]:
    """Modules that import rich or print, as paths in the package."""
    return {str(path.relative_to(PACKAGE)) for path in PACKAGE.rglob("*.py") if PRINTS.search(path.read_text("utf-8"))}


def test_commands_print():
    assert {"commands/info.py", "commands/console.py", "commands/last_resort.py"} <= printing()


def test_nothing_else_does():
    assert not {name for name in printing() if not name.startswith("commands/") and name != "cli.py"}


def test_the_command_line_is_a_table():
    assert len((PACKAGE / "cli.py").read_text("utf-8").splitlines()) <= 80
