"""PanopticSegmentation <-> the forms of other libraries: COCO, numpy, Hugging Face, supervision.

Every form has a pair of functions. Categories are named by the data set's own ids throughout, as everywhere outside of
the network. Each function documents the content that its form cannot hold; everything else survives the round trip.
"""

from tascnet.convert.arrays import from_label_map, from_numpy, to_label_map, to_numpy
from tascnet.convert.coco import from_coco, to_coco
from tascnet.convert.huggingface import from_huggingface, to_huggingface
from tascnet.convert.supervision import from_supervision, to_supervision

__all__ = [
    "from_coco",
    "from_huggingface",
    "from_label_map",
    "from_numpy",
    "from_supervision",
    "to_coco",
    "to_huggingface",
    "to_label_map",
    "to_numpy",
    "to_supervision",
]
