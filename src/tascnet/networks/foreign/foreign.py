"""The one door for networks from elsewhere: a file -> `Network`; what it holds is recognised by its content."""

import hashlib
from dataclasses import replace
from pathlib import Path

from tascnet.data.problems import first_few
from tascnet.errors import InputError, shorten
from tascnet.networks.foreign.detectron2 import from_detectron2, is_detectron2
from tascnet.networks.foreign.state_file import read_state
from tascnet.networks.foreign.torchvision_rcnn import from_torchvision, is_torchvision
from tascnet.networks.network import Network

READABLE = (
    "detectron2's Panoptic FPN and Mask R-CNN (R50-FPN, R101-FPN), and torchvision's Mask R-CNN (ResNet-50 FPN, v1, v2)"
)

_WITHOUT_EPS = "bf2d0c1e"
"""How the SHA-256 of torchvision's published maskrcnn_resnet50_fpn begins; its name says so, too. torchvision sets the
eps of its frozen norms to zero, because it was trained before they had one."""


def read_foreign(path: str | Path) -> Network:
    """Read a file of weights made elsewhere; no code that is in it runs.

    Raises:
        InputError: it cannot be read, or is a network that is not known here.
    """
    path = Path(path)
    state = read_state(path)
    try:
        if is_detectron2(state):
            return replace(from_detectron2(state, path.name), path=path)
        if is_torchvision(state):
            without_eps = _checksum(path).startswith(_WITHOUT_EPS)
            return replace(from_torchvision(state, path.name, *([0.0] if without_eps else [])), path=path)
    except KeyError as error:  # before the shapes are compared, importers read some tensors to find the settings
        raise InputError(
            f"{path} lacks the tensor {shorten(str(error.args[0]))} (as it is called here). It may be cut short, or be "
            f"another network: readable are {READABLE}."
        ) from error
    except (IndexError, TypeError, RuntimeError) as error:
        raise InputError(
            f"{path} holds a tensor of another shape than its network has ({shorten(str(error))}). Readable are "
            f"{READABLE}."
        ) from error
    raise InputError(
        f"{path} holds a network that is not known here: its tensors are called {first_few(map(shorten, state), 3)}. "
        f"Readable are {READABLE}."
    )


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
