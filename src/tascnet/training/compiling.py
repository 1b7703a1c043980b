"""The dense parts of the network, compiled by torch; where that fails, they run as they are."""

import torch

from tascnet.model.mode import evaluation_mode
from tascnet.model.tascnet import TASCNet
from tascnet.progress import SILENT, Observer
from tascnet.structures import Size

TRIAL = Size(64, 64)


def compile_dense_parts(model: TASCNet, device: torch.device, observer: Observer = SILENT) -> bool:
    """Compile backbone, pyramid and stuff head; the things head branches on its data and stays as it is.

    Compiling is tried at once on a small image, forward and backward. Names of weights do not change.

    Returns:
        Whether they are compiled.
    """
    parts = (model.backbone.network, model.fpn, model.stuff_head)
    for part in parts:
        part.compile()
    try:
        with evaluation_mode(model), torch.random.fork_rng():  # statistics of batch norm stay as they are
            logits = model.stuff_head(model.fpn(model.backbone(torch.zeros(1, 3, *TRIAL, device=device))))
            logits.sum().backward()
    except Exception as error:
        for part in parts:
            part._compiled_call_impl = None
        reason = " ".join(str(error).split())[:200]
        observer.message(f"torch.compile failed ({type(error).__name__}: {reason}); training goes on without it.")
        return False
    finally:
        model.zero_grad()
    return True
