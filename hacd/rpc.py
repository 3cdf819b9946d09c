"""MessagePack-RPC: bytes to messages and back, with limits. No sockets.

Law: this is the only importer of msgpack. A decoder never gives half a message,
and gives every whole one that came before the byte that broke the stream.
The same framing serves callers and workers; what a message means is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from struct import Struct
from typing import Any

import msgpack

from hacd.errors import FrameTooLarge, ProtocolError

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2

#: bytes that one read takes from a socket; also the smallest `max_frame` that can be set
CHUNK = 65536

#: items that an array or a map of a caller may have. msgpack reserves an array's memory
#: from its header alone, at each level of nesting, of which it allows a thousand: that is 4 MiB.
MAX_ITEMS = 512

#: Bytes of memory that a byte of a caller's may become at the most. Only those of _TYPES begin more than a small
#: number: in `{nil: {nil: …}}` a map of 248 bytes is two of them. The others may be items of maps: 18 bytes for each.
SPREAD, PLAIN = 128, 20
_TYPES = bytes(range(0x80, 0xE0))
_NO_TYPES = bytes(byte for byte in range(256) if byte not in _TYPES)

MSGID_MAX = 2**32 - 1

#: Bytes of a chunk that are parsed at once in a message whose values are shorter than a chunk: it shows which of them
#: are long. It costs 0.5 µs a step.
STEP = 4096

#: bytes of a message's begin that hold its type and its msgid at their longest
HEAD = 8

#: packs one value
Pack = Callable[[Any], bytes]


def packer() -> Pack:
    """Packs one value after the other; not for threads. It keeps a buffer as long as the longest that it packed.

    Text that came in as bytes which are no UTF-8 goes out as it came.
    """
    pack: Pack = msgpack.Packer(autoreset=True, unicode_errors="surrogateescape").pack
    return pack


#: that of this process's loop
pack = packer()


#: bytes from which on a value is not for `pack`, which would keep as many
LARGE = 65536

#: what becomes of a value of an ext type, given its type and its bytes
ExtHook = Callable[[int, bytes], Any]

#: the ext types of a body whose descriptor came along (its size, 8 bytes), and of one in an arena (its number, 4 bytes;
#: where the body begins, 8; its size, 8); all big-endian
EXT_BODY, EXT_LENT = 1, 2
_LENT = Struct(">BBBIQQ")


def no_ext(code: int, _data: bytes) -> Any:
    """No ext type is expected. Raises ValueError."""
    raise ValueError(f"ext type {code} is none of hacd's")


class Decoder:
    """Turns the chunks of one stream into messages.

    `max_frame`: bytes that one message may have. `max_items`: members of one array or map
    (None: any number, for peers that are trusted). `text`: decode str, else leave it as bytes.
    `ext_hook`: for peers that may send ext types.
    """

    def __init__(
        self, max_frame: int, max_items: int | None = MAX_ITEMS, text: bool = True, ext_hook: ExtHook = no_ext
    ) -> None:
        items = max_frame if max_items is None else max_items
        self._max_frame = max_frame
        self._trusted = max_items is None
        # A message is measured after a chunk was fed, so the buffer has chunks to spare. Left to itself it begins at
        # a MiB, of which every connection would have made use in time.
        self._make: Callable[[], Any] = partial(
            msgpack.Unpacker,
            read_size=2 * CHUNK,
            raw=not text,
            unicode_errors="surrogateescape",
            strict_map_key=False,
            ext_hook=ext_hook,
            max_buffer_size=max_frame + 2 * CHUNK,
            max_array_len=items,
            max_map_len=items,
        )
        self._unpacker = self._make()
        self._before = 0  # bytes that its predecessors took in
        self._fed = 0  # bytes that it took in itself
        self._end = 0  # where the last whole message ended
        self._head = b""  # the first bytes of the message after it, which name its call
        self._parsed = 0  # bytes of memory that its values may take which have come whole
        #: Bytes of memory that it may hold, of a peer that is not trusted. A value that is still coming is as long as
        #: it is.
        self.held = 0
        self._dense = False  # it has been seen to have values that are shorter than a chunk
        self._grown = False  # the buffer may be longer than most messages need

    @property
    def fed(self) -> int:
        """Bytes taken in so far."""
        return self._before + self._fed

    def feed(self, chunk: bytes | memoryview, messages: list[Any]) -> None:
        """Append to `messages` each message that `chunk` (at most CHUNK bytes) completes.

        Raises ProtocolError when the stream is no MessagePack, FrameTooLarge past `max_frame`;
        what was whole before that stands in `messages`, and the decoder is of no further use.
        """
        if self._dense:
            self._feed_in_steps(chunk, messages)
            return
        unpacker = self._unpacker
        tell = unpacker.tell
        end = self._end
        try:
            unpacker.feed(chunk)
            for message in unpacker:
                begin, end = end, tell()
                if end - begin > self._max_frame:
                    # Longer than a chunk, so it began in an earlier one.
                    self._head += bytes(chunk[: HEAD - len(self._head)])
                    raise self._too_large()
                messages.append(message)
        except (ValueError, TypeError, msgpack.UnpackException) as error:
            raise ProtocolError(f"not MessagePack: {str(error) or type(error).__name__}") from None
        self._end = end
        self._fed += len(chunk)
        if self._fed != end:
            self._begun(chunk)
        elif self.held:
            self._whole()

    def _feed_in_steps(self, chunk: bytes | memoryview, messages: list[Any]) -> None:
        dense = True
        for begin in range(0, len(chunk), STEP):
            self._dense = False
            before = len(messages)
            self.feed(chunk[begin : begin + STEP], messages)
            dense = dense and len(messages) == before
        self._dense = self._dense or dense

    def close(self) -> None:
        """Let go of what came of a message; nothing more is fed."""
        self._unpacker = None
        self.held = 0

    def _begun(self, chunk: bytes | memoryview) -> None:
        """The chunk ends within a message: remember how that begins, judge its length, and weigh it."""
        length = self._fed - self._end
        if length <= len(chunk):
            self._head = b""
            self._parsed = 0
            self._dense = False
            if self._grown:
                self._renew(chunk[-length:])
        if len(self._head) < HEAD:
            self._head += bytes(chunk[-length:][: HEAD - len(self._head)])
        if length > self._max_frame:
            raise self._too_large()
        if not self._trusted:
            # A value that has not come whole stays in the buffer: what was parsed of this chunk are others.
            begin = max(0, len(chunk) - length)
            parsed = chunk[begin : max(begin, len(chunk) - self._fed + self._unpacker.tell())]
            if len(parsed) > STEP // 2:
                self._dense = True
            if parsed:
                self._parsed += PLAIN * len(parsed) + SPREAD * len(bytes(parsed).translate(None, _NO_TYPES))
            self.held = length + self._parsed
            self._grown = length > CHUNK

    def _whole(self) -> None:
        """A message that began in an earlier chunk is whole, and nothing follows it."""
        self.held = 0
        if self._grown:
            self._renew(b"")

    def _renew(self, rest: bytes | memoryview) -> None:
        """A long message is whole, and `rest` follows it. A buffer that has grown never gets shorter by itself."""
        self._grown = False
        self._before += self._end
        self._end, self._fed = 0, len(rest)
        self._unpacker = self._make()
        self._unpacker.feed(rest)
        next(self._unpacker, None)  # which is no whole message: `tell` says how far it was parsed

    def _too_large(self) -> FrameTooLarge:
        return FrameTooLarge(f"frame longer than max_frame ({self._max_frame} bytes)", msgid_of(self._head))


def msgid_of(head: bytes) -> int | None:
    """The msgid of the request whose first bytes are `head`, or None if it is no request."""
    if not head.startswith((b"\x94\x00", b"\x94\xd0\x00", b"\x94\xcc\x00")):
        return None
    unpacker = msgpack.Unpacker()
    unpacker.feed(head[1:])
    try:
        unpacker.unpack()
        msgid = unpacker.unpack()
    except (ValueError, msgpack.UnpackException):
        return None
    return msgid if type(msgid) is int and 0 <= msgid <= MSGID_MAX else None


def unpack(data: bytes, text: bool = True) -> Any:
    """The one value in `data`, which this program packed itself. Raises ProtocolError."""
    try:
        return msgpack.unpackb(data, raw=not text, strict_map_key=False, unicode_errors="surrogateescape")
    except (ValueError, msgpack.UnpackException) as error:
        raise ProtocolError(f"not MessagePack: {str(error) or type(error).__name__}") from None


def request(msgid: int, method: str, params: list[Any], pack: Pack | None = None) -> bytes:
    """A call that wants a response. Threads may call this, without a `pack`: that has one buffer for all."""
    return (pack or pack_apart)((REQUEST, msgid, method, params))


def notification(method: str, params: list[Any]) -> bytes:
    """A call that wants no response."""
    return pack_apart((NOTIFICATION, method, params))


def pack_apart(value: Any) -> bytes:
    """As `pack`, with a packer of its own: for threads, and for what may be long (see LARGE)."""
    packed: bytes = msgpack.packb(value, unicode_errors="surrogateescape")
    return packed


def response(msgid: int | None, error: dict[str, str] | None, result: Any) -> bytes:
    """The end of a call: exactly one of `error` and `result` is of use."""
    return pack((RESPONSE, msgid, error, result))


def response_apart(msgid: int, result: Any) -> bytes:
    """The end of a call with a result of any size, of a route's making. Raises TypeError, ValueError, OverflowError.

    Nobody knows its length before, so it always has a packer of its own: 0.4 µs.
    """
    data = pack_apart((RESPONSE, msgid, None, result))
    refuse_ext(result)
    return data


def refuse_ext(value: Any) -> None:
    """Raise TypeError where there is a value of an ext type in it. Its peer would take that for a body's descriptor."""
    if isinstance(value, dict):
        for key, item in value.items():
            refuse_ext(key)
            refuse_ext(item)
    elif isinstance(value, msgpack.ExtType | msgpack.Timestamp):
        raise TypeError(f"{type(value).__name__} is no type that hacd has")
    elif isinstance(value, list | tuple):
        for item in value:
            refuse_ext(item)


def response_head(msgid: int) -> bytes:
    """A response without error up to its result, which the caller of this appends packed."""
    return pack((RESPONSE, msgid, None, 0))[:-1]


def notification_head(method: str) -> bytes:
    """A notification with one parameter, up to that parameter, likewise."""
    return pack((NOTIFICATION, method, (0,)))[:-1]


def str_head(size: int) -> bytes:
    """What stands before the bytes, in UTF-8, of a str of that size."""
    return _STR_HEADS[size] if size < len(_STR_HEADS) else b"\xdb" + size.to_bytes(4, "big")


# of short ones, as `pack` makes them
_BIN_HEADS = [pack(bytes(size))[: -size or None] for size in range(256)]
_STR_HEADS = [pack("x" * size)[: -size or None] for size in range(256)]


def bin_head(size: int) -> bytes:
    """What stands before the bytes of a bin of that size."""
    return _BIN_HEADS[size] if size < len(_BIN_HEADS) else b"\xc6" + size.to_bytes(4, "big")


def body_ext(size: int) -> bytes:
    """What stands for a body of that size whose descriptor goes along."""
    return bytes((0xD7, EXT_BODY)) + size.to_bytes(8, "big")


def lent_ext(number: int, begin: int, size: int) -> bytes:
    """What stands for a body of that size in that arena."""
    return _LENT.pack(0xC7, _LENT.size - 3, EXT_LENT, number, begin, size)


def lent(data: bytes) -> tuple[int, int, int]:
    """Number, begin and size of the bytes of an ext value that `lent_ext` made. Raises ValueError."""
    if len(data) != _LENT.size - 3:
        raise ValueError("a body in an arena that has no place")
    _, _, _, number, begin, size = _LENT.unpack(bytes(3) + data)
    return number, begin, size
