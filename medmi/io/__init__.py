"""Images and transforms in and out: every file's own frame and convention ends here; inside is RAS mm."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
