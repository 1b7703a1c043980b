"""The network split over the processes (FSDP): each holds a part of every weight, of its gradient and optimiser state.

A part of the network is gathered for as long as it computes. What leaves the training, checkpoints and the network
that is validated, is whole, so nothing else has to know.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, distributed
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor

from tascnet.model.tascnet import TASCNet


def shard(model: TASCNet, mesh: DeviceMesh) -> TASCNet:
    """Split the weights of a network over the processes, in place.

    Args:
        model: the network, the same in all processes.
        mesh: the processes, as Fabric arranges them.
    """
    things_head = model.things_head
    # gathered one after the other; what is left, the proposals and the last layers, is gathered throughout
    parts = [
        model.backbone.network,
        *model.backbone.added_stages,
        model.fpn,
        model.stuff_head,
        things_head.box_head,
        things_head.mask_head,
    ]
    processes = mesh["data_parallel"]
    for part in parts:
        fully_shard(part, mesh=processes)
    fully_shard(model, mesh=processes)
    return model


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which each process holds a part; any other as it is. All processes must call this."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def collect(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All of the tensors on the CPU of process 0, nothing in the others. All processes must call this."""
    collected = {}
    for name, tensor in tensors.items():
        gathered = whole(tensor)
        if distributed.get_rank() == 0:
            collected[name] = gathered.to("cpu", copy=True)
    return collected


@torch.no_grad()
def copy_whole(model: TASCNet, into: TASCNet) -> None:
    """Copy a network that is split into one that is not, in every process. All processes must call this."""
    copies = into.state_dict()
    for name, tensor in model.state_dict().items():
        copies[name].copy_(whole(tensor))
        if not isinstance(tensor, DTensor):
            distributed.broadcast(copies[name], 0)  # statistics of batch norm are those of process 0, as with DDP
