"""Weights that lie in shares on several processes (FSDP2): sharing them out, and whole tensors from shares.

Every pass of a sharded model is one of all processes together, and so is everything here that makes tensors whole. What
a process does by itself with such a model waits for the others forever.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, distributed

from duelenv.ground.errors import UserError

#: Shares a model out in place, as `fully_shard` does.
Sharder = Callable[[torch.nn.Module], Any]


def sharder(device: torch.device) -> Sharder:
    """Return what shares a transformers model, or a PEFT model around one, out over the default group, block by block.

    Args:
        device: Where shares go: any of its kind; each process puts its own on its current one.

    Raises:
        UserError: torch has been told of no other processes.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        raise UserError(
            "a policy is sharded over the processes of torch's default group, and there is none; launch the script by "
            "'accelerate launch' and make an accelerate.Accelerator() first"
        )
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (distributed.get_world_size(),))

    def shard(model: Any) -> None:
        base: Any = model.get_base_model() if hasattr(model, "peft_config") else model
        names = set(getattr(base, "_no_split_modules", None) or ())
        blocks = [module for module in model.modules() if type(module).__name__ in names]
        for part in (*blocks, model):
            fully_shard(part, mesh=mesh)

    return shard


def is_sharded(model: torch.nn.Module) -> bool:
    """Tell whether a model's weights lie in shares."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return False  # asked for at every token
    return any(_is_share(parameter) for parameter in model.parameters()) or bool(_units(model))


def others() -> bool:
    """Tell whether torch has been told of other processes."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def gathered_apart(model: torch.nn.Module) -> None:
    """Let every weight be its share again: between passes some are kept whole, as other objects."""
    for unit in _units(model):
        unit.reshard()


def whole(tensor: Tensor) -> Tensor:
    """Return the whole of a share, on every process; of a plain tensor itself."""
    return tensor.full_tensor() if _is_share(tensor) else tensor  # type: ignore[attr-defined]


def own_share(tensor: Tensor) -> Tensor:
    """Return what this process holds of a tensor, which may be nothing; of a plain tensor all."""
    return tensor.to_local() if _is_share(tensor) else tensor  # type: ignore[attr-defined]


def shared_like(tensor: Tensor, place: Tensor) -> Tensor:
    """Return a whole tensor in the shares in which another one lies."""
    if not _is_share(place) or _is_share(tensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    # Every process has the whole, and nothing need be sent.
    mesh, placements = place.device_mesh, place.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.to(place.device), mesh, placements, src_data_rank=None)


def whole_state(model: torch.nn.Module) -> dict[str, Tensor] | None:
    """Return a sharded model's whole weights in main memory, on every process; None for a model that is not."""
    if not is_sharded(model):
        return None
    return {name: whole(tensor.detach()).cpu() for name, tensor in model.state_dict().items()}


def is_writer(model: torch.nn.Module) -> bool:
    """Tell whether this process writes the files of a model: of several that hold its shares, one does."""
    return not is_sharded(model) or distributed.get_rank() == 0


def finished(model: torch.nn.Module) -> None:
    """Wait until the process that writes a sharded model has."""
    if is_sharded(model):
        distributed.barrier()


def _is_share(tensor: Any) -> bool:
    if type(tensor) in (Tensor, torch.nn.Parameter) or not distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(tensor, DTensor)


def _units(model: torch.nn.Module) -> list[Any]:
    if not (distributed.is_available() and distributed.is_initialized()):
        return []
    from torch.distributed.fsdp import FSDPModule

    return [module for module in model.modules() if isinstance(module, FSDPModule)]
