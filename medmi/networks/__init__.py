"""Networks: critics of mutual information, encoders, and the spatial transformer."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
