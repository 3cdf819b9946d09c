"""The fork of a child; what the daemon listens on, and what of it each child gets.

Law: a child keeps no listening socket that is another's to accept on: who dials that would wait for ever.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import ExitStack

from hacd.settings import Settings, Source
from hacd.supervisor import sockets
from hacd.supervisor.children import Child
from hacd.supervisor.fronts import Front, Fronts
from hacd.supervisor.notify import Notify
from hacd.supervisor.stacks import Stack
from hacd.supervisor.watch import LOOK

#: signs of life that a front gives within the time that systemd waits for one
BEATS = 3

#: what a child runs, given its line to the supervisor
Life = Callable[[socket.socket], None]


def fork() -> tuple[int, socket.socket, socket.socket, Stack]:
    """Fork: the pid (0 in the child), both ends of the line between the two, and the child's stack.

    Raises OSError where the system has no process or descriptor left, and leaves nothing open then.
    """
    with ExitStack() as made:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        made.callback(ours.close)
        made.callback(theirs.close)
        stack = Stack()
        made.callback(stack.close)
        pid = os.fork()
        made.pop_all()
    return pid, ours, theirs, stack


class Births:
    """The sockets. `given`: the public one, where systemd keeps it."""

    def __init__(self, source: Source, given: socket.socket | None, notify: Notify, fronts: Fronts) -> None:
        self._source = source
        self._given = given
        self._notify = notify
        self._fronts = fronts
        self._internal: dict[Front, socket.socket] = {}

    def bind(self, path: str, settings: Settings, bound: list[str]) -> None:
        """Listen. `bound` gets the paths of what is to be removed at the end: not that of a socket of systemd's."""
        if self._given is not None:
            self._public = self._given
        else:
            self._public = sockets.listen(path, settings.hacd)
            bound.append(path)
        sockets.sweep(path, [front.path for front in self._fronts])
        for front in self._fronts:
            self._internal[front] = sockets.bind(front.path, 0o600)
            bound.append(front.path)

    def life(self, child: Child, settings: Settings, version: int) -> Life:
        """In the child: what it runs, with these settings, which were changed so often.

        Its modules are loaded after the fork, which the loops and libcurl need.
        """
        self._keep_own(child)
        if isinstance(child, Front):
            return self._front(child, settings, version)
        from hacd.worker import process as worker

        fronts = [(each.path, each.ledger) for each in self._fronts]
        return lambda line: worker.main(settings, line, fronts, child.number)

    def _front(self, child: Front, settings: Settings, version: int) -> Life:
        from hacd.front import process as front
        from hacd.front.pulse import Duties

        beat = min(LOOK, self._notify.watchdog / BEATS or LOOK)
        paths = tuple(each.path for each in self._fronts)
        duties = Duties(self._given is not None, self._notify.wanted, beat, child.index, paths, version)
        listening = (self._public, self._internal[child])
        return lambda line: front.main(self._source, settings, line, *listening, duties, child.ledger)

    def _keep_own(self, child: Child) -> None:
        if not isinstance(child, Front):
            self._public.close()
        for front, internal in self._internal.items():
            if front is not child:
                internal.close()
