"""Similarity terms as MONAI losses: ``loss(pred, target, mask=None)`` on ``(B, C, *spatial)``, lower is better."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
