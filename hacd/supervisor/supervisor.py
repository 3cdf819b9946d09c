"""The supervisor: forks the fronts and the workers, reaps them, restarts them, and stops them in order.

Signal handlers only wake it up; what a signal means is decided in `run`. Children are told to
stop in the order in which queries go: first the fronts, which drain, then the workers.
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

from hacd import log, rpc, words
from hacd.errors import HacdError
from hacd.log.entry import Entry
from hacd.settings import Settings, Source, slots
from hacd.settings.live import versioned
from hacd.supervisor import open_files, sockets
from hacd.supervisor.births import Births, fork
from hacd.supervisor.children import RETRIES, Child, State, how
from hacd.supervisor.fronts import Front, Fronts
from hacd.supervisor.lines import Lines
from hacd.supervisor.notify import Notify
from hacd.supervisor.report import Report
from hacd.supervisor.signals import Signals
from hacd.supervisor.stacks import LastWords, Stack

#: seconds that a worker gets to end, and a front beyond its drain, before SIGKILL
GRACE = 3.0


class Supervisor:
    """The parent of all. `settings` are those of `source`, checked; `path` is the public socket's.

    `given`: that socket, where systemd keeps it; `notify`: who is told how the daemon does.
    """

    def __init__(
        self, source: Source, settings: Settings, path: str, given: socket.socket | None, notify: Notify
    ) -> None:
        self._settings = settings
        self._version = 0  # of those: how often they were changed
        self._path = path
        self._notify = notify
        self._selector = selectors.DefaultSelector()
        self._lines = Lines(self._selector)
        self._last_words = LastWords()
        self._stops = 0
        self._kill_at: float | None = None
        self._ready_said = False
        self._gave_up = False
        size = slots(settings.http_async_client.hash_size)
        self.fronts = Fronts(settings.hacd.fronts, path, size, self._pass_on)
        self._births = Births(source, given, notify, self.fronts)
        count = settings.http_async_client.workers
        self.workers = [Child(f"worker {number}", number) for number in range(1, count + 1)]
        self._report = Report(notify, self._children)
        self._on_word: dict[bytes, Callable[[Front, bytes], None]] = {
            words.READY: lambda front, _: self._front_is_ready(front),
            words.STOP: lambda _, __: self._asked_to_stop(),
            words.STUCK: lambda front, worker: self._kill_stuck(front, *rpc.unpack(worker)),
            words.CONFIG: self._configured,
            words.RELOAD: lambda front, _: self._reloaded(front),
            words.ALIVE: lambda front, _: self._alive(front),
            words.FIGURES: self._count,
        }

    def run(self) -> None:
        """Serve until told to stop. Raises SettingsError where the socket cannot be had, HacdError with no front."""
        sockets.check(self._path)
        self._signals = Signals()
        self._selector.register(self._signals.wake, selectors.EVENT_READ)
        bound: list[str] = []
        try:
            self._births.bind(self._path, self._settings, bound)
            fronts = f"{len(self.fronts)} fronts, " if len(self.fronts) > 1 else ""
            log.info("hacd starts: %s%d workers, socket %s", fronts, len(self.workers), self._path)
            open_files.judge(self._settings)
            while not self._ended():
                self._spawn_due()
                self._report.turn()
                self._wait()
                self._handle_signals()
                self._look()
                self._kill_late()
                for front in self.fronts:
                    front.relay.flush()
        finally:
            self._signals.ignore()
            for path in bound:
                sockets.remove(path)
        if self._gave_up:
            raise HacdError("the front cannot live: the log says how it died")
        log.info("hacd ends")

    @property
    def _children(self) -> list[Child]:
        return [*self.fronts, *self.workers]

    def _ended(self) -> bool:
        return all(child.state is State.ENDED for child in self._children)

    # -- signals and the children's lines

    def _wait(self) -> None:
        """Sleep until a signal, a child's word, or the next time that something is due."""
        times = [child.due for child in self._children if child.state is State.BACKOFF]
        times += [self._kill_at] if self._kill_at is not None else []
        times += self._last_words.times()
        times += self.fronts.times()
        timeout = max(0.0, min(times) - time.monotonic()) if times else None
        for key, events in self._selector.select(timeout):
            if key.fileobj is self._signals.wake:
                self._signals.woken()
                continue
            if events & selectors.EVENT_WRITE:
                self._lines.flush(key.data)
            if events & selectors.EVENT_READ:
                self._hear(key.data)

    def _hear(self, child: Child) -> None:
        said = self._lines.hear(child, words.DATAGRAM)
        on_word = self._on_word.get(said[:1])
        if not said:
            self._lines.close(child)
        elif on_word is not None and isinstance(child, Front):
            on_word(child, said[1:])

    def _front_is_ready(self, front: Front) -> None:
        front.was_ready = True
        if front.state is State.STARTING:
            front.ready()
            self._tell_states()
        self._ready_if_all()

    def _ready_if_all(self) -> None:
        if not self._ready_said and self.fronts.are_ready():
            self._ready_said = True
            log.info("ready")
            self._report.ready()

    def _asked_to_stop(self) -> None:
        if not self._stops:
            log.info("a caller asked to stop")
            self._stop()

    def _configured(self, front: Front, said: bytes) -> None:
        """A front says what is in force. One that has just begun, and could not be asked yet, hears it here."""
        version, settings = versioned(said)
        if version < self._version:
            return  # this front says it late
        self._version, self._settings = version, settings
        log.reconfigure(self._settings.hacd)
        for other in self.fronts:
            if other is not front:
                self._lines.say(other, words.CONFIG + said)

    def _count(self, front: Front, figures: bytes) -> None:
        front.figures = rpc.unpack(figures)
        self._report.count(self.fronts.figures())

    def _reloaded(self, front: Front) -> None:
        front.reloads = False
        if not self.fronts.reload():
            self._report.reloaded()

    def _kill_stuck(self, front: Front, number: int, pid: int) -> None:
        """A worker does not answer a front. Its successor does. The others find that, too: it is killed once."""
        for child in self.workers:
            if (child.number, child.pid) != (number, pid) or self._last_words.is_asked(child):
                continue
            if len(self.fronts) > 1:
                log.error("%s [%d] does not answer %s", child.name, child.pid, front.name)
            self._last_words.ask(child)

    def _alive(self, front: Front) -> None:
        if self.fronts.beat(front):
            self._report.alive()

    def _look(self) -> None:
        """A front whose loop does not turn serves nobody. Its successor does."""
        timeout = self._settings.hacd.front_timeout
        for front in self.fronts:
            if not front.watch.hangs(time.monotonic(), timeout / 1000):
                continue
            name = "the front" if len(self.fronts) == 1 else front.name
            log.error("%s [%d] has not turned for %d ms (front_timeout)", name, front.pid, timeout)
            if front.reloads:
                log.error("the reload is given up: it may be what holds %s", name)
                self._reloaded(front)
            self._last_words.ask(front)

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
        """The fronts read the settings again. One that dies before it has said so leaves that to its successor."""
        log.info("SIGHUP: reload")
        for child in self._children:
            child.revive(time.monotonic())
        self._report.reloading()
        for front in self.fronts:
            front.reloads = True
            self._lines.say(front, words.RELOAD)

    def _tell_states(self) -> None:
        """A front knows only the workers and fronts that are there; of the others it hears here."""
        workers = [(worker.number, worker.state.value, worker.restarts) for worker in self.workers]
        for front in self.fronts:
            self._lines.say(front, words.STATES + rpc.pack(workers))
            self._lines.say(front, words.FRONTS + rpc.pack(self.fronts.states()))

    def _reopen_log(self) -> None:
        """The log's file was moved away: each process opens its own anew."""
        log.reopen()
        for child in self._children:
            self._lines.say(child, words.REOPEN)

    def take_log(self, event: Entry) -> None:
        """What this process logged is for who tails the log, at whichever front. A sink for `log.pass_to`."""
        for front in self.fronts:
            front.relay.take(event)

    def _pass_on(self, front: Front, event: dict[str, Any]) -> bool:
        """Give a front what this process logged. False: it takes nothing now."""
        return self._lines.offer(front, words.LOG + rpc.pack(event))

    # -- children

    def _spawn_due(self) -> None:
        now = time.monotonic()
        for child in self._children:
            if child.is_due(now):
                self._spawn(child)

    def _spawn(self, child: Child) -> None:
        self._lines.close(child)  # that of its predecessor
        sys.stdout.flush()
        sys.stderr.flush()
        try:
            pid, ours, theirs, stack = fork()
        except OSError as error:
            log.error("%s cannot be started: %s", child.name, error.strerror)
            child.put_off(time.monotonic())
            return
        if pid == 0:
            self._become(child, ours, theirs, stack)
        theirs.close()
        child.spawned(pid, time.monotonic())
        self._lines.open(child, ours)
        if not isinstance(child, Front):
            child.ready()
        else:
            child.watch.begin(time.monotonic())
            if child.reloads:
                self._lines.say(child, words.RELOAD)
        self._last_words.expect(child, stack)
        log.debug("%s started [%d]", child.name, pid)
        self._tell_states()

    def _become(self, child: Child, ours: socket.socket, line: socket.socket, stack: Stack) -> None:
        """In the child: let go of what is the supervisor's, and live. Does not return."""
        status = 70
        try:
            ours.close()
            stack.take()
            self._signals.let_go()
            self._notify.let_go()
            log.pass_to(None)
            self._selector.close()
            self._lines.let_go()
            self._births.life(child, self._settings, self._version)(line)
            status = 0
        except BaseException:  # noqa: BLE001
            log.logger.exception("%s fails", child.name)
        finally:
            sys.stderr.flush()
            os._exit(status)

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
        if isinstance(child, Front):
            self._front_is_gone(child)

    def _front_is_gone(self, front: Front) -> None:
        front.gone()
        self._report.count(self.fronts.figures())
        if self._stops:
            if self.fronts.have_ended():
                self._stop_workers()
        elif self.fronts.are_given_up():
            self._gave_up = True
            self._stop()  # without a front there is nothing that anybody could wait for
        elif front.state is State.FATAL:
            self._ready_if_all()  # it was perhaps the one that was waited for
            self._reloaded(front)

    # -- the end

    def _stop(self) -> None:
        """The first time: the fronts drain, then the workers end. Once more: all end at once."""
        self._stops += 1
        if self._stops == 1:
            drain = self._settings.hacd.drain_timeout / 1000
            self._kill_at = time.monotonic() + drain + GRACE
            self._report.stopping(drain + 2 * GRACE + 1)
            for front in self.fronts:
                self._tell(front, words.DRAIN + words.ALL)
            if self.fronts.have_ended():
                self._stop_workers()
            return
        for child in self._children:
            self._tell(child, words.END)
        self._kill_at = time.monotonic() + GRACE

    def _stop_workers(self) -> None:
        for child in self.workers:
            self._tell(child, words.END)
        self._kill_at = time.monotonic() + GRACE

    def _tell(self, child: Child, word: bytes) -> None:
        """Have a child end, this way or that. One that cannot be told is dying already."""
        child.stopping()
        if isinstance(child, Front):
            child.watch.end()
        self._lines.say(child, word)

    def _kill_late(self) -> None:
        self._last_words.are_over(time.monotonic())
        if self._kill_at is None or time.monotonic() < self._kill_at:
            return
        self._kill_at = None
        for child in self._children:
            if child.pid:
                log.error("%s [%d] does not end: killed", child.name, child.pid)
                os.kill(child.pid, signal.SIGKILL)
