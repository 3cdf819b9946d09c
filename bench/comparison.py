"""What a comparison is: sides that run in turn, round by round, and what is measured between them.

Plain data. Law: a measure is taken within one round, where all sides had the same machine, more or less; what is told
is the median of the rounds' and its spread, and it is judged against the figures that were to be reached.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from bench.origin import Origin


@dataclass(frozen=True)
class Plan:
    """How much is done. `share`: of the usual number of queries; `largest`: the most that a curve piles up."""

    rounds: int
    share: float
    largest: int = 1_000_000

    def queries(self, usual: int, least: int = 1) -> int:
        """How many are asked where `usual` are at a share of 1."""
        return max(least, int(usual * self.share))

    def points(self, *points: int) -> list[int]:
        """Those that are not too large; the first is always there."""
        return [point for point in points if point <= max(self.largest, points[0])]


@dataclass(frozen=True)
class Stage:
    """What a side finds: the plan, the origin that all share, and a directory of its own."""

    plan: Plan
    origin: Origin
    directory: Path


@dataclass(frozen=True)
class Sample:
    """What one run of one side came to: figures by name, and how many of its queries failed."""

    values: dict[str, float]
    failures: int = 0
    failure: str = ""


#: samples of one round, by the side's name
Round = Mapping[str, Sample]


@dataclass(frozen=True)
class Side:
    """One of those that are compared. `line` and `x`: where it stands in a plot."""

    name: str
    label: str
    run: Callable[[Stage], Sample]
    line: str = ""
    x: float = 0.0


@dataclass(frozen=True)
class Measured:
    """A measure over all rounds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True)
class Measure:
    """What is measured within a round, and what was to be reached. `falls`: less is better. `digits`: of decimals."""

    label: str
    value: Callable[[Round], float]
    at_least: float | None = None
    aim: float | None = None
    unit: str = "×"
    falls: bool = False
    digits: int = 2

    def over(self, rounds: Sequence[Round]) -> Measured:
        """Median and spread."""
        values = [self.value(round_) for round_ in rounds]
        return Measured(median(values), min(values), max(values))

    def verdict(self, value: float) -> str:
        """`aim`, `at least` or `no`; "" where nothing was to be reached."""
        for name, bound in (("aim", self.aim), ("at least", self.at_least)):
            if bound is not None and (value <= bound if self.falls else value >= bound):
                return name
        return "" if self.at_least is None and self.aim is None else "no"


@dataclass(frozen=True)
class Plot:
    """A plot of a comparison's sides: `values` of each against its `x`, a curve for each line and value.

    `values`: key of a sample and what the legend says of it.
    """

    name: str
    title: str
    x: str
    y: str
    values: Mapping[str, str]
    log_x: bool = True
    log_y: bool = False


@dataclass(frozen=True)
class Comparison:
    """`needs`: what has to be there; each says what is missing, or "". `note`: what a reader has to know."""

    name: str
    title: str
    sides: Sequence[Side]
    measures: Sequence[Measure]
    needs: Sequence[Callable[[], str]] = ()
    note: str = ""
    plots: Sequence[Plot] = ()

    def missing(self) -> str:
        """The first need that is not met."""
        return next(filter(None, (need() for need in self.needs)), "")


@dataclass
class Result:
    """What came of a comparison. `skipped`, `broke`: why it has no rounds, or too few."""

    comparison: Comparison
    rounds: list[dict[str, Sample]] = field(default_factory=list)
    skipped: str = ""
    broke: str = ""

    def verdict(self, measure: Measure) -> str:
        """As the measure has it; `failed` where anything did: who fails may be quick at it."""
        reached = measure.verdict(measure.over(self.rounds).median)
        return "failed" if reached and self.failures() else reached

    def failures(self) -> list[str]:
        """A line for all that went wrong."""
        lines = [f"{self.comparison.name}: {self.broke}"] if self.broke else []
        labels = {side.name: side.label for side in self.comparison.sides}
        for number, round_ in enumerate(self.rounds, 1):
            for name, sample in round_.items():
                if sample.failures:
                    what = f"{sample.failures} queries failed, the first: {sample.failure}"
                    lines.append(f"{self.comparison.name}: {labels[name]}, round {number}: {what}")
        return lines


def ratio(key: str, ours: str, theirs: str) -> Callable[[Round], float]:
    """A measure's value: that figure of one side to another side's; NaN where that is 0."""

    def value(round_: Round) -> float:
        below = round_[theirs].values[key]
        return round_[ours].values[key] / below if below else float("nan")

    return value


def difference(key: str, ours: str, theirs: str) -> Callable[[Round], float]:
    """That figure of one side less another side's."""
    return lambda round_: round_[ours].values[key] - round_[theirs].values[key]


def figure(key: str, ours: str) -> Callable[[Round], float]:
    """That figure of one side."""
    return lambda round_: round_[ours].values[key]


#: cost per query may grow so much, and still be called flat
FLAT = 1.2


def flatness(points: Sequence[Side], key: str, what: str) -> list[Measure]:
    """How that figure grows from the first of `points` to each of the others, which is to be FLAT at the most."""
    first = points[0]
    return [
        Measure(f"{what}, {point.label} to {first.label}", ratio(key, point.name, first.name), FLAT, falls=True)
        for point in points[1:]
    ]
