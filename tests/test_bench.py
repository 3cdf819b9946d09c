"""The bench: what it makes of figures, that it hides no failure, and that it runs."""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from bench import BenchError, again, comparisons, held, plots, proc, report, rounds, slow, table
from bench.comparison import Comparison, Measure, Plan, Plot, Result, Sample, Side, Stage, difference, flatness, ratio
from bench.contenders.hacd_pipes import callers, paced
from bench.contenders.hacd_routes import SCRIPT, chains
from bench.measure import Job, Run, Tally, measured
from bench.origin import Origin
from hacd import Client
from tests.conftest import StartDaemon, StartRoutes
from tests.support.daemon import Daemon
from tests.support.origins import Nginx
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parent.parent

NOWHERE = Origin("http://127.0.0.1:9/", [])


def _sample(**values: float) -> Sample:
    return Sample(values)


def _side(name: str, run: Callable[[Stage], Sample], x: float = 0.0) -> Side:
    return Side(name, name.upper(), run, x=x)


def _result(*rates: tuple[float, float], measures: tuple[Measure, ...] = ()) -> Result:
    """Rounds of two sides with these rates."""
    sides = [_side(name, lambda _: _sample(), x) for x, name in enumerate(("ours", "theirs"), 1)]
    plot = Plot("p", "title", "x", "y", {"rate": "rate"})
    comparison = Comparison("many", "title", sides, measures, plots=(plot,))
    return Result(comparison, [{"ours": _sample(rate=ours), "theirs": _sample(rate=theirs)} for ours, theirs in rates])


def test_a_ratio_is_taken_within_a_round_and_its_median_told() -> None:
    measure = Measure("to theirs", ratio("rate", "ours", "theirs"))
    over = measure.over(_result((10, 10), (30, 10), (200, 100)).rounds)
    assert (over.median, over.least, over.most) == (2.0, 1.0, 3.0)


def test_a_difference_may_be_negative() -> None:
    assert difference("rate", "ours", "theirs")(_result((10, 30)).rounds[0]) == -20


@pytest.mark.parametrize(
    ("value", "falls", "verdict"),
    [
        (3.0, False, "aim"),
        (2.99, False, "at least"),
        (2.0, False, "at least"),
        (1.99, False, "no"),
        (math.nan, False, "no"),
        (math.nan, True, "no"),
    ],
)
def test_what_is_reached_where_more_is_better(value: float, falls: bool, verdict: str) -> None:
    assert Measure("m", lambda _: value, at_least=2.0, aim=3.0, falls=falls).verdict(value) == verdict


@pytest.mark.parametrize(("value", "verdict"), [(50, "aim"), (50.1, "at least"), (80, "at least"), (80.1, "no")])
def test_what_is_reached_where_less_is_better(value: float, verdict: str) -> None:
    assert Measure("m", lambda _: value, at_least=80, aim=50, falls=True).verdict(value) == verdict


def test_what_has_no_goal_has_no_verdict_and_what_has_no_aim_can_be_at_least() -> None:
    assert Measure("m", lambda _: 1.0).verdict(1.0) == ""
    assert Measure("m", lambda _: 1.0, at_least=1.0).verdict(1.0) == "at least"


def test_flatness_is_of_each_point_to_the_first() -> None:
    points = [_side(name, lambda _: _sample()) for name in ("a", "b", "c")]
    round_ = {"a": _sample(cpu=10.0), "b": _sample(cpu=12.0), "c": _sample(cpu=13.0)}
    measures = flatness(points, "cpu", "CPU")
    assert [measure.label for measure in measures] == ["CPU, B to A", "CPU, C to A"]
    assert [measure.verdict(measure.value(round_)) for measure in measures] == ["at least", "no"]


def test_the_table_has_the_goal_beside_what_was_measured() -> None:
    measures = (Measure("to theirs", ratio("rate", "ours", "theirs"), 2.0, 3.0),)
    rows = table.summary(_result((25, 10), (40, 10), (10, 10), measures=measures))
    assert rows == [["title", "to theirs", "2.50 ×", "1.00 – 4.00", "≥ 2.00 ×", "≥ 3.00 ×", "at least"]]


def test_the_table_says_what_failed_and_what_was_skipped() -> None:
    result = _result((1, 1))
    result.rounds[0]["theirs"] = Sample({"rate": 1}, failures=3, failure="status 500")
    skipped = Result(result.comparison, skipped="no x here")
    said = table.render([result, skipped], {"cpu": "x"}, "bench")
    assert "- many: THEIRS, round 1: 3 queries failed, the first: status 500" in said
    assert "Skipped: many: no x here" in said


def test_who_fails_has_reached_nothing() -> None:
    measure = Measure("to theirs", ratio("rate", "ours", "theirs"), 2.0)
    result = _result((30, 10), (30, 10), measures=(measure,))
    assert result.verdict(measure) == "at least"
    result.rounds[1]["ours"] = Sample({"rate": 30}, failures=1, failure="status 500")
    assert result.verdict(measure) == "failed"
    assert table.summary(result)[0][-1] == "failed"


def test_what_nothing_can_be_divided_by_is_no_figure(tmp_path: Path) -> None:
    result = _result((1, 0), measures=(Measure("to theirs", ratio("rate", "ours", "theirs"), 2.0),))
    report.keep(tmp_path / "r.json", [result], {}, "bench")
    [measure] = json.loads((tmp_path / "r.json").read_text())["comparisons"][0]["measures"]
    assert (measure["median"], measure["reached"]) == (None, "no")
    assert "– ×" in (tmp_path / "r.md").read_text()


def test_kept_figures_are_read_again(tmp_path: Path) -> None:
    names = ("hacd", "aiohttp", "bare")
    of_many = comparisons.of("many", Plan(1, 1))
    kept = Result(of_many, [{name: _sample(rate=10.0 + at) for at, name in enumerate(names)}])
    report.keep(tmp_path / "r.json", [kept], {"cpu": "x"}, "bench")
    said, [result] = again.load(tmp_path / "r.json")
    assert table.render([result], said["machine"], said["command"]) + "\n" == (tmp_path / "r.md").read_text()
    (tmp_path / "other.json").write_text('{"comparisons": 1}')
    with pytest.raises(BenchError, match="no figures of this bench"):
        again.load(tmp_path / "other.json")


def test_the_same_figures_are_drawn_as_the_same_bytes(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    drawn = [plots.draw([_result((1, 2), (3, 4))], tmp_path / name) for name in ("a", "b")]
    first, second = (files[0].read_bytes() for files in drawn)
    assert first == second
    assert b">title<" in first  # text is text


def test_a_side_that_breaks_ends_its_comparison_and_is_told() -> None:
    def breaks(_stage: Stage) -> Sample:
        raise BenchError("exit code 1")

    comparison = Comparison("broken", "", [_side("ours", breaks)], ())
    result = rounds.run(comparison, Plan(2, 1), NOWHERE)
    assert result.rounds == []
    assert result.failures() == ["broken: exit code 1"]


def test_a_comparison_whose_tool_is_absent_is_skipped() -> None:
    def never(_stage: Stage) -> Sample:
        raise AssertionError("it ran")

    comparison = Comparison("skipped", "", [_side("ours", never)], (), needs=(lambda: "", lambda: "no x here"))
    result = rounds.run(comparison, Plan(1, 1), NOWHERE)
    assert (result.skipped, result.failures()) == ("no x here", [])


def test_each_comparison_is_found_under_its_name() -> None:
    for name in comparisons.NAMES:
        comparison = comparisons.of(name, Plan(1, 1))
        sides = [side.name for side in comparison.sides]
        assert comparison.name == name
        assert len(set(sides)) == len(sides)


def test_a_query_without_an_end_is_a_failure() -> None:
    def run(count: int) -> Tally:
        tally = Tally()
        tally.latencies.extend(range(1000, 1000 * (count - 2), 1000))
        tally.untimed = 1
        return tally

    figures = measured(run, 10, 10, {})
    assert (figures.failures, figures.failure) == (2, "2 queries had no end")


def test_a_process_that_is_gone_is_named() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(BenchError, match="a process of worker has ended"):
        measured(lambda _: Tally(), 0, 0, {"worker": [process.pid]})


def test_connections_to_a_port_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert proc.connections(port) == 0
        with socket.create_connection(("127.0.0.1", port)):
            assert proc.connections(port) == 1


def _job(daemon: Daemon, url: str, size: int, **given: object) -> Job:
    return Job([url], 8, size, daemon.socket, **given)  # type: ignore[arg-type]


def test_transactions_are_held_until_the_block_is_left(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    with held.transactions(20, daemon.socket):
        assert daemon.stats()["in_flight"] == 20
    wait_for("none", lambda: daemon.stats()["in_flight"] == 0)


def test_callers_are_held_until_the_block_is_left(start_daemon: StartDaemon) -> None:
    daemon = start_daemon()
    with held.callers(20, daemon.socket), daemon.client() as client:
        assert client.stats()["clients"] == 21
        client.close()
    wait_for("none but who asks", lambda: daemon.stats()["clients"] == 1)


@pytest.mark.parametrize("contender", [callers, paced])
def test_each_query_of_a_pipe_has_its_end(
    daemon: Daemon, client: Client, nginx: Nginx, contender: Callable[[Job], AbstractContextManager[Run]]
) -> None:
    size = client.query(nginx.url).bs
    for wanted, failures in ((size, 0), (size + 1, 30)):
        with contender(_job(daemon, nginx.url, wanted, callers=3, rate=1000.0)) as run:
            tally = run(30)
        assert (len(tally.latencies), tally.failures) == (30, failures)


def test_chains_count_what_the_daemon_counts(nginx: Nginx, routes: StartRoutes) -> None:
    daemon = routes(SCRIPT)
    with daemon.client() as client:
        url = nginx.url
        size = client.query(url).bs
    with chains(_job(daemon, url, size)) as run:
        tally = run(21)
        assert (tally.untimed, tally.failures, tally.failure) == (21, 0, "")
    with chains(_job(daemon, url, size + 1)) as run:
        assert run(16).failures == 9  # of eight chains each, and that the daemon counts eight replies and not 16


def test_the_slow_origin_takes_its_time(daemon: Daemon, tmp_path: Path) -> None:
    with slow.serving(tmp_path, 100) as origin, Client(daemon.socket) as client:
        for _ in range(2):
            begun = time.monotonic()
            replies = list(client.query_many([(origin.url, {"timeout": 5000})] * 50, 50))
            assert [reply.rs for reply in replies] == [200] * 50
            assert time.monotonic() - begun >= 0.1


def test_it_runs(tmp_path: Path) -> None:
    """What every comparison runs in: `make bench-smoke` runs them all."""
    file = tmp_path / "smoke.json"
    command = [sys.executable, "-m", "bench", "--smoke", "--only", "idle,safety", "--json", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    kept = json.loads(file.read_text())
    assert [one["name"] for one in kept["comparisons"]] == ["idle", "safety"]
    assert all(one["rounds"] and not one["failures"] for one in kept["comparisons"])
    assert file.with_suffix(".md").read_text() == done.stdout
    assert set(kept["comparisons"][1]["rounds"][0]["common"]["values"]) >= {"rate", "cpu.front", "cpu.worker"}


def test_an_unknown_comparison_is_named() -> None:
    command = [sys.executable, "-m", "bench", "--only", "many,none"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "'none': of many, wide" in done.stderr
