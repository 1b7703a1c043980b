"""Run the cases and count the verdicts by group: python -m tests.damaged [--group NAME] [--only TEXT] [--seed NUMBER].

Exit code 0 where no case fell short, 1 otherwise.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # the layouts of other tests
os.environ |= {"OMP_NUM_THREADS": "1", "COLUMNS": "1000", "HF_HUB_OFFLINE": "1"}

from .cases import Case
from .catalog import GROUPS, all_cases, quick_cases
from .judging import SOUND, Verdict
from .runner import Result, in_child, preload, run_cases


def main() -> int:
    """Run what the command line asks for; print each case that fell short, and a table."""
    options = _parser().parse_args()
    cases = _chosen(options)
    if options.list:
        print(*(case.id for case in cases), sep="\n")
        return 0
    results = _run(cases, options)
    print(_table(results))
    if options.json:
        options.json.write_text(json.dumps([_plain(result) for result in results], indent=1))
    return int(any(result.judged.verdict not in SOUND for result in results))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.damaged", description=__doc__)
    parser.add_argument("--group", choices=GROUPS, help="one group alone")
    parser.add_argument("--only", default="", help="cases whose id contains this text")
    parser.add_argument("--quick", action="store_true", help="the subset that the normal tests run")
    parser.add_argument("--seed", type=int, default=0, help="of random damage")
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time")
    parser.add_argument("--json", type=Path, help="file for all results")
    parser.add_argument("--list", action="store_true", help="print the ids of the cases, and run none")
    parser.add_argument("--all", action="store_true", help="print the sentences of sound cases, too")
    parser.add_argument("--keep", action="store_true", help="keep the folders of the cases")
    return parser


def _chosen(options: argparse.Namespace) -> list[Case]:
    cases = quick_cases() if options.quick else all_cases()
    return [case for case in cases if options.group in (None, case.group) and options.only in case.id]


def _run(cases: Sequence[Case], options: argparse.Namespace) -> list[Result]:
    from .world import build_world

    preload()
    with tempfile.TemporaryDirectory(prefix="damaged-world-") as folder:
        os.environ["TASCNET_HOME"] = f"{folder}/home"
        world = Path(folder) / "world"
        world.mkdir()
        in_child(lambda: _quietly(lambda: build_world(world)))
        results = []
        for result in run_cases(cases, world, options.seed, options.jobs, options.keep):
            results.append(result)
            if options.all or result.judged.verdict not in SOUND:
                print(_line(result), flush=True)
    return sorted(results, key=lambda result: result.case.id)


def _quietly(action) -> None:
    """Without what the commands print; errors are still seen."""
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
    action()


def _line(result: Result) -> str:
    said = result.judged.why or " ".join((result.outcome.err or result.outcome.out).split())[-400:]
    return f"{result.judged.verdict:9} {result.case.id} ({result.seconds:.1f} s): {said}"


def _table(results: Iterable[Result]) -> str:
    """Verdicts by group."""
    counts = {group: Counter(r.judged.verdict for r in results if r.case.group == group) for group in GROUPS}
    rows = [["group", "cases", "fell short", *Verdict]]
    for group, count in {**counts, "all": sum(counts.values(), Counter())}.items():
        short = count.total() - sum(count[verdict] for verdict in SOUND)
        rows.append([group, count.total(), short, *(count[verdict] for verdict in Verdict)])
    return "\n".join(" ".join(f"{cell!s:>10}" for cell in row) for row in rows)


def _plain(result: Result) -> dict[str, object]:
    outcome = result.outcome
    return {
        "id": result.case.id,
        "verdict": result.judged.verdict,
        "why": result.judged.why,
        "code": outcome.code,
        "seconds": round(result.seconds, 2),
        "megabytes": round(outcome.megabytes),
        "out": outcome.out[-4000:],
        "err": outcome.err[-4000:],
    }


if __name__ == "__main__":
    started = time.monotonic()
    code = main()
    print(f"{time.monotonic() - started:.0f} s")
    sys.exit(code)
