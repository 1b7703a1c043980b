"""The command line for the tests of this folder."""

from collections.abc import Callable

import pytest
from small_sets import Said

from tascnet.cli import main


@pytest.fixture
def tascnet(capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Calls the command line as a shell does."""

    def call(*arguments: object) -> Said:
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse
            code = ended.code
        captured = capsys.readouterr()
        return Said(code, captured.out, captured.err)

    return call
