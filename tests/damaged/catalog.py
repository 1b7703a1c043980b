"""All cases, and the few that the normal tests run."""

from zlib import crc32

from . import checkpoints, coco, configs, faults, other_formats, photos
from .cases import Case

_MODULES = {
    "photos": photos,
    "coco": coco,
    "formats": other_formats,
    "configs": configs,
    "checkpoints": checkpoints,
    "faults": faults,
}
GROUPS = tuple(_MODULES)
QUICK_PER_GROUP = 10


def all_cases() -> list[Case]:
    """Every case, by group; their ids differ."""
    cases = [case for module in _MODULES.values() for case in module.cases()]
    ids = [case.id for case in cases]
    if doubled := {id_ for id_ in ids if ids.count(id_) > 1}:
        raise ValueError(f"ids of several cases: {sorted(doubled)}")
    return cases


def quick_cases() -> list[Case]:
    """The same few of each group every time, mixed by the checksum of their ids; another case changes few of them."""
    cases = [case for case in all_cases() if not case.slow]
    return [
        case
        for group in GROUPS
        for case in sorted((case for case in cases if case.group == group), key=_mixed)[:QUICK_PER_GROUP]
    ]


def _mixed(case: Case) -> int:
    return crc32(case.id.encode())
