"""`python -m soak.slope`: whether memory or descriptors grow under a steady load that kills nobody.

Callers keep up a load of replies short and long, refusals, timeouts, URLs that no other query has, callers that vanish,
garbage and reloads. Resident memory and open descriptors of each process are sampled once a second; behind a
warm-up, in which caches fill, a line is laid through the samples. Its slope is what an hour would add.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from bench import origin
from soak.__main__ import Soak, carry_out

#: share of the samples that is the warm-up
WARM_UP = 0.2

#: s of load, at the least
LEAST = 10.0

#: s between two samples, and between two of the things that wear a daemon
SAMPLE, WEAR = 1.0, 5.0

#: what does not end a process
WEARS = ("reload", "reload of a wrong file", "garbage", "callers that vanish")

Sizes = dict[str, tuple[int, int]]


class Slope(Soak):
    """As a soak, with wear in the place of trouble."""

    def __init__(self, directory: Path, asked: origin.Origin) -> None:
        super().__init__(directory, asked)
        self._samples: list[tuple[float, Sizes]] = []

    def _trouble(self, supervisor: int, seconds: float) -> None:
        wears = [self._kinds(supervisor)[name] for name in WEARS]
        begun = worn = time.monotonic()
        while (now := time.monotonic()) < begun + seconds:
            if now >= worn:
                worn = now + WEAR
                wears[len(self._samples) % len(wears)]()
            self._samples.append((now - begun, self._sizes(supervisor)))
            time.sleep(SAMPLE)

    def _table(self, _before: Sizes, _after: Sizes, in_flight: int) -> list[str]:
        counts = self.ledger.counts
        told = ", ".join(f"{name} {count:,}" for name, count in counts.most_common())
        kept = self._samples[int(len(self._samples) * WARM_UP) :]
        seconds = kept[-1][0] - kept[0][0]
        lines = [
            f"{told}; duplicates {self.ledger.duplicates}, lost {self.ledger.lost}, in flight at the end {in_flight}",
            "",
            f"Over {seconds:,.0f} s, behind a warm-up of {kept[0][0]:,.0f} s:",
            "",
            "| process | MiB at first | at last | MiB an hour | descriptors at first | at last | an hour |",
            "| :-- | --: | --: | --: | --: | --: | --: |",
        ]
        return lines + [_row(name, kept) for name in kept[0][1]]


def _row(name: str, samples: list[tuple[float, Sizes]]) -> str:
    """First and last tenth by their medians, and the slope through all."""
    times = [when for when, _ in samples]
    cells = [name]
    for place, unit in ((0, 1024), (1, 1)):
        values = [sizes[name][place] / unit for _, sizes in samples]
        tenth = max(1, len(values) // 10)
        slope = statistics.linear_regression(times, values).slope * 3600
        first, last = statistics.median(values[:tenth]), statistics.median(values[-tenth:])
        cells += [f"{first:.1f}", f"{last:.1f}", f"{slope:+.2f}"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m soak.slope", description="Whether memory or descriptors grow.")
    parser.add_argument("--seconds", type=float, default=600.0, help=f"of load, {LEAST:g} or more (%(default)s)")
    seconds = parser.parse_args().seconds
    if not seconds >= LEAST:
        parser.error(f"--seconds: {seconds:g} are too few for a slope: {LEAST:g} or more would be right")
    carry_out(Slope, seconds)


if __name__ == "__main__":
    main()
