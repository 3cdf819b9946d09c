"""The blocking client's connection, which threads share, and the calls that wait on it.

There is no thread of its own: of the threads that wait, one reads for all, and passes that
on when it has what it came for. A call alone therefore costs two system calls and no switch.

Law: a call is made once. It goes over another connection only if the daemon has heard nothing of it.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from typing import Any

from hacd import rpc
from hacd.client import calls
from hacd.client.bodies import GREETING, Receiver
from hacd.errors import ConnectionLost, HacdError, ProtocolError, Refused

_DONTWAIT = int(socket.MSG_DONTWAIT)  # as a flag of an enum it costs more to combine than to use

#: s after the end of a call in which the daemon is taken to be there still
FRESH = 0.01


class Call:
    """A call that waits: for its end, or for its thread's turn to read."""

    __slots__ = ("done", "error", "failure", "result")

    def __init__(self) -> None:
        self.done = False
        self.error: Any = None
        self.result: Any = None
        self.failure: HacdError | None = None


class Connection:
    """A socket that threads share, and the calls that wait on it. `over`: no new call may use it."""

    def __init__(self, path: str, descriptors: bool) -> None:
        self.path = path
        self.over = False
        self._hung_up = False  # by this side
        self._greeting = GREETING if descriptors else b""
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.connect(path)
        except OSError as error:
            self._sock.close()
            raise calls.unavailable(path, error) from None
        self._receiver = Receiver(self._sock, descriptors)
        self._calls: dict[int, Call] = {}
        self._threads: set[int] = set()  # that have a call here
        # Of the kind that a thread may take twice: a signal may come while it has it, and its handler call.
        self._lock = threading.RLock()
        self._turn = threading.Condition(self._lock)
        self._reading = False
        self._ended = 0.0  # when a call last did; 0: none has
        self._sending = threading.Lock()

    # -- bytes

    def send(self, data: bytes) -> bool:
        """Send all of it. False: the daemon hears no more; reading tells why, or that it went without a word."""
        with self._sending:
            if self.over:
                return False
            try:
                self._sock.sendall(self._greeting + self._receiver.returned() + data)
                self._greeting = b""
            except (BrokenPipeError, ConnectionResetError):
                return False
            except OSError as error:
                raise calls.lost(self.path, error.strerror or "write failed") from None
            except BaseException:
                self._shut()  # half a frame may be out: nobody is to go on behind it
                raise
        return True

    def receive(self) -> list[Any]:
        """At least one message. Raises ConnectionLost."""
        messages: list[Any] = []
        while not messages:
            try:
                size = self._receiver.read()
            except OSError as error:
                raise calls.lost(self.path, error.strerror or "read failed") from None
            if not size:
                raise calls.lost(self.path, "connection closed")
            self._receiver.decode(size, messages)
        return messages

    def hung_up(self) -> bool:
        """Whether the daemon has gone while nobody called. What it said meanwhile are replies of `send`s."""
        with self._lock:  # so that no call begins meanwhile, whose response this would take
            return not self._calls and not self._reading and self._drained()

    def fresh(self) -> bool:
        """Whether the daemon was there a moment ago: to look again at each call would take a tenth as long as it."""
        return not self.over and not self._receiver.broken and time.monotonic() - self._ended < FRESH

    def _drained(self) -> bool:
        try:
            while size := self._receiver.read(_DONTWAIT):
                self._receiver.decode(size, [])
        except BlockingIOError:
            return False
        except (OSError, ProtocolError):
            return True
        return True

    def hang_up(self) -> None:
        """Nobody wants it any more: calls that wait end with ConnectionLost."""
        self._hung_up = True
        self.retire()

    def retire(self) -> None:
        """No new call is to use it. Where some are under way, it is the last of them that closes it.

        Were it closed under a thread that is about to read, that might read what has its number next.
        """
        self._shut()
        with self._lock:
            unused = not self._calls
        if unused:
            self.close()

    def close(self) -> None:
        """It is over."""
        self._shut()
        self._sock.close()
        self._receiver.close()

    def _shut(self) -> None:
        self.over = True
        # A thread that reads wakes up from shutdown, and not from close.
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)

    # -- calls

    def call(self, msgid: int, data: bytes) -> Call | None:
        """Send a call and wait for its end; None if the connection is over, and has not taken it.

        Raises what ended it meanwhile, and RuntimeError to a signal's handler whose thread has a call here.
        """
        call, thread = Call(), threading.get_ident()
        if thread in self._threads:
            raise RuntimeError("a call in the middle of another of this thread: a client of its own would be right")
        used, sent = self._ended, False
        try:
            with self._lock:
                if self.over:
                    return None
                self._threads.add(thread)
                self._calls[msgid] = call
            sent = self.send(data)
            self._wait(call)
        except BaseException as error:
            # Half a frame may be out, or bytes that were for others lost: nobody can go on here.
            self._break(calls.lost(self.path, f"a thread that shares the connection was interrupted: {error!r}"))
            raise
        finally:
            self._leave(msgid, thread, call)
        if call.failure is None:
            return call
        # One that has ended no call yet may be of somebody who hangs up on each that dials: that would go on for ever.
        if sent or not used or self._hung_up or not isinstance(call.failure, ConnectionLost):
            raise call.failure
        return None

    def _leave(self, msgid: int, thread: int, call: Call) -> None:
        """The call is over. The last one of a connection that is over closes it."""
        with self._lock:
            self._threads.discard(thread)
            self._calls.pop(msgid, None)
            self._ended = time.monotonic()
            if calls.ends_connection(call.error):
                self.over = True
            last = self.over and not self._calls
        if last:
            self.close()

    def _wait(self, call: Call) -> None:
        """Until `call` has ended: read for all, or wait while another thread does."""
        with self._turn:
            while self._reading and not call.done:
                self._turn.wait()
            if call.done:
                return
            self._reading = True
        try:
            while not call.done:
                self._hand_out(self.receive())
        except (ConnectionLost, ProtocolError, Refused) as error:
            self._break(error)
        finally:
            with self._lock:
                self._reading = False
                if len(self._calls) > 1:
                    self._turn.notify_all()

    def _hand_out(self, messages: list[Any]) -> None:
        for message in messages:
            if type(message) is list and message and message[0] == rpc.NOTIFICATION:
                continue  # the reply of a `send`: this client has no place for it
            msgid, error, result = calls.ended(message)
            call = self._calls.get(msgid)
            if call is not None:
                call.error, call.result, call.done = error, result, True
        if len(self._calls) > 1:
            with self._lock:
                self._turn.notify_all()

    def _break(self, failure: HacdError) -> None:
        """The connection is of no use any more: every call on it ends with `failure`."""
        self._shut()
        with self._lock:
            for call in self._calls.values():
                if not call.done:
                    call.failure, call.done = failure, True
            self._turn.notify_all()
