"""What detectors send: NTNDArrays in structures that are found in the world, and the frames that go through each.

A structure is written as p4p writes types (`('U', None, [...])` a union, 'v' any, 'a' before an array's element), since
both servers can be given it.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from beamcast.pva.codecs import SCALAR_OF_DTYPE
from beamcast.pva.compress import encode, make_encoder
from beamcast.pva.ndarray import FIELD_OF_DTYPE

ID = "epics:nt/NTNDArray:1.0"
MAX_INT = 2**31 - 1
Spec = list[tuple[str, Any]]

ALARM = ("S", "alarm_t", [("severity", "i"), ("status", "i"), ("message", "s")])
TIME = ("S", "time_t", [("secondsPastEpoch", "l"), ("nanoseconds", "i"), ("userTag", "i")])
UNION = ("U", None, [
    ("booleanValue", "a?"), ("byteValue", "ab"), ("shortValue", "ah"), ("intValue", "ai"), ("longValue", "al"),
    ("ubyteValue", "aB"), ("ushortValue", "aH"), ("uintValue", "aI"), ("ulongValue", "aL"),
    ("floatValue", "af"), ("doubleValue", "ad"),
])  # fmt: skip
DIMENSION = [("size", "i"), ("offset", "i"), ("fullSize", "i"), ("binning", "i"), ("reverse", "?")]
ATTRIBUTE = [
    ("name", "s"), ("value", "v"), ("tags", "as"), ("descriptor", "s"), ("alarm", ALARM), ("timeStamp", TIME),
    ("sourceType", "i"), ("source", "s"),
]  # fmt: skip
FULL: Spec = [
    ("value", UNION),
    ("codec", ("S", "codec_t", [("name", "s"), ("parameters", "v")])),
    ("compressedSize", "l"),
    ("uncompressedSize", "l"),
    ("uniqueId", "i"),
    ("dataTimeStamp", TIME),
    ("alarm", ALARM),
    ("timeStamp", TIME),
    ("dimension", ("aS", "dimension_t", DIMENSION)),
    ("attribute", ("aS", "epics:nt/NTAttribute:1.0", ATTRIBUTE)),
]


@dataclass(frozen=True)
class Frame:
    """One frame: what is in it, and what `frame.image` has to give. `image` None: not bit by bit (JPEG)."""

    variant: str
    payload: NDArray[Any]
    shape: tuple[int, ...]
    image: NDArray[Any] | None
    codec: str = ""
    parameters: int | None = None
    stated: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def mark(self) -> dict[str, Any]:
        """What any client of the results has to see of it."""
        return mark(self.payload, self.shape[::-1], self.codec, self.attributes)


def mark(payload: Any, sizes: Any, codec: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """An update as it can be compared, however it came."""
    flat = np.asarray(payload)
    flat = flat.astype(np.int8) if flat.dtype == bool else flat
    return {
        "dtype": str(flat.dtype),
        "bytes": zlib.crc32(np.ascontiguousarray(flat).view(np.uint8)),
        "sizes": [int(size) for size in sizes],
        "codec": codec,
        "attributes": {name: plain(value) for name, value in attributes.items()},
    }


def plain(value: Any) -> Any:
    """An attribute's value as JSON has it."""
    return value.item() if isinstance(value, np.generic) else value


def image_mark(image: NDArray[Any]) -> list[Any]:
    """The same of an image."""
    return [
        list(image.shape),
        str(image.dtype),
        zlib.crc32(np.ascontiguousarray(image).view(np.uint8).reshape(-1)),
    ]


def pixels(shape: tuple[int, ...], dtype: Any, seed: int) -> NDArray[Any]:
    """An image that no other frame has."""
    values = (np.arange(int(np.prod(shape))) * 7 + seed) % 120
    return values.astype(dtype).reshape(shape)


def plain_frame(variant: str, image: NDArray[Any], **more: Any) -> Frame:
    """A frame without a codec."""
    read = image.astype(np.int8) if image.dtype == bool else image
    return Frame(variant, image.reshape(-1), image.shape, read, stated=image.nbytes, **more)


def compressed(variant: str, image: NDArray[Any], codec: Any, **options: Any) -> Frame:
    """A frame as areaDetector's plugin compresses it."""
    encoder = make_encoder(codec, level=None, **{"compressor": "lz4", "shuffle": "bit", **options})
    payload = encode(encoder, image, codec=codec)
    lossless = codec != "jpeg"
    parameters = SCALAR_OF_DTYPE[image.dtype]
    return Frame(variant, payload, image.shape, image if lossless else None, codec, parameters, image.nbytes)


def every_frame() -> Iterator[Frame]:
    """Everything that a full NTNDArray may carry."""
    for number, dtype in enumerate(FIELD_OF_DTYPE):
        yield plain_frame(f"dtype {dtype}", pixels((24, 32), dtype, number))
    yield plain_frame("dtype boolean", pixels((24, 32), np.uint8, 3) % 2 > 0)
    modes = {
        "Mono": ((24, 32), 0),
        "Bayer": ((24, 32), 1),
        "RGB1": ((24, 32, 3), 2),
        "RGB2": ((24, 3, 32), 3),
    }
    modes |= {"RGB3": ((3, 24, 32), 4), "YUV444": ((24, 32, 3), 5)}
    for name, (shape, mode) in modes.items():
        yield plain_frame(f"colour {name}", pixels(shape, np.uint8, mode), attributes={"ColorMode": mode})
    for codec in ("blosc", "lz4", "bslz4", "zlib", "jpeg"):
        yield compressed(f"codec {codec}", pixels((64, 48), np.uint8, 9), codec)
        if codec != "jpeg":
            yield compressed(f"codec {codec} uint16", pixels((64, 48), np.uint16, 10), codec)
    for compressor in ("blosclz", "lz4hc", "zlib", "zstd"):
        options = {"compressor": compressor, "shuffle": "byte"}
        yield compressed(f"codec blosc {compressor}", pixels((64, 48), np.int32, 11), "blosc", **options)
    attributes = {"ColorMode": 0, "Gain": 1.5, "Camera": "A 1", "Count": 2**40, "Empty": ""}
    yield plain_frame("attributes of each type", pixels((8, 8), np.uint8, 12), attributes=attributes)
    many = {f"a{number}": float(number) for number in range(60)}
    yield plain_frame("60 attributes", pixels((8, 8), np.uint8, 13), attributes=many)
    sizes = {"1 x 1": (1, 1), "one row": (1, 500), "one column": (500, 1), "1-D": (7,), "4-D": (2, 3, 4, 5)}
    for name, shape in {**sizes, "4 MB": (2048, 1024)}.items():
        yield plain_frame(f"size {name}", pixels(shape, np.uint16, len(shape)))
    yield plain_frame("size as before", pixels((24, 32), np.uint8, 14))


def some_frames() -> Iterator[Frame]:
    """What goes through structures that have not each field."""
    for number, dtype in enumerate((np.uint8, np.uint16, np.float64, np.int32)):
        yield plain_frame(f"{np.dtype(dtype)}", pixels((24, 32), dtype, number))
    yield plain_frame("colour", pixels((8, 8, 3), np.uint8, 5))
    yield plain_frame("another size", pixels((5, 7), np.uint8, 6))


@dataclass(frozen=True)
class Structure:
    """How a source's updates are made. `measured_from`: the first id of the frames that are compared; None: whatever
    comes next."""

    name: str
    spec: Spec
    frames: Callable[[], Iterator[Frame]] = some_frames
    id_field: str = "uniqueId"
    first_id: int = 1
    measured_from: int | None = None

    def has(self, name: str) -> bool:
        """Whether the structure has that field."""
        return any(each == name for each, _ in self.spec)


def without(*names: str) -> Spec:
    """The full structure without some fields."""
    return [(name, kind) for name, kind in FULL if name not in names]


def with_kind(spec: Spec, **kinds: Any) -> Spec:
    """The structure with other types of some fields."""
    return [(name, kinds.get(name, kind)) for name, kind in spec]


SIZES = ("aS", "dimension_t", [("size", "i")])
NAMES = ("aS", "epics:nt/NTAttribute:1.0", [("name", "s"), ("value", "v")])
# As databases of pvxs and Phoebus make them: the fields that somebody wrote down.
DATABASE = with_kind(
    without("codec", "compressedSize", "uncompressedSize", "dataTimeStamp"),
    value="v",
    dimension=SIZES,
    attribute=NAMES,
)
NO_ID = [(name, kind) for name, kind in DATABASE if name != "uniqueId"]
STRUCTURES = (
    Structure("full", FULL, every_frame),
    Structure("ids wrap around", FULL, first_id=MAX_INT - 5000, measured_from=MAX_INT - 2),
    Structure("IOC database: any, sizes alone", DATABASE),
    Structure("IOC database without uniqueId", NO_ID, id_field="timeStamp.userTag"),
    Structure("no codec", without("codec")),
    Structure("no attribute", without("attribute")),
    Structure("no sizes in bytes", without("compressedSize", "uncompressedSize")),
    Structure("no dataTimeStamp, no alarm", without("dataTimeStamp", "alarm")),
    Structure("no time", without("dataTimeStamp", "timeStamp")),
    Structure("uniqueId of 64 bits", with_kind(FULL, uniqueId="l"), first_id=2**40),
    Structure("id in timeStamp.userTag", FULL, id_field="timeStamp.userTag"),
    Structure(
        "more fields", [*FULL, ("descriptor", "s"), ("vendor", ("S", None, [("model", "s"), ("rows", "ai")]))]
    ),
)
# For CI: what failed once, and the one with everything.
QUICK = ("full", "IOC database: any, sizes alone")


def ids(structure: Structure, number: int) -> int:
    """The id that follows `number` - 1: an int32 wraps around."""
    return (number + 2**31) % 2**32 - 2**31 if dict(structure.spec).get("uniqueId", "i") == "i" else number


def smaller(frame: Frame, structure: Structure) -> Frame:
    """The frame as far as the structure can say it."""
    return frame if structure.has("attribute") else replace(frame, attributes={})
