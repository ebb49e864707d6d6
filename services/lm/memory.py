"""Keeps freed memory in the process: on virtual machines fresh pages cost more than the arithmetic on them."""

import ctypes
import sys

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP = 2**31 - 1 - 2**20
"""The most that mallopt's int takes, a little less."""


def keep_pages() -> bool:
    """Tell glibc (mallopt(3)) to serve large blocks from its heap and not to give it back; false with another libc."""
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    return bool(mallopt(_M_TRIM_THRESHOLD, _KEEP)) and bool(mallopt(_M_MMAP_THRESHOLD, _KEEP))
