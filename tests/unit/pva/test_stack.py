"""Images into stacks and out again: what went in comes out, frame by frame."""

import lz4.block
import numpy as np
import pvaccess
import pytest

from beamcast.core.errors import DataError
from beamcast.pva.ndarray import image_view, make_ndarray
from beamcast.pva.stack import FrameTemplate, Stack, StackWriter


def frame(number, *, shape=(3, 4), dtype=np.uint16, attributes=()):
    image = np.arange(np.prod(shape), dtype=dtype).reshape(shape) + dtype(abs(number))
    pv = make_ndarray(image, frame_id=number, timestamp_s=1000.25 + number)
    pv["attribute"] = [pvaccess.NtAttribute(name, pvaccess.PvInt(value)) for name, value in attributes]
    return pv


def written(frames, *, most=16, id_field="uniqueId"):
    """All stacks that come of the frames."""
    writer = StackWriter(frames[0], id_field=id_field, frames=most)
    messages = []
    for pv in frames:
        if not writer.add(pv[id_field], pv):
            messages.append(writer.message().copy())
            assert len(writer) == 0
            assert writer.add(pv[id_field], pv)
    messages.append(writer.message().copy())
    return [Stack(each, FrameTemplate(each, id_field=id_field)) for each in messages]


def test_frames_come_out_as_they_went_in():
    frames = [frame(number, attributes=[("gain", number)] * (number % 3)) for number in range(1, 6)]
    (stack,) = written(frames)
    assert stack.ids == [1, 2, 3, 4, 5]
    assert stack.images.shape == (5, 3, 4)
    for index, one in enumerate(frames):
        assert np.array_equal(stack.images[index], image_view(one))
        assert same(stack.pv(index), one)


def same(one, other):
    """Whether two objects have the same content, arrays included."""
    np.testing.assert_equal(one.toDict(), other.toDict())
    assert one.getStructureDict() == other.getStructureDict()
    return True


def test_the_whole_stack_is_one_view_and_nothing_is_copied():
    (stack,) = written([frame(number) for number in range(1, 5)])
    assert stack.images.flags.c_contiguous
    assert not stack.images.flags.owndata
    assert np.shares_memory(stack.images, stack.image(2))


def test_a_full_stack_takes_no_more():
    stacks = written([frame(number) for number in range(1, 8)], most=3)
    assert [stack.ids for stack in stacks] == [[1, 2, 3], [4, 5, 6], [7]]


@pytest.mark.parametrize(
    "other", [{"shape": (4, 3)}, {"shape": (2, 2)}, {"dtype": np.float32}], ids=["turned", "smaller", "type"]
)
def test_an_image_of_another_kind_begins_another_stack(other):
    stacks = written([frame(1), frame(2), frame(3, **other), frame(4)])
    assert [stack.ids for stack in stacks] == [[1, 2], [3], [4]]
    assert np.array_equal(stacks[1].image(0), image_view(frame(3, **other)))


def test_a_compressed_image_travels_alone_and_those_after_it_together():
    image = np.arange(12, dtype=np.uint16).reshape(3, 4)
    packed = frame(2)
    packed.setUnion(
        "value",
        {"ubyteValue": np.frombuffer(lz4.block.compress(image.tobytes(), store_size=False), np.uint8)},
    )
    packed.setString("codec.name", "lz4")
    packed["codec.parameters"] = ({"value": 3}, {"value": pvaccess.INT})
    packed.setLong("compressedSize", int(packed["value"][0]["ubyteValue"].nbytes))
    packed.setLong("uncompressedSize", image.nbytes)
    stacks = written([frame(1), packed, frame(3), frame(4)])
    assert [stack.ids for stack in stacks] == [[1], [2], [3, 4]]
    assert stacks[1].images is None
    assert same(stacks[1].pv(0), packed)
    assert np.array_equal(stacks[2].image(1), image_view(frame(4)))


def test_an_id_that_has_wrapped_keeps_its_sign():
    (stack,) = written([frame(-2), frame(-1)])
    assert stack.pv(1)["uniqueId"] == -1


def test_what_was_forgotten_is_in_no_stack():
    writer = StackWriter(frame(1), id_field="uniqueId", frames=4)
    writer.add(1, frame(1))
    writer.forget()
    writer.add(2, frame(2))
    message = writer.message()
    assert Stack(message, FrameTemplate(message, id_field="uniqueId")).ids == [2]


def test_other_structures_are_refused():
    with pytest.raises(DataError, match="can't be stacked"):
        StackWriter(pvaccess.PvObject({"uniqueId": pvaccess.INT}), id_field="uniqueId", frames=4)
    with pytest.raises(DataError, match="not a stack"):
        FrameTemplate(frame(1), id_field="uniqueId")


def test_a_stack_whose_parts_do_not_fit_is_refused():
    writer = StackWriter(frame(1), id_field="uniqueId", frames=4)
    writer.add(1, frame(1))
    message = writer.message()
    message.setScalarArray("stack.ids", np.array([1, 2], np.int64))
    with pytest.raises(DataError, match="1 images has 2 ids"):
        Stack(message, FrameTemplate(message, id_field="uniqueId"))
