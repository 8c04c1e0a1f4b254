"""New arrays inside PvObjects that Python may fill.

pvaccess only copies arrays in, and gives out read-only views. For a 16 MiB image that copy takes as long as the cipher,
so the cipher writes straight into an array that pvaccess has just made: nobody else has seen it yet. To be made, it
is copied from pages that were never written: the kernel shows the same 4 KiB of zeros for all of them, which stay in
the cache, so only the writing costs time (16 MiB: 1.6 ms of CPU against 2.8 ms).
"""

import ctypes
import mmap
from typing import Any

import numpy as np
import pvaccess
from numpy.typing import NDArray

from beamcast.pva.ndarray import FIELD_OF_DTYPE, SCALAR_OF_FIELD

# Below this size a buffer that is used again and again stays in the cache, and copying it costs no more than making an
# array to write to (2 MiB and less); above, zeros are written past the caches (`beamcast.pools.memory`).
WORTH_BYTES = 4 << 20
_copy, _set_array = pvaccess.PvObject.copy, pvaccess.PvObject.setScalarArray


class FreshArrays:
    """Makes arrays for the `value` of an NTNDArray. One thread."""

    def __init__(self) -> None:
        self._zeros: NDArray[np.uint8] = np.empty(0, np.uint8)
        self._blanks = {
            field: pvaccess.PvObject({field: [SCALAR_OF_FIELD[field]]}) for field in FIELD_OF_DTYPE.values()
        }
        self._dtypes: dict[str, Any] = {field: dtype for dtype, field in FIELD_OF_DTYPE.items()}

    def make(self, field: str, size_bytes: int) -> tuple[Any, NDArray[np.uint8]]:
        """A PvObject whose array `field` ("ubyteValue" …) has that many bytes, all zero, and the bytes to write to.

        The bytes are there as long as the object is; write before anybody else gets the object, then let go of them.
        ValueError when the size is 0 or no multiple of the element's.
        """
        dtype = self._dtypes[field]
        if size_bytes <= 0 or size_bytes % dtype.itemsize:
            raise ValueError(f"an array of {dtype} can't have {size_bytes} bytes")
        if size_bytes > len(self._zeros):
            self._zeros = _never_written(size_bytes)
        made = self.copied(field, self._zeros[:size_bytes].view(dtype))
        address = made.getScalarArray(field).__array_interface__["data"][0]
        return made, np.frombuffer(memoryview((ctypes.c_uint8 * size_bytes).from_address(address)), np.uint8)

    def copied(self, field: str, array: NDArray[Any]) -> Any:
        """A PvObject whose array `field` is a copy of `array`, which has the field's dtype. `setUnion` takes it in a
        quarter of the time of a dictionary with the array."""
        # An object of its own, since `setUnion` shares its field; an empty one, since pvaccess copies the old array
        # before it takes the new one.
        made = _copy(self._blanks[field])
        _set_array(made, field, array)
        return made


def _never_written(size_bytes: int) -> NDArray[np.uint8]:
    pages = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    return np.frombuffer(pages, np.uint8)
