"""Progress on a terminal and elsewhere."""

from io import StringIO

import pytest
from rich.console import Console
from rich.table import Table

from tascnet.commands import console as display
from tascnet.commands.console import cell, duration, progress_bar
from tascnet.errors import escape_controls
from tascnet.progress import SILENT

SHOW_CURSOR, HIDE_CURSOR = "\x1b[?25h", "\x1b[?25l"


def shown(console: Console) -> str:
    return console.file.getvalue()  # type: ignore[attr-defined]


@pytest.fixture
def terminal() -> Console:
    return Console(file=StringIO(), force_terminal=True, width=80, color_system=None)


@pytest.fixture
def pipe() -> Console:
    return Console(file=StringIO())


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (59.6, "0:01:00"), (3725, "1:02:05"), (86399, "23:59:59"), (2 * 86400 + 3661, "2 d 1:01:01")],
)
def test_durations(seconds: float, text: str):
    assert duration(seconds) == text


def test_a_plain_line_where_there_is_no_terminal(pipe: Console, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(display, "SECONDS_BETWEEN_LINES", 0)
    with progress_bar(pipe, "training", 9) as bar:
        bar.update(3, "total 1.50\n2.0 images/s", seconds_left=65)
        bar.move(4)
        bar.update(5, "total [red]")
    assert shown(pipe) == "training 3/9  total 1.50  2.0 images/s  eta 0:01:05\ntraining 5/9  total [red]\n"


def test_lines_are_rare_but_for_the_last(pipe: Console):
    with progress_bar(pipe, "validation", 50) as bar:
        for done in range(1, 51):
            bar.update(done)
    assert shown(pipe).splitlines() == ["validation 50/50"]


def test_on_a_terminal_notes_are_below_the_bar_and_whole(terminal: Console):
    note = "total 1.50  " + "x" * 60 + "\n2.0 images/s"
    with progress_bar(terminal, "training", 9) as bar:
        bar.update(3, note, seconds_left=65)
        bar.move(4)
    last_frame = shown(terminal).split("training ")[-1]
    lines = [line.rstrip() for line in last_frame.split("\n")]
    assert "4/9" in lines[0]
    assert lines[0].endswith("eta 0:01:05")
    assert lines[1] == "  total 1.50  " + "x" * 60
    assert lines[2].startswith("  2.0 images/s")


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_the_terminal_is_left_as_it_was(terminal: Console, error: type[BaseException]):
    def fail_within_a_validation() -> None:
        with progress_bar(terminal, "training", 9) as outer, progress_bar(terminal, "validation", 2) as inner:
            outer.update(1)
            inner.update(1)
            raise error

    with pytest.raises(error):
        fail_within_a_validation()
    text = shown(terminal)
    assert HIDE_CURSOR in text
    assert text.rfind(SHOW_CURSOR) > text.rfind(HIDE_CURSOR)


@pytest.mark.parametrize("text", ["\x1b[31mred\x07", "[red]x[/red]", "\u202eabc", "a\x9bb"])
def test_cells_show_text_as_it_is_without_its_commands(text: str):
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_row(cell(text))
    console = Console(file=StringIO(), width=80)
    console.print(table)
    assert shown(console).strip() == escape_controls(text)


def test_an_observer_prints_messages_as_they_are_and_opens_bars(pipe: Console, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(display, "SECONDS_BETWEEN_LINES", 0)
    observer = display.ConsoleObserver(pipe)
    observer.message("a/long/path [red] \x1b[31m")
    with observer.job("reading", 2) as job:
        job.update(2)
    assert shown(pipe) == "a/long/path [red] \\x1b[31m\nreading 2/2\n"


def test_silence_takes_the_same_calls(capsys: pytest.CaptureFixture[str]):
    SILENT.message("text")
    with SILENT.job("reading", 2, done=1) as job:
        job.update(1, "note", seconds_left=3.0)
        job.move(2)
    assert capsys.readouterr() == ("", "")
