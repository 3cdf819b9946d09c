"""The front as a process: its loop, its two listening sockets, and its end."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import Any

from hacd import log, process, rpc, words
from hacd.errors import FORBIDDEN, Refused
from hacd.flusher import Flusher
from hacd.front.control import Control
from hacd.front.fleet import BEAT
from hacd.front.front import Front
from hacd.front.listener import RUSH, SPARE, Listener
from hacd.front.owner import Peer
from hacd.front.peers.peers import Peers
from hacd.front.pulse import Duties, Pulse
from hacd.front.reserve import Reserved
from hacd.front.rota import InTurn
from hacd.front.sessions import Session
from hacd.front.workers import WorkerLink
from hacd.ledger import Ledger
from hacd.log.entry import Entry
from hacd.loop import Loop, Timer
from hacd.settings import Settings, Source
from hacd.settings.live import versioned, with_version
from hacd.settings.table import BODY_MAX
from hacd.shared import OFFERING
from hacd.trim import Trim

#: bytes of a message of a worker's: an outcome has header block, URL and error text beside its body,
#: whatever `max_body` is set to
MAX_MESSAGE = BODY_MAX + 16 * 1024 * 1024

#: seconds between two looks at whether all has drained
DRAIN_WATCH = 0.01

#: seconds that callers get to take their last outcomes, once the time to drain is over
LAST_READS = 0.5


class FrontProcess:
    """Wires a `Front` to its sockets, and drains it when told to stop."""

    def __init__(
        self,
        source: Source,
        settings: Settings,
        line: socket.socket,
        public: socket.socket,
        internal: socket.socket,
        duties: Duties,
        ledger: Ledger,
    ) -> None:
        self._loop = Loop()
        self._flusher = Flusher(self._loop)
        self.front = Front(self._loop, settings, ledger, duties.number)
        self._peers: Peers | None = None
        if len(duties.paths) > 1:
            self._peers = self.front.peers = Peers(self._loop, self._flusher, self.front, duties.number, duties.paths)
        log.pass_to(self._logged)
        self._control = self.front.control = Control(source, self.front, self._changed)
        on_word: dict[bytes, process.OnWord] = {
            words.DRAIN: self._drain,
            words.END: lambda _: self._end(),
            words.RELOAD: self._reload,
            words.STATES: lambda states: setattr(self.front.fleet, "states", rpc.unpack(states)),
            words.FRONTS: lambda states: setattr(self.front, "states", rpc.unpack(states)),
            words.CONFIG: lambda said: self._control.adopt(*versioned(said)),
            words.REOPEN: lambda _: log.reopen(),
            words.LOG: lambda event: self.front.logged([rpc.unpack(event)]),
        }
        self._control.version = duties.version
        self._child = process.Child(self._loop, line, on_word)
        self.front.on_stop_asked = lambda: self._child.say(words.STOP)
        self.front.on_workers_ready = lambda: self._child.say(words.READY)
        self.front.on_worker_stuck = lambda number, pid: self._child.say(words.STUCK, rpc.pack((number, pid)))
        self._beats = Timer(self._loop)
        self._beats.start(self._beat, BEAT / 1000, BEAT / 1000)
        self._trim = Trim()
        self._public = self._listen(public)
        self._internal = Listener(self._loop, internal, self._worker)
        self.front.activated = duties.activated
        self._pulse = Pulse(self._loop, self.front, duties, self._child.mention)
        self._deadline = Timer(self._loop)
        self._watch = Timer(self._loop)
        self._flusher.start(self.front.turn)

    def _listen(self, public: socket.socket) -> Listener:
        if self._peers is None:
            return Listener(self._loop, public, self._caller, RUSH, SPARE)
        return Listener(self._loop, public, self._caller, 1, SPARE + OFFERING)  # others accept there, too

    def run(self) -> None:
        """Serve until stopped."""
        self._control.start()
        if self._peers is not None:
            self._peers.start()
        self._loop.run()

    def _logged(self, event: Entry) -> None:
        """This process logged something, which is for who tails the log, here or at another front."""
        self.front.logged([event.as_map()])
        if self._peers is not None:
            self._peers.pass_on(event)

    def _beat(self, _timer: Any) -> None:
        """Once a second."""
        self.front.fleet.beat()
        if self._peers is not None:
            self._peers.beat()
        self._trim.look()

    def _reload(self, _: bytes) -> None:
        """The supervisor got SIGHUP. What is wrong is in the log."""
        with suppress(Refused):
            self._control.reload("SIGHUP")
        self._child.say(words.RELOAD)

    def _changed(self, settings: Settings) -> None:
        """These settings hold now: for the log, and for what the supervisor starts from now on."""
        log.reconfigure(settings.hacd)
        self._child.say(words.CONFIG, with_version(self._control.version, settings))

    def _caller(self, sock: socket.socket) -> None:
        front = self.front
        limits = front.settings.limits
        peer = Peer.of(sock)
        if not front.access.admits(peer):
            refusal = Refused(FORBIDDEN, f"uid {peer.uid} may not call: hacd.allow_users and allow_groups say who may")
            front.statistics.refuse(refusal)
            front.complaints.warning("caller %s refused: not in hacd.allow_users nor allow_groups", peer)
            _refuse(sock, refusal)
            return
        try:
            why = front.doors.judge(peer)
        except Refused as refusal:
            front.statistics.refuse(refusal)
            front.complaints.warning("caller %s refused: %s", peer, refusal.message)
            _refuse(sock, refusal)
            return
        decoder = rpc.Decoder(limits.max_frame)
        channel = InTurn(self._loop, self._flusher, sock, decoder, limits.max_client_buffer, account=front.account)
        channel.rota, channel.uid = front.rota, peer.uid
        front.welcome(Reserved(front, channel, peer, why) if why else Session(front, channel, peer))

    def _worker(self, sock: socket.socket) -> None:
        peer = Peer.of(sock)
        if peer.uid != os.geteuid():
            log.error("uid %d pid %d dialled the workers' socket; closed", peer.uid, peer.pid)
            sock.close()
            return
        front = self.front
        shm = front.settings.http_async_client.memory_manager == "shm"
        takes = shm or self._peers is not None  # another front's tickets are descriptors, too
        front.fleet.join(
            WorkerLink(self._loop, self._flusher, sock, MAX_MESSAGE, front.outcomes, front.statistics, takes)
        )

    # -- the end

    def _drain(self, who: bytes) -> None:
        """Take no more queries; end when those in flight have, or when `drain_timeout` is over."""
        if who == words.ALL and self._peers is not None:
            self._all_end(self._peers)
        if self.front.stopping:
            return
        self._refuse_more()
        timeout = self.front.settings.hacd.drain_timeout
        log.info("stopping: %d in flight have %d ms to end", self.front.transactions.live, timeout)
        self._deadline.start(lambda _timer: self._end(), timeout / 1000, 0)
        self._watch.start(self._stop_if_drained, 0, DRAIN_WATCH)

    def _all_end(self, peers: Peers) -> None:
        """Not this front alone: who dials is to hear it, and nobody else is there to say so."""
        peers.parting.all_end = True
        if self.front.stopping and not self.front.activated:
            self._public.resume()

    def _refuse_more(self) -> None:
        """Queries get `stopping` from now on. Who dials is left to others, where there are any.

        That is the next daemon at a socket of systemd's, and another front where this one ends alone.
        """
        self.front.stopping = True
        if self.front.activated or (self._peers is not None and not self._peers.parting.all_end):
            self._public.stop()

    def _stop_if_drained(self, _timer: Any) -> None:
        if self.front.drained():
            self._loop.stop()
        elif self._peers is not None:
            self._peers.parting.look()

    def _end(self) -> None:
        """Every transaction ends now; its caller gets a moment to read that."""
        self._refuse_more()
        self.front.end_all()
        self._flusher.flush()
        self._deadline.start(lambda _timer: self._loop.stop(), LAST_READS, 0)
        self._watch.start(self._stop_if_drained, 0, DRAIN_WATCH)


def _refuse(sock: socket.socket, refusal: Refused) -> None:
    """One error for the whole connection, and its end."""
    try:
        sock.send(rpc.response(None, refusal.as_wire(), None), socket.MSG_DONTWAIT)
    except OSError as error:
        log.debug("a caller did not wait to be refused: %s", error.strerror)
    sock.close()


def main(
    source: Source,
    settings: Settings,
    line: socket.socket,
    public: socket.socket,
    internal: socket.socket,
    duties: Duties,
    ledger: Ledger,
) -> None:
    """The front's life, from the fork to its end."""
    name = "front" if len(duties.paths) == 1 else f"front {duties.number}"
    process.title(name)
    log.configure(name, settings.hacd)
    front = FrontProcess(source, settings, line, public, internal, duties, ledger)
    log.info("listening on %s", public.getsockname())
    front.run()
    statistics = front.front.statistics
    log.info(
        "ends: %d requests, %d replies, %d errors, %d timeouts",
        *(statistics.requests, statistics.replies, statistics.errors, statistics.timeouts),
    )
