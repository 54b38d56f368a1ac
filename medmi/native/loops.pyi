from typing import Any

# Every loop takes arrays in C order and numbers, as its row in module.c says, and fills some of the arrays.
def __getattr__(name: str) -> Any: ...
