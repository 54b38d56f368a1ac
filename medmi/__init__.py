"""medmi: multimodal registration for MONAI, with transforms that SimpleITK and 3D Slicer read back exactly."""

import gc

# Importing makes some hundred thousand objects that stay: to look for garbage among them again and again took a quarter of the time.
_collecting = gc.isenabled()
gc.disable()
try:
    from medmi.grid import Grid
    from medmi.registration import RegistrationResult, apply, register, register_batch
    from medmi.validation import InputError
finally:
    if _collecting:
        if not gc.get_freeze_count():
            gc.freeze()  # and back: they count as old, so that the next collection does not look at each
            gc.unfreeze()
        gc.enable()

__version__ = "0.1.0"

__all__ = ["Grid", "InputError", "RegistrationResult", "apply", "register", "register_batch"]
