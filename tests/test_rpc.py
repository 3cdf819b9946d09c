"""Bytes to messages and back, and what a stream that is wrong may cost."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from hacd import rpc
from hacd.errors import FrameTooLarge, ProtocolError
from hacd.rpc import CHUNK, MAX_ITEMS, Decoder

#: the same examples each time, however slow the machine is
PROPERTY = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])

MAX_FRAME = CHUNK
MIB = 1024 * 1024

#: text as it may come over the wire: anything that UTF-8 can hold, and bytes that are no UTF-8
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | texts
    | st.binary(max_size=50)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(texts, inner, max_size=5))


def decoded(*chunks: bytes, max_frame: int = MAX_FRAME, text: bool = True) -> list[Any]:
    """All messages in the chunks."""
    decoder = Decoder(max_frame, text=text)
    messages: list[Any] = []
    for chunk in chunks:
        decoder.feed(chunk, messages)
    return messages


def cut(data: bytes, size: int = CHUNK) -> list[bytes]:
    """The data as a socket may give it."""
    return [data[place : place + size] for place in range(0, len(data), size)]


def framed(length: int, msgid: int = 7) -> bytes:
    """A request of exactly that many bytes."""
    params: list[Any] = [b"x" * (length - 20)]
    while len(frame := rpc.request(msgid, "query", params)) < length:
        params.append(0)
    assert len(frame) == length
    return frame


def refused(*chunks: bytes, max_frame: int = MAX_FRAME) -> tuple[ProtocolError, list[Any]]:
    """Why the stream broke, and what was whole before."""
    decoder = Decoder(max_frame)
    messages: list[Any] = []
    for chunk in chunks:
        try:
            decoder.feed(chunk, messages)
        except ProtocolError as error:
            return error, messages
    raise AssertionError("nothing was wrong with it")


# -- whole messages, and parts of them


def test_one_message() -> None:
    assert decoded(rpc.request(1, "ping", [])) == [[0, 1, "ping", []]]


def test_several_messages_in_a_chunk() -> None:
    data = b"".join(rpc.request(n, "query", ["http://x/"]) for n in range(100))
    assert decoded(data) == [[0, n, "query", ["http://x/"]] for n in range(100)]


def test_nothing_from_nothing() -> None:
    assert decoded(b"") == []
    assert decoded(b"", rpc.request(1, "ping", []), b"") == [[0, 1, "ping", []]]


def test_split_at_every_byte() -> None:
    data = rpc.request(1, "query", ["http://x/", {"body": b"\x00\xff", "hdr": ["A: b"]}]) + rpc.request(2, "ping", [])
    whole = decoded(data)
    for place in range(len(data) + 1):
        assert decoded(data[:place], data[place:]) == whole
    assert decoded(*cut(data, 1)) == whole


def test_half_a_message_is_none() -> None:
    data = rpc.request(1, "ping", [])
    decoder = Decoder(MAX_FRAME)
    messages: list[Any] = []
    decoder.feed(data[:-1], messages)
    assert messages == []
    decoder.feed(data[-1:] + data[:3], messages)
    assert messages == [[0, 1, "ping", []]]
    decoder.feed(data[3:], messages)
    assert messages == [[0, 1, "ping", []]] * 2


def test_memoryview_may_be_overwritten() -> None:
    """Channels read into one buffer for all."""
    buffer = bytearray(rpc.request(1, "ping", [b"body"]))
    messages: list[Any] = []
    decoder = Decoder(MAX_FRAME)
    decoder.feed(memoryview(buffer)[:5], messages)
    rest = bytes(buffer[5:])
    buffer[:5] = b"\xc1" * 5
    decoder.feed(rest, messages)
    assert messages == [[0, 1, "ping", [b"body"]]]


def test_fed_counts_bytes() -> None:
    decoder = Decoder(MAX_FRAME)
    decoder.feed(b"\x01\x02", [])
    decoder.feed(b"\x92", [])
    assert decoder.fed == 3


def test_text_stays_bytes_where_asked() -> None:
    assert decoded(rpc.request(1, "ping", [b"a", "b"]), text=False) == [[0, 1, b"ping", [b"a", b"b"]]]


@given(st.lists(values, max_size=8), st.data())
@PROPERTY
def test_any_messages_in_any_chunks(sent: list[Any], data: st.DataObject) -> None:
    stream = b"".join(map(rpc.pack, sent))
    chunks: list[bytes] = []
    while stream:
        size = data.draw(st.integers(1, min(len(stream), CHUNK)))
        chunks.append(stream[:size])
        stream = stream[size:]
    assert decoded(*chunks) == sent


# -- streams that are wrong


def test_garbage_keeps_what_was_whole_before() -> None:
    error, messages = refused(rpc.request(1, "ping", []) + rpc.request(2, "ping", []) + b"\xc1")
    assert str(error).startswith("not MessagePack")
    assert [message[1] for message in messages] == [1, 2]


@pytest.mark.parametrize(
    "garbage",
    [
        pytest.param(b"\xc1", id="the byte that MessagePack does not use"),
        pytest.param(b"\x81\x91\x01\x02", id="a list as a key"),
        pytest.param(b"\x81\x80\x02", id="a map as a key"),
        pytest.param(b"\x81\xd4\xff\x00\x01", id="a time stamp of one byte"),
        pytest.param(b"\xd7\xff" + b"\xff" * 8, id="a time stamp with too many nanoseconds"),
    ],
)
def test_garbage(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        decoded(garbage)
    with pytest.raises(ProtocolError):
        decoded(*cut(garbage, 1))


@given(st.lists(st.binary(max_size=200), max_size=5))
@settings(PROPERTY, max_examples=500)
def test_any_bytes_are_messages_or_a_protocol_error(chunks: list[bytes]) -> None:
    decoder = Decoder(100)
    messages: list[Any] = []
    with suppress(ProtocolError):
        for chunk in chunks:
            decoder.feed(chunk, messages)
    for message in messages:
        rpc.pack(message)  # what a caller may say can be said back to him, as xdata is


@given(st.binary(max_size=20), st.sampled_from([0x90, 0x80, 0xDC, 0xDD, 0xDE, 0xDF, 0xC7, 0xD4, 0xD8, 0xDB, 0xC6]))
@settings(PROPERTY, max_examples=500)
def test_any_bytes_after_a_header_of_something_long(rest: bytes, header: int) -> None:
    for data in (bytes([header]) + rest, bytes([header | 3]) + bytes([header]) + rest):
        with suppress(ProtocolError):
            for message in decoded(data):
                rpc.pack(message)


# -- limits


@pytest.mark.parametrize("size", [1, 1000, CHUNK - 1, CHUNK])
def test_max_frame_is_exact(size: int) -> None:
    for length in (2 * CHUNK - 1, 2 * CHUNK):
        assert len(decoded(*cut(framed(length), size), max_frame=2 * CHUNK)) == 1
    with pytest.raises(FrameTooLarge, match=f"max_frame \\({2 * CHUNK} bytes\\)") as caught:
        decoded(*cut(framed(2 * CHUNK + 1), size), max_frame=2 * CHUNK)
    assert caught.value.msgid == 7


def test_max_frame_is_exact_within_a_chunk() -> None:
    assert len(decoded(framed(1000), max_frame=1000)) == 1
    with pytest.raises(FrameTooLarge):
        decoded(framed(1001), max_frame=1000)


def test_max_frame_is_of_each_message_and_not_of_the_stream() -> None:
    data = framed(CHUNK) * 5 + framed(10_000)
    for size in (777, CHUNK):
        assert len(decoded(*cut(data, size))) == 6


def test_too_large_keeps_what_was_whole_before() -> None:
    stream = framed(100, 1) + framed(MAX_FRAME, 2) + framed(MAX_FRAME + 1, 3) + framed(100, 4)
    for size in (1, 777, CHUNK):
        error, messages = refused(*cut(stream, size))
        assert [message[1] for message in messages] == [1, 2]
        assert isinstance(error, FrameTooLarge)
        assert error.msgid == 3


def test_too_large_long_before_its_end() -> None:
    with pytest.raises(FrameTooLarge) as caught:
        decoded(*cut(framed(1000 * CHUNK)[: 2 * CHUNK]))
    assert caught.value.msgid == 7


@pytest.mark.parametrize("msgid", [0, 1, 127, 128, 255, 256, 65535, 65536, rpc.MSGID_MAX])
@pytest.mark.parametrize("first", [1, 2, 3, 5, 8, 100])
def test_too_large_names_its_call(msgid: int, first: int) -> None:
    frame = framed(MAX_FRAME + 1, msgid)
    with pytest.raises(FrameTooLarge) as caught:
        decoded(frame[:first], *cut(frame[first:]))
    assert caught.value.msgid == msgid


@pytest.mark.parametrize("size", [1, CHUNK])
def test_too_large_and_no_request(size: int) -> None:
    frame = rpc.notification("query", [b"x" * (MAX_FRAME + 1)])
    with pytest.raises(FrameTooLarge) as caught:
        decoded(*cut(frame, size))
    assert caught.value.msgid is None


@pytest.mark.parametrize(
    ("head", "msgid"),
    [
        (b"", None),
        (b"\x94", None),
        (b"\x94\x00", None),
        (b"\x94\x00\xce\x00\x00\x01", None),  # cut off
        (b"\x94\x00\xce\x00\x00\x01\x00", 256),
        (b"\x94\xcc\x00\x07", 7),
        (b"\x94\xd0\x00\xce\xff\xff\xff\xff", rpc.MSGID_MAX),
        (b"\x94\x00\xff", None),  # -1
        (b"\x94\x00\xc3", None),  # true
        (b"\x94\x00\xa1a", None),
        (b"\x94\x00\xc1", None),
        (b"\x94\x01\x07", None),  # a response
        (b"\x93\x02\xa1a", None),
    ],
)
def test_msgid_of(head: bytes, msgid: int | None) -> None:
    assert rpc.msgid_of(head) == msgid


@pytest.mark.parametrize(
    ("header", "item"),
    [pytest.param(b"\xdd", b"\x00", id="array"), pytest.param(b"\xdf", b"\x00\x00", id="map")],
)
def test_max_items(header: bytes, item: bytes) -> None:
    def items(count: int) -> bytes:
        return header + count.to_bytes(4) + item * count

    assert len(decoded(items(MAX_ITEMS), max_frame=CHUNK)) == 1
    with pytest.raises(ProtocolError):
        decoded(items(MAX_ITEMS + 1), max_frame=CHUNK)
    with pytest.raises(ProtocolError):
        decoded(header + b"\xff" * 4)


def test_trusted_peers_have_no_max_items() -> None:
    data = rpc.pack([0] * (MAX_ITEMS + 1))
    messages: list[Any] = []
    Decoder(MAX_FRAME, None).feed(data, messages)
    assert len(messages[0]) == MAX_ITEMS + 1


@pytest.mark.parametrize("level", [b"\x91", b"\x81\x00", b"\xdc\x00\x01"])
@pytest.mark.parametrize("depth", [1025, 20_000])
def test_deep_nesting_is_a_protocol_error(level: bytes, depth: int) -> None:
    with pytest.raises(ProtocolError):
        decoded(level * depth + b"\x00")


def test_nesting_bomb_stays_small() -> None:
    """Each header of an array reserves its items, at each level, before one of them is there."""
    bomb = (b"\xdc" + MAX_ITEMS.to_bytes(2)) * 2000
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decoded(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * MIB


def test_announced_length_reserves_nothing() -> None:
    tracemalloc.start()
    try:
        decoder = Decoder(1024 * MIB)
        decoder.feed(b"\xc6\x3f\xff\xff\xff" + b"x" * 100, [])  # 100 bytes of a GiB
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * MIB


# -- what is not text, not JSON, not usual


@given(st.binary(max_size=100))
@example(bytes(32))  # from here on there are two encodings of its length, an old and a new one
@PROPERTY
def test_str_that_is_no_utf8_goes_out_as_it_came(raw: bytes) -> None:
    packed = msgpack.packb([raw], use_bin_type=False)  # as str, whatever its bytes are
    [[text]] = decoded(packed)
    assert isinstance(text, str)
    again = rpc.pack([text])
    assert msgpack.unpackb(again, raw=True) == [raw]
    assert decoded(again) == [[text]]


def test_unpack_reads_whatever_pack_wrote() -> None:
    """A byte that was no UTF-8 included."""
    for value in ("grün", "\udcff", b"\xff", {"a": [1, None]}, {1: 2}):
        assert rpc.unpack(rpc.pack(value)) == value


def test_unpack_is_of_one_value() -> None:
    assert rpc.unpack(rpc.pack({"a": "b"}), text=False) == {b"a": b"b"}
    for data in (b"", b"\x92\x01", b"\xc1", b"\x01\x02"):
        with pytest.raises(ProtocolError):
            rpc.unpack(data)


@pytest.mark.parametrize("value", [msgpack.Timestamp(1, 2), {1: {b"k": None}}, {None: True}, 2**64 - 1, -(2**63)])
def test_unusual_values_come_back(value: Any) -> None:
    packed = msgpack.packb([value])
    assert decoded(packed) == [[value]]
    assert rpc.pack(decoded(packed)[0]) == packed


@pytest.mark.parametrize("code", [0, 5, 127, -2, -128])
def test_ext_types_are_none_of_hacds(code: int) -> None:
    data = b"\xc7\x02" + code.to_bytes(signed=True) + b"\x00\xff"
    error, messages = refused(rpc.request(1, "ping", []) + data)
    assert [message[1] for message in messages] == [1]
    assert str(error).startswith("not MessagePack: ")


def test_pack_survives_what_it_cannot_pack() -> None:
    """It is one packer for all: a value that fails leaves nothing of itself behind."""
    for wrong in ([1, object()], [1, 2**64], ["a", "\ud800"]):
        with pytest.raises((TypeError, ValueError, OverflowError)):
            rpc.pack(wrong)
        assert rpc.pack([1]) == b"\x91\x01"


# -- the messages


def test_request() -> None:
    assert msgpack.unpackb(rpc.request(7, "query", ["http://x/"])) == [0, 7, "query", ["http://x/"]]


def test_notification() -> None:
    assert msgpack.unpackb(rpc.notification("resume", [{"id": "1"}])) == [2, "resume", [{"id": "1"}]]


def test_response() -> None:
    assert msgpack.unpackb(rpc.response(7, None, True)) == [1, 7, None, True]
    error = {"code": "busy", "message": "m"}
    assert msgpack.unpackb(rpc.response(None, error, None)) == [1, None, error, None]


@given(st.integers(0, rpc.MSGID_MAX), values)
@PROPERTY
def test_response_head_and_packed_result_are_the_response(msgid: int, result: Any) -> None:
    assert rpc.response_head(msgid) + rpc.pack(result) == rpc.response(msgid, None, result)


@given(st.text(max_size=40), values)
@PROPERTY
def test_notification_head_and_packed_parameter_are_the_notification(method: str, value: Any) -> None:
    assert rpc.notification_head(method) + rpc.pack(value) == rpc.notification(method, [value])
