"""Registration: the problem, the search, the solver's loop, and the two calls that users need."""

from medmi.registration.batch import register_batch
from medmi.registration.register import apply, register
from medmi.registration.result import RegistrationResult

__all__ = ["RegistrationResult", "apply", "register", "register_batch"]
