"""Keeping the memory of frames that are done with, for the frames to come.

glibc gives large freed blocks back to the kernel, which clears each page again at the next frame: at 16 MiB a frame
that is 4096 page faults, a good part of the time that receiving it takes (4096 x 4096 uint8, two cores: about a
fifth more frames with this setting, on a noisy machine).
"""

import ctypes
import sys
from collections.abc import Mapping

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8
# The largest that glibc takes; larger frames are mapped and unmapped each time, as without the setting.
_LARGEST_KEPT_BYTES = 32 * 2**20
_KEPT_IN_ALL_BYTES = 2**31 - 1
# glibc writes a copy past the caches only where it is larger than three quarters of the last cache, which may be
# hundreds of MiB. From 4 MiB on, new arrays are out of the cache before anybody reads them: 16 MiB of zeros written
# past it take 0.45 ms instead of 1.3. Lower, and frames that would have stayed in the cache don't.
_PAST_THE_CACHES = "glibc.cpu.x86_non_temporal_threshold"
_PAST_THE_CACHES_BYTES = 4 << 20


def memory_environment(present: Mapping[str, str]) -> dict[str, str]:
    """What to start a process with that handles large frames: glibc reads it before anything else runs, others ignore
    it. `present`: the environment so far; settings of the user's own stay."""
    tunables = present.get("GLIBC_TUNABLES", "")
    if _PAST_THE_CACHES in tunables:
        return {}
    ours = f"{_PAST_THE_CACHES}={_PAST_THE_CACHES_BYTES:#x}"
    return {"GLIBC_TUNABLES": f"{tunables}:{ours}" if tunables else ours}


def keep_freed_memory() -> None:
    """Let this process keep what it has freed, up to 2 GiB. Call it before pvaccess starts its threads; does nothing
    without glibc."""
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    # Other arenas are unmapped as soon as they are empty; with one there is one heap to keep.
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
    mallopt(_M_TRIM_THRESHOLD, _KEPT_IN_ALL_BYTES)
