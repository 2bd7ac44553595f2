"""What a process holds, counted by the collector."""

from __future__ import annotations

import gc

import numpy as np
import torch


def held():
    """Objects, bytes of tensors, and bytes of arrays."""
    gc.collect()
    objects = gc.get_objects()
    # By `type`: to ask some lazy modules for their class is to load what they stand for.
    tensors = sum(one.numel() * one.element_size() for one in objects if issubclass(type(one), torch.Tensor))
    arrays = {}
    for one in objects:
        for array in gc.get_referents(one):
            if type(array) is np.ndarray:  # arrays are no objects to the collector
                owner = array if array.base is None else array.base
                arrays[id(owner)] = getattr(owner, "nbytes", 0)
    return len(objects), tensors, sum(arrays.values())
