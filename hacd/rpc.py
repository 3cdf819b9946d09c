"""MessagePack-RPC: bytes to messages and back, with limits. No sockets.

Law: this is the only importer of msgpack. A decoder never gives half a message,
and gives every whole one that came before the byte that broke the stream.
The same framing serves callers and workers; what a message means is not known here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgpack

from hacd.errors import FrameTooLarge, ProtocolError

REQUEST, RESPONSE, NOTIFICATION = 0, 1, 2

#: bytes that one read takes from a socket; also the smallest `max_frame` that can be set
CHUNK = 65536

#: items that an array or a map of a caller may have. msgpack reserves an array's memory
#: from its header alone, at each level of nesting, of which it allows a thousand: that is 4 MiB.
MAX_ITEMS = 512

MSGID_MAX = 2**32 - 1

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

#: the ext type of a body whose descriptor came along: its size, 8 bytes, big-endian
EXT_BODY = 1


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
        # A message is measured after a chunk was fed, so the buffer has chunks to spare.
        self._unpacker: Any = msgpack.Unpacker(
            raw=not text,
            unicode_errors="surrogateescape",
            strict_map_key=False,
            ext_hook=ext_hook,
            max_buffer_size=max_frame + 2 * CHUNK,
            max_array_len=items,
            max_map_len=items,
        )
        self.fed = 0  # bytes taken in so far
        self._end = 0  # where the last whole message ended
        self._head = b""  # the first bytes of the message after it, which name its call

    def feed(self, chunk: bytes | memoryview, messages: list[Any]) -> None:
        """Append to `messages` each message that `chunk` (at most CHUNK bytes) completes.

        Raises ProtocolError when the stream is no MessagePack, FrameTooLarge past `max_frame`;
        what was whole before that stands in `messages`, and the decoder is of no further use.
        """
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
        self.fed += len(chunk)
        if self.fed != end:
            self._begun(chunk)

    def close(self) -> None:
        """Let go of what came of a message; nothing more is fed."""
        self._unpacker = None

    def _begun(self, chunk: bytes | memoryview) -> None:
        """The chunk ends within a message: remember how that begins, and judge its length."""
        length = self.fed - self._end
        if length <= len(chunk):
            self._head = b""
        if len(self._head) < HEAD:
            self._head += bytes(chunk[-length:][: HEAD - len(self._head)])
        if length > self._max_frame:
            raise self._too_large()

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


#: of short ones, as `pack` makes them
_STR_HEADS = [pack("x" * size)[:-size] if size else pack("") for size in range(256)]


def bin_head(size: int) -> bytes:
    """What stands before the bytes of a bin of that size."""
    return b"\xc6" + size.to_bytes(4, "big")


def body_ext(size: int) -> bytes:
    """What stands for a body of that size whose descriptor goes along."""
    return bytes((0xD7, EXT_BODY)) + size.to_bytes(8, "big")
