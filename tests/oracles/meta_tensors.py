"""Whether torch loads MONAI's images with ``weights_only=True``: Python 3.11.0 to 3.11.3 write their enum keys as calls of getattr."""

from __future__ import annotations

import io

import pytest
import torch
from monai.utils.enums import MetaKeys


def loaded(item: torch.Tensor) -> torch.Tensor:
    """The item through a file that may hold no code."""
    buffer = io.BytesIO()
    torch.save(item, buffer)
    buffer.seek(0)
    return torch.load(buffer, weights_only=True)


needs_loadable_meta_tensors = pytest.mark.skipif(
    MetaKeys.AFFINE.__reduce_ex__(2)[0] is getattr,
    reason="torch refuses even a bare MetaTensor that this Python wrote (3.11.0 to 3.11.3)",
)
