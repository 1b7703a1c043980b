"""Damaged and hostile input ends in a sentence or in the right result; and the judge of that sees what it must."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .cases import Case, Outcome, either, refused, works
from .catalog import GROUPS, all_cases, quick_cases
from .judging import SOUND, Verdict, judge

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits and sizes of processes are read as on Linux")
SENTENCE = "tascnet: error: bad.png is cut short. Copy it again.\n"


def results(file: Path, *flags: str, seconds: float) -> dict[str, dict[str, object]]:
    """Run the cases in a process of their own, which has no threads and little memory; results by id."""
    ended = run_module("damaged", *flags, "--json", str(file), seconds=seconds)
    assert file.exists(), ended.stderr
    return {result["id"]: result for result in json.loads(file.read_text())}


def run_module(name: str, *arguments: str, seconds: float) -> subprocess.CompletedProcess[str]:
    """Run a module of this folder with the paths of this process."""
    command = [sys.executable, "-m", name, *arguments]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))}
    tests = Path(__file__).parents[1]
    return subprocess.run(
        command, cwd=tests, env=environment, capture_output=True, text=True, timeout=seconds, check=False
    )


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    return results(tmp_path_factory.mktemp("damaged") / "quick.json", "--quick", seconds=600)


@pytest.mark.parametrize("case_id", [case.id for case in quick_cases()])
def test_quick(quick: dict[str, dict[str, object]], case_id: str):
    result = quick[case_id]
    assert result["verdict"] in SOUND, f"{result['verdict']}: {result['why']}\n{result['err']}"


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_all(group: str, tmp_path: Path):
    found = results(tmp_path / "all.json", "--group", group, seconds=3600)
    short = [f"{id_}: {result['verdict']}" for id_, result in found.items() if result["verdict"] not in SOUND]
    assert short == []


def test_there_are_enough_cases_of_each_group():
    ids = [case.id for case in all_cases()]
    assert len(ids) == len(set(ids)) >= 400
    assert all(sum(id_.startswith(f"{group}/") for id_ in ids) >= 100 for group in GROUPS)


class TestJudge:
    """Each verdict, for an outcome made by hand."""

    @staticmethod
    def outcome(code: int = 0, err: str = "", out: str = "", **values: object) -> Outcome:
        return Outcome(code, out, err, Path(), Path(), **values)

    @pytest.mark.parametrize(
        ("values", "verdict"),
        [
            ({"code": 2, "err": SENTENCE}, Verdict.SENTENCE),
            ({"code": 0}, Verdict.SILENT),
            ({"code": 2, "err": "tascnet: error: a photo is cut short.\n"}, Verdict.MESSAGE),  # which?
            ({"code": 2, "err": SENTENCE.replace("cut", "\x1b[31mcut")}, Verdict.MESSAGE),
            ({"code": 2, "err": SENTENCE * 2}, Verdict.MESSAGE),
            ({"code": 2, "err": SENTENCE.replace("cut", "cut" * 1000)}, Verdict.MESSAGE),
            ({"code": 2, "err": "bad.png\n"}, Verdict.MESSAGE),  # no error message
            ({"code": 1, "err": SENTENCE}, Verdict.WRONG),
            ({"code": 70, "err": SENTENCE}, Verdict.INTERNAL),
            ({"code": 2, "err": "Traceback (most recent call last):\n" + SENTENCE}, Verdict.TRACEBACK),
            ({"code": -11}, Verdict.TRACEBACK),
            ({"code": 2, "err": SENTENCE, "hung": True}, Verdict.HANG),
            ({"code": 2, "err": SENTENCE, "megabytes": 5000}, Verdict.MEMORY),
            ({"code": 2, "err": SENTENCE, "strays": ("canary",)}, Verdict.SILENT),
        ],
    )
    def test_what_must_be_refused(self, values: dict[str, object], verdict: Verdict):
        case = Case("photos", "x", lambda place: [], refused("bad.png"))
        assert judge(case, self.outcome(**values)).verdict == verdict

    @pytest.mark.parametrize(
        ("code", "complaint", "verdict"),
        [
            (1, "", Verdict.CORRECT),
            (1, "the map differs", Verdict.WRONG),
            (0, "", Verdict.WRONG),
            (0, "the map differs", Verdict.SILENT),
            (2, "", Verdict.WRONG),
        ],
    )
    def test_what_must_work_with_exit_code_1(self, code: int, complaint: str, verdict: Verdict):
        case = Case("photos", "x", lambda place: [], works(lambda outcome: complaint, code=1))
        assert judge(case, self.outcome(code, SENTENCE)).verdict == verdict

    @pytest.mark.parametrize(
        ("code", "complaint", "verdict"),
        [(0, "", Verdict.CORRECT), (0, "the map differs", Verdict.SILENT), (2, "", Verdict.SENTENCE)],
    )
    def test_what_may_do_either(self, code: int, complaint: str, verdict: Verdict):
        case = Case("photos", "x", lambda place: [], either(lambda outcome: complaint))
        assert judge(case, self.outcome(code, SENTENCE)).verdict == verdict

    def test_files_that_are_left_behind(self, tmp_path: Path):
        case = Case("photos", "x", lambda place: [], refused(absent=["out/*.json"]))
        (tmp_path / "out").mkdir()
        assert judge(case, Outcome(2, "", SENTENCE, tmp_path, tmp_path)).verdict == Verdict.SENTENCE
        (tmp_path / "out" / "half.json").write_text("{")
        assert judge(case, Outcome(2, "", SENTENCE, tmp_path, tmp_path)).verdict == Verdict.MESSAGE


class TestRunner:
    """Children that misbehave are seen to do so."""

    @pytest.fixture(scope="class")
    def judged(self, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
        """The cases of `misbehaving.py`, in a process of their own."""
        file = tmp_path_factory.mktemp("misbehaving") / "verdicts.json"
        ended = run_module("damaged.misbehaving", str(file), seconds=300)
        assert file.exists(), ended.stderr
        return json.loads(file.read_text())

    @pytest.mark.parametrize(
        ("name", "verdict"),
        [
            ("sleeps", "hang"),
            ("computes for ever", "hang"),
            ("takes memory", "memory"),
            ("raises", "traceback"),
            ("kills itself", "traceback"),
            ("writes beside its folder", "silent"),
            ("is a broken case", "broken"),
            ("prints help", "correct"),
        ],
    )
    def test_verdict(self, judged: dict[str, str], name: str, verdict: str):
        assert judged[name] == verdict
