"""`python -m soak`: the load, the trouble, and the table. Exit code 1 if a query was lost or had two outcomes."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench import BenchError, origin, proc
from bench.processes import interrupts, running, waiting
from hacd import Client, HacdError
from soak.callers import Caller
from soak.ledger import Ledger
from soak.trouble import Trouble, descriptors, resident_kib

CALLERS, IN_FLIGHT, WORKERS = 8, 32, 2

#: s between two troubles, and until the last outcomes are there
INTERVAL, PATIENCE = 1.5, 30.0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m soak", description="A steady load on a daemon in trouble.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of trouble (%(default)s)")
    parser.add_argument("--fronts", type=int, default=1, help="of the daemon (%(default)s)")
    return parser.parse_args()


class Soak:
    """One run: a daemon, an origin, callers, and what is done to them."""

    fronts = 1

    def __init__(self, directory: Path, asked: origin.Origin) -> None:
        self._path = str(directory / "hacd.sock")
        self._log = directory / "hacd.log"
        self._config = directory / "hacd.toml"
        self._config.write_text("[http_async_client]\nconnection_timeout = 5000\n")
        (directory / origin.FILES).mkdir(exist_ok=True)
        (directory / origin.FILES / "large").write_bytes(bytes(600_000))
        self._urls = [asked.url] * 9 + [f"{asked.url}{origin.FILES}/large"]
        self.ledger = Ledger()
        self.gaps: dict[str, float] = {}

    def run(self, seconds: float) -> list[str]:
        """Make trouble for so many seconds; the table's lines."""
        command = [sys.executable, "-m", "hacd", "run", "--socket", self._path, "-c", str(self._config)]
        command += ["--set", f"workers={WORKERS}", "--set", "worker_timeout=2000", "--set", f"fronts={self.fronts}"]
        with self._log.open("w") as stderr, running(command, stderr=stderr) as daemon:
            for _ in waiting(daemon, "hacd", self._log):
                if self._ready():
                    break
            callers = [Caller(self._path, self._urls, self.ledger, IN_FLIGHT) for _ in range(CALLERS)]
            for caller in callers:
                caller.start()
            time.sleep(2)
            before = self._sizes(daemon.pid)
            self._trouble(daemon.pid, seconds)
            time.sleep(3)
            after = self._sizes(daemon.pid)
            self._end(callers)
            in_flight = self._in_flight()
        return self._table(before, after, in_flight)

    def _ready(self) -> bool:
        try:
            with Client(self._path) as client:
                return sum(bool(row["pid"]) for row in client.stats()["workers"]) == WORKERS
        except HacdError:
            return False

    def _kinds(self, supervisor: int) -> dict[str, Callable[[], None]]:
        return Trouble(supervisor, self._path, self._config, self._urls[0]).kinds

    def _trouble(self, supervisor: int, seconds: float) -> None:
        kinds = list(self._kinds(supervisor).items())
        end = time.monotonic() + seconds
        turn = 0
        while time.monotonic() < end:
            name, make = kinds[turn % len(kinds)]
            self.ledger.take_worst_gap()
            make()
            time.sleep(INTERVAL)
            self.gaps[name] = max(self.gaps.get(name, 0.0), self.ledger.take_worst_gap())
            turn += 1

    def _end(self, callers: list[Caller]) -> None:
        for caller in callers:
            caller.done.set()
        end = time.monotonic() + PATIENCE
        for caller in callers:
            caller.join(max(0.1, end - time.monotonic()))

    def _in_flight(self) -> int:
        """What the daemon still has, once all callers have gone."""
        end = time.monotonic() + PATIENCE
        while True:
            with Client(self._path) as client:
                in_flight = int(client.stats()["in_flight"])
            if not in_flight or time.monotonic() > end:
                return in_flight
            time.sleep(0.1)

    def _sizes(self, supervisor: int) -> dict[str, tuple[int, int]]:
        front, workers = (proc.children(supervisor, title) for title in ("hacd: front", "hacd: worker"))
        groups = {"supervisor": [supervisor], "front": front, "workers": workers}
        return {name: (sum(map(resident_kib, pids)), sum(map(descriptors, pids))) for name, pids in groups.items()}

    def _table(
        self, before: dict[str, tuple[int, int]], after: dict[str, tuple[int, int]], in_flight: int
    ) -> list[str]:
        ledger = self.ledger
        lines = ["| queries | |", "| :-- | --: |"]
        lines += [f"| {name} | {count:,} |" for name, count in sorted(ledger.counts.items(), key=lambda row: -row[1])]
        lines += [f"| duplicates | {ledger.duplicates} |", f"| lost | {ledger.lost} |"]
        lines += [f"| in flight at the end | {in_flight} |", "", "| error | |", "| :-- | --: |"]
        lines += [f"| {text} | {count:,} |" for text, count in ledger.errors.most_common(12)]
        lines += ["", "| trouble | longest time without a reply, ms |", "| :-- | --: |"]
        lines += [f"| {name} | {gap * 1000:,.0f} |" for name, gap in self.gaps.items()]
        lines += [
            "",
            "| process | MiB before | after | descriptors before | after |",
            "| :-- | --: | --: | --: | --: |",
        ]
        for name, (memory, open_) in before.items():
            lines += [f"| {name} | {memory / 1024:.1f} | {after[name][0] / 1024:.1f} | {open_} | {after[name][1]} |"]
        return lines

    def failed(self) -> bool:
        """Whether a query was lost, or had more than one outcome."""
        return bool(self.ledger.lost or self.ledger.duplicates)


def carry_out(kind: type[Soak], seconds: float) -> None:
    """Run one with an origin of its own, print its table, and exit: with 1 if a query was lost, or ended twice."""
    interrupts.take()
    try:
        with tempfile.TemporaryDirectory(prefix="hacd-soak-") as name, origin.serving(Path(name)) as asked:
            soak = kind(Path(name), asked)
            print("\n".join(soak.run(seconds)))
    except BenchError as error:
        print(error, file=sys.stderr)
        sys.exit(error.status)
    sys.exit(soak.failed())


def main() -> None:
    """The command."""
    given = _arguments()
    Soak.fronts = given.fronts
    carry_out(Soak, given.seconds)


if __name__ == "__main__":
    main()
