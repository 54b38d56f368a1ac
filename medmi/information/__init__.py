"""Measures of what two images or samples tell about one another: histograms, entropies, variational bounds,
estimators.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
