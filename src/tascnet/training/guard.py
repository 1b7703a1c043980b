"""Losses or gradients that are not finite: the step is not applied; the third in a row is the last."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tascnet.errors import InputError
from tascnet.files import write_json

MAX_IN_A_ROW = 3


def is_finite(losses: Mapping[str, float], gradient_norm: float) -> bool:
    """Whether a step may be applied."""
    return all(math.isfinite(value) for value in (*losses.values(), gradient_norm))


def write_bad_batch(
    folder: Path, step: int, losses: Mapping[str, float], gradient_norm: float, images: list[dict[str, Any]]
) -> Path:
    """Write what is known of a step that was not applied; return the file.

    Args:
        folder: `bad_batches/` of the run.
        step: number of the step, counted from 0.
        losses: means over all processes.
        gradient_norm: L2 norm over all weights.
        images: of each batch the names of its images and its own losses.
    """
    path = folder / f"step_{step:06d}.json"
    values = {"step": step, "losses": plain(losses), "gradient_norm": plain_number(gradient_norm), "batches": images}
    write_json(path, values, indent=1)
    return path


def plain(values: Mapping[str, float]) -> dict[str, float | str]:
    """Numbers as JSON can hold them; it knows neither NaN nor infinity."""
    return {name: plain_number(value) for name, value in values.items()}


def plain_number(value: float) -> float | str:
    """A finite number as it is; "nan", "inf" or "-inf"."""
    return value if math.isfinite(value) else str(value)


def diagnosis(losses: Mapping[str, float], gradient_norm: float, lr: float, folder: Path) -> InputError:
    """Why a training is stopped after several steps in a row that could not be applied."""
    broken = [name for name, value in losses.items() if not math.isfinite(value) and name != "total"]
    if not broken:
        cause = (
            f"the losses are finite, but the norm of the gradients is {gradient_norm}: the learning rate ({lr:.3g}) is "
            "too high, or the network has diverged"
        )
    elif set(broken) <= {"rpn_box", "box"}:
        cause = (
            f"only {', '.join(broken)} {_is(broken)} not finite: boxes without width or height, or coordinates far "
            "outside of the picture; `tascnet data check` finds them"
        )
    else:
        cause = (
            f"{', '.join(broken)} {_is(broken)} not finite: the learning rate ({lr:.3g}) is too high, or the input is "
            "not normalised as the weights expect (model.backbone.weights, model.backbone.norm)"
        )
    return InputError(
        f"the losses or gradients of {MAX_IN_A_ROW} steps in a row were not finite numbers, so none was applied. "
        f"Likely, {cause}. Lower optimizer.lr, lengthen optimizer.warmup_steps, or set optimizer.clip_norm; the images "
        f"are named in {folder}."
    )


def _is(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"
