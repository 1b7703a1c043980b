"""TASCNet: panoptic segmentation with one network for things and stuff, kept consistent by a shared mask.

The public names load when they are first used, so that importing the package, and `tascnet --help`, is quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tascnet.data.formats.coco import CocoPanoptic
    from tascnet.data.streets.dataset import Streets
    from tascnet.errors import InputError
    from tascnet.inference.predictor import Predictor
    from tascnet.metrics import PanopticQuality
    from tascnet.model.tascnet import TASCNet
    from tascnet.networks.network import Network
    from tascnet.networks.opening import from_pretrained, open_network
    from tascnet.networks.sharing import push_network, save_network
    from tascnet.structures import Category, LabelSpace, PanopticSegmentation, Segment
    from tascnet.visualize import draw_segmentation

__version__ = "0.1.0"

__all__ = [
    "Category",
    "CocoPanoptic",
    "InputError",
    "LabelSpace",
    "Network",
    "PanopticQuality",
    "PanopticSegmentation",
    "Predictor",
    "Segment",
    "Streets",
    "TASCNet",
    "draw_segmentation",
    "from_pretrained",
    "open_network",
    "push_network",
    "save_network",
]

_MODULE_OF = {
    "Category": "tascnet.structures",
    "CocoPanoptic": "tascnet.data.formats.coco",
    "InputError": "tascnet.errors",
    "LabelSpace": "tascnet.structures",
    "Network": "tascnet.networks.network",
    "PanopticQuality": "tascnet.metrics",
    "PanopticSegmentation": "tascnet.structures",
    "Predictor": "tascnet.inference.predictor",
    "Segment": "tascnet.structures",
    "Streets": "tascnet.data.streets.dataset",
    "TASCNet": "tascnet.model.tascnet",
    "draw_segmentation": "tascnet.visualize",
    "from_pretrained": "tascnet.networks.opening",
    "open_network": "tascnet.networks.opening",
    "push_network": "tascnet.networks.sharing",
    "save_network": "tascnet.networks.sharing",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'tascnet' has no attribute '{name}'")
    return getattr(import_module(_MODULE_OF[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
