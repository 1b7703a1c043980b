"""The help of tascnet data is complete, and quick."""

import subprocess
import sys
from collections.abc import Callable

import pytest
from said import Said

from tascnet.commands.data import ACTIONS


@pytest.mark.parametrize("action", ["check", "stats", "convert", "augment"])
def test_every_option_is_described(tascnet: Callable[..., Said], action: str) -> None:
    said = tascnet("data", action, "--help")
    assert said.code == 0
    for option in ACTIONS[action].parser()._actions:
        assert (option.option_strings[0] if option.option_strings else option.dest) in said.out
        assert option.help, f"{action} {option.dest} has no description"


def test_every_action_is_listed(tascnet: Callable[..., Said]) -> None:
    said = tascnet("data", "--help")
    assert all(action in said.out for action in ("check", "stats", "convert", "augment"))
    assert tascnet("data").code == 2


def test_only_settings_of_files_are_asked_for(tascnet: Callable[..., Said]) -> None:
    assert "--seed" not in tascnet("data", "check", "--help").out
    assert "coco, cityscapes, vistas, png_pairs" in " ".join(tascnet("data", "convert", "--help").out.split())


def test_torch_is_not_loaded_for_it() -> None:
    code = (
        "import sys; from tascnet.cli import main\n"
        "try: main(['data', 'check', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(any(name in sys.modules for name in ('torch', 'numpy', 'rich')))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
