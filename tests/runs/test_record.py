"""metrics.jsonl: what was logged is read again, whatever the end of the file looks like."""

import json
import math
import os
from pathlib import Path

import pytest

from tascnet.errors import InputError
from tascnet.runs.folder import RunFolder
from tascnet.runs.record import METRICS, Metrics, metrics_line, parse_line, read_metrics


def written(folder: Path, text: str | bytes) -> Metrics:
    (folder / METRICS).write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_metrics(folder)


def test_there_and_back(tmp_path: Path):
    metrics = written(tmp_path, metrics_line(1, {"lr": 0.5, "loss/total": 2.0}) + metrics_line(3, {"val/pq": None}))
    assert metrics == Metrics(({"step": 1, "lr": 0.5, "loss/total": 2.0}, {"step": 3, "val/pq": None}))
    assert metrics.names() == ["lr", "loss/total"]  # val/pq has no value yet
    assert metrics.series("lr") == ([1], [0.5])
    assert metrics.series("nothing") == ([], [])
    steps, values = metrics.series("val/pq")
    assert steps == [3]
    assert math.isnan(values[0])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None])
def test_what_is_no_number_is_null(value: float | None):
    assert metrics_line(7, {"lr": value}) == '{"step": 7, "lr": null}\n'


def test_nan_of_earlier_versions(tmp_path: Path):
    assert written(tmp_path, '{"step": 1, "lr": NaN, "val/pq": Infinity}\n').lines == (
        {"step": 1, "lr": None, "val/pq": None},
    )


@pytest.mark.parametrize("end", ["", "{", '{"step": 2, "lr"', '{"step": 2, "lr": 0.', "\n", b"\xff\xfe"])
def test_a_last_line_cut_short_is_no_matter(tmp_path: Path, end: str | bytes):
    end = end if isinstance(end, bytes) else end.encode()
    assert written(tmp_path, b'{"step": 1, "lr": 0.5}\n' + end) == Metrics(({"step": 1, "lr": 0.5},))


def test_broken_lines_are_counted(tmp_path: Path):
    assert written(tmp_path, '{"step": 1}\nxx\n\n[3]\n{"step": 4}\n') == Metrics(({"step": 1}, {"step": 4}), (2, 4))


@pytest.mark.parametrize(
    "text",
    ["", "3", "null", '{"lr": 1}', '{"step": 0}', '{"step": true}', '{"step": 1.5}', '{"step": "1"}', "[" * 9999],
)
def test_no_line_of_metrics(text: str):
    assert parse_line(text) is None


def test_only_numbers_are_kept():
    text = json.dumps({"step": 1, "a": 1, "b": 1.5, "c": None, "d": "x", "e": True, "f": [1]})
    assert parse_line(text) == {"step": 1, "a": 1, "b": 1.5, "c": None}


def test_no_file_yet(tmp_path: Path):
    assert read_metrics(tmp_path) == Metrics(())


def test_a_file_that_cannot_be_read(tmp_path: Path):
    (tmp_path / METRICS).mkdir()
    with pytest.raises(InputError, match=r"metrics.jsonl cannot be read: Is a directory. Check"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("broken", ["[" * 100_000, '{"step": ' + "9" * 5000 + "}", '{"step": 2, "a": ' + "[" * 99_999])
def test_lines_that_are_deep_or_huge(tmp_path: Path, broken: str):
    metrics = written(tmp_path, f'{{"step": 1, "lr": 1e999, "loss": NaN, "x": -Infinity}}\n{broken}\n{{"step": 3}}\n')
    assert metrics == Metrics(({"step": 1, "lr": None, "loss": None, "x": None}, {"step": 3}), (2,))


def test_a_named_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / METRICS)
    with pytest.raises(InputError, match="is a named pipe"):
        read_metrics(tmp_path)


@pytest.mark.parametrize("content", [b"\xbd\xff\n", b"PK\x03\x04\x85\n\x00", b"\xff\xfe{\x00"])
def test_a_run_goes_on_whose_metrics_are_no_text(tmp_path: Path, content: bytes):
    """Resuming drops the lines that cannot be read, and keeps the others."""
    (tmp_path / METRICS).write_bytes(content + b'\n{"step": 1, "lr": 0.5}\n{"step": 9, "lr": 0.5}\n')
    RunFolder(tmp_path).forget_after(5)
    assert (tmp_path / METRICS).read_text() == '{"step": 1, "lr": 0.5}\n'
