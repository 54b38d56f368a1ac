"""Images made in code, with known truth: an anatomical head, and ultrasound simulated from real MR or CT."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
