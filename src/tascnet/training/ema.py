"""An average of the weights that forgets: what a long training wobbles around."""

from timm.utils import ModelEmaV3

from tascnet.model.tascnet import TASCNet


def average_of(model: TASCNet, decay: float, shards: bool = False) -> ModelEmaV3 | None:
    """A copy of the network that follows it: after each step, average = decay x average + (1 - decay) x weights.

    At first it forgets faster: the decay after n steps is at most 1 - (1 + n) ** (-2/3) (timm's warm-up), so that the
    random weights of the beginning leave it soon.

    Args:
        model: the network, on its device.
        decay: 0..1; 0 gives None.
        shards: whether both will be split over processes.
    """
    if not decay:
        return None
    # torch's operations on lists of tensors refuse buffers, which are not split, beside weights that are
    return ModelEmaV3(model, decay, use_warmup=True, foreach=not shards, device=model.backbone.pixel_mean.device)
