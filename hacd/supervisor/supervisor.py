"""The supervisor: forks the front and the workers, reaps them, restarts them, and stops them in order.

Signal handlers only wake it up; what a signal means is decided in `run`. Children are told to
stop in the order in which queries go: first the front, which drains, then the workers.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

from hacd import log, rpc
from hacd.errors import HacdError
from hacd.ledger import Ledger
from hacd.log.relay import Relay
from hacd.settings import Settings, Source, slots
from hacd.settings.live import restore
from hacd.supervisor import open_files, sockets
from hacd.supervisor.children import RETRIES, Child, State, how
from hacd.supervisor.notify import Notify
from hacd.supervisor.report import Report
from hacd.supervisor.signals import Signals
from hacd.supervisor.stacks import LastWords, Stack
from hacd.supervisor.watch import LOOK, Watch
from hacd.words import ALIVE, CONFIG, DATAGRAM, DRAIN, END, FIGURES, LOG, READY, RELOAD, REOPEN, STATES, STOP, STUCK

#: seconds that a worker gets to end, and a front beyond its drain, before SIGKILL
GRACE = 3.0

#: signs of life that the front gives within the time that systemd waits for one
BEATS = 3


class Supervisor:
    """The parent of all. `settings` are those of `source`, checked; `path` is the public socket's.

    `given`: that socket, where systemd keeps it; `notify`: who is told how the daemon does.
    """

    def __init__(
        self, source: Source, settings: Settings, path: str, given: socket.socket | None, notify: Notify
    ) -> None:
        self._source = source
        self._settings = settings
        self._path = path
        self._given = given
        self._notify = notify
        self._internal_path = path + sockets.INTERNAL
        self._selector = selectors.DefaultSelector()
        self._ledger = Ledger(slots(settings.http_async_client.hash_size))
        self._lines: dict[Child, socket.socket] = {}
        self._last_words = LastWords()
        self._watch = Watch()
        self._stops = 0
        self._kill_at: float | None = None
        self._ready_said = False
        self._gave_up = False
        self._reload_wanted = False  # SIGHUP came, and the front has not answered it yet
        self.relay = Relay(self._pass_on)
        self.front = Child("front", 0)
        count = settings.http_async_client.workers
        self.workers = [Child(f"worker {number}", number) for number in range(1, count + 1)]
        self._report = Report(notify, self._children)
        self._on_word: dict[bytes, Callable[[bytes], None]] = {
            READY: lambda _: self._front_is_ready(),
            STOP: lambda _: self._asked_to_stop(),
            STUCK: lambda worker: self._kill_stuck(*rpc.unpack(worker)),
            CONFIG: self._configured,
            RELOAD: lambda _: self._reloaded(),
            ALIVE: lambda _: self._alive(),
            FIGURES: lambda figures: self._report.count(rpc.unpack(figures)),
        }

    def run(self) -> None:
        """Serve until told to stop. Raises SettingsError where the socket cannot be had, HacdError with no front."""
        sockets.check(self._path)
        self._signals = Signals()
        self._selector.register(self._signals.wake, selectors.EVENT_READ)
        bound: list[str] = []
        try:
            self._bind(bound)
            log.info("hacd starts: %d workers, socket %s", len(self.workers), self._path)
            open_files.judge(self._settings)
            while not self._ended():
                self._spawn_due()
                self._report.turn()
                self._wait()
                self._handle_signals()
                self._look()
                self._kill_late()
                self.relay.flush()
        finally:
            self._signals.ignore()
            for path in bound:
                sockets.remove(path)
        if self._gave_up:
            raise HacdError("the front cannot live: the log says how it died")
        log.info("hacd ends")

    def _bind(self, bound: list[str]) -> None:
        """Listen. `bound` gets the paths of what is to be removed at the end: not that of a socket of systemd's."""
        if self._given is not None:
            self._public = self._given
        else:
            self._public = sockets.listen(self._path, self._settings.hacd)
            bound.append(self._path)
        self._internal = sockets.bind(self._internal_path, 0o600)
        bound.append(self._internal_path)

    @property
    def _children(self) -> list[Child]:
        return [self.front, *self.workers]

    def _ended(self) -> bool:
        return all(child.state is State.ENDED for child in self._children)

    # -- signals and the children's lines

    def _wait(self) -> None:
        """Sleep until a signal, a child's word, or the next time that something is due."""
        times = [child.due for child in self._children if child.state is State.BACKOFF]
        times += [self._kill_at] if self._kill_at is not None else []
        times += self._last_words.times()
        times += [self._watch.due] if self._watch.due is not None else []
        timeout = max(0.0, min(times) - time.monotonic()) if times else None
        for key, _ in self._selector.select(timeout):
            if key.fileobj is self._signals.wake:
                self._signals.woken()
            else:
                self._hear(key.data)

    def _hear(self, child: Child) -> None:
        try:
            said = self._lines[child].recv(DATAGRAM)
        except OSError:
            said = b""
        on_word = self._on_word.get(said[:1])
        if not said:
            self._hang_up(child)
        elif on_word is not None:
            on_word(said[1:])

    def _front_is_ready(self) -> None:
        self.front.ready()
        if not self._ready_said:
            self._ready_said = True
            log.info("ready")
            self._report.ready()

    def _asked_to_stop(self) -> None:
        if not self._stops:
            log.info("a caller asked to stop")
            self._stop()

    def _configured(self, settings: bytes) -> None:
        self._settings = restore(settings)
        log.reconfigure(self._settings.hacd)

    def _reloaded(self) -> None:
        self._reload_wanted = False
        self._report.reloaded()

    def _kill_stuck(self, number: int, pid: int) -> None:
        """A worker does not answer the front. Its successor does."""
        for child in self.workers:
            if (child.number, child.pid) == (number, pid):
                self._last_words.ask(child)

    def _alive(self) -> None:
        self._watch.alive()
        self._report.alive()

    def _look(self) -> None:
        """A front whose loop does not turn serves nobody. Its successor does."""
        timeout = self._settings.hacd.front_timeout
        if self._watch.hangs(time.monotonic(), timeout / 1000):
            log.error("the front [%d] has not turned for %d ms (front_timeout)", self.front.pid, timeout)
            if self._reload_wanted:
                log.error("the reload is given up: it may be what holds the front")
                self._reloaded()
            self._last_words.ask(self.front)

    def _hang_up(self, child: Child) -> None:
        line = self._lines.pop(child, None)
        if line is not None:
            self._selector.unregister(line)
            line.close()

    def _handle_signals(self) -> None:
        signals = self._signals.take()
        if signal.SIGCHLD in signals:
            self._reap()
        for signum in signals:
            if signum in (signal.SIGTERM, signal.SIGINT):
                log.info("%s", signal.Signals(signum).name)
                self._stop()
        if signal.SIGHUP in signals:
            self._reload()
        if signal.SIGUSR1 in signals:
            self._reopen_log()

    def _reload(self) -> None:
        """The front reads the settings again. One that dies before it has said so leaves that to its successor."""
        log.info("SIGHUP: reload")
        self._reload_wanted = True
        for child in self._children:
            child.revive(time.monotonic())
        self._report.reloading()
        line = self._lines.get(self.front)
        if line is not None:
            self._send(self.front, line, RELOAD)

    def _tell_states(self) -> None:
        """The front knows only the workers that are there; of the others it hears here."""
        line = self._lines.get(self.front)
        if line is not None:
            states = [(worker.number, worker.state.value, worker.restarts) for worker in self.workers]
            self._send(self.front, line, STATES + rpc.pack(states))

    def _reopen_log(self) -> None:
        """The log's file was moved away: each process opens its own anew."""
        log.reopen()
        for child, line in self._lines.items():
            self._send(child, line, REOPEN)

    def _pass_on(self, event: dict[str, Any]) -> bool:
        """Give the front what this process logged, for who tails the log. False: it takes nothing now."""
        line = self._lines.get(self.front)
        if line is None:
            return False
        try:
            line.send(LOG + rpc.pack(event))
        except OSError:
            return False
        return True

    # -- children

    def _spawn_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.is_due(now):
                self._spawn(child)

    def _spawn(self, child: Child) -> None:
        self._hang_up(child)  # of its predecessor
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack = Stack()
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid = os.fork()
        except OSError as error:
            log.error("%s cannot be started: %s", child.name, error.strerror)
            ours.close()
            theirs.close()
            stack.close()
            child.put_off(time.monotonic())
            return
        if pid == 0:
            ours.close()
            stack.take()
            self._become(child, theirs)
        theirs.close()
        ours.setblocking(False)
        child.spawned(pid, time.monotonic())
        if child.number:
            child.ready()
        else:
            self._watch.begin(time.monotonic())
            if self._reload_wanted:
                self._send(child, ours, RELOAD)
        self._lines[child] = ours
        self._last_words.expect(child, stack)
        self._selector.register(ours, selectors.EVENT_READ, child)
        log.debug("%s started [%d]", child.name, pid)
        self._tell_states()

    def _become(self, child: Child, line: socket.socket) -> None:
        """In the child: let go of what is the supervisor's, and live. Does not return."""
        status = 70
        try:
            self._signals.let_go()
            self._notify.let_go()
            log.pass_to(None)
            self._selector.close()
            for other in self._lines.values():
                other.close()
            self._entry(child)(line)
            status = 0
        except BaseException:  # noqa: BLE001
            log.logger.exception("%s fails", child.name)
        finally:
            sys.stderr.flush()
            os._exit(status)

    def _entry(self, child: Child) -> Callable[[socket.socket], None]:
        """What that child runs. Its modules are loaded after the fork, which the loops and libcurl need."""
        if child is self.front:
            from hacd.front import process as front
            from hacd.front.pulse import Duties

            beat = min(LOOK, self._notify.watchdog / BEATS or LOOK)
            duties = Duties(self._given is not None, self._notify.wanted, beat)
            sockets_ = (self._public, self._internal)
            return lambda line: front.main(self._source, self._settings, line, *sockets_, duties, self._ledger)
        self._public.close()
        self._internal.close()
        from hacd.worker import process as worker

        return lambda line: worker.main(self._settings, line, self._internal_path, child.number, self._ledger)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            for child in self._children:
                if child.pid == pid:
                    self._reaped(child, pid, status)

    def _reaped(self, child: Child, pid: int, status: int) -> None:
        child.died(time.monotonic())
        self._tell_states()  # before the log says so
        self._last_words.tell(child, pid, status)
        say = log.debug if child.state is State.ENDED else log.warning if status else log.info
        say("%s [%d] %s", child.name, pid, how(status))
        if child.state is State.FATAL:
            log.error("%s is given up: it died %d times in a row; a reload tries again", child.name, RETRIES)
        if child is self.front:
            self._watch.end()
            self._report.count({})
            if child.state is State.FATAL and not self._stops:
                self._gave_up = True
                self._stop()  # without a front there is nothing that anybody could wait for
            elif self._stops:
                self._stop_workers()

    # -- the end

    def _stop(self) -> None:
        """The first time: the front drains, then the workers end. Once more: all end at once."""
        self._stops += 1
        if self._stops == 1:
            drain = self._settings.hacd.drain_timeout / 1000
            self._kill_at = time.monotonic() + drain + GRACE
            self._report.stopping(drain + 2 * GRACE + 1)
            self._tell(self.front, DRAIN)
            if self.front.state is State.ENDED:
                self._stop_workers()
            return
        for child in self._children:
            self._tell(child, END)
        self._kill_at = time.monotonic() + GRACE

    def _stop_workers(self) -> None:
        for child in self.workers:
            self._tell(child, END)
        self._kill_at = time.monotonic() + GRACE

    def _tell(self, child: Child, word: bytes) -> None:
        """Have a child end, this way or that. One that cannot be told is dying already."""
        child.stopping()
        if child is self.front:
            self._watch.end()
        line = self._lines.get(child)
        if line is not None:
            self._send(child, line, word)

    def _send(self, child: Child, line: socket.socket, word: bytes) -> None:
        try:
            line.send(word)
        except OSError as error:
            log.debug("%s is not told: %s", child.name, error.strerror)

    def _kill_late(self) -> None:
        self._last_words.are_over(time.monotonic())
        if self._kill_at is None or time.monotonic() < self._kill_at:
            return
        self._kill_at = None
        for child in self._children:
            if child.pid:
                log.error("%s [%d] does not end: killed", child.name, child.pid)
                os.kill(child.pid, signal.SIGKILL)
