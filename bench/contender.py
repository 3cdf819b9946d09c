"""`python -m bench.contender HOME …`: one contender's run in a process of its own; prints one line of JSON.

HOME is a module of bench.contenders and a function in it: a context manager that takes a Job and gives a Run.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import AbstractContextManager
from dataclasses import asdict
from importlib import import_module
from typing import Any
from urllib.parse import urlsplit

from bench import BenchError
from bench.measure import Job, Run, measured
from bench.openfiles import raise_limit
from hacd import HacdError


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.contender")
    parser.add_argument("home", metavar="HOME", help="as hacd_blocking:many")
    parser.add_argument("--job", type=json.loads, required=True, help="JSON: the members of a Job")
    parser.add_argument("--queries", type=int, required=True)
    parser.add_argument("--warm-up", type=int, required=True)
    parser.add_argument("--watch", type=json.loads, default={}, help="JSON: lists of process ids by role")
    return parser.parse_args()


def enter(home: str, job: Job) -> AbstractContextManager[Run]:
    """The contender of that name, told its job."""
    module, _, function = home.partition(":")
    contender: Any = getattr(import_module(f"bench.contenders.{module}"), function)
    entered: AbstractContextManager[Run] = contender(job)
    return entered


def main() -> None:
    """Find the contender, measure it, print its figures."""
    given = _arguments()
    raise_limit()
    job = Job(**given.job)
    try:
        with enter(given.home, job) as run:
            figures = measured(run, given.warm_up, given.queries, given.watch, urlsplit(job.url).port or 0)
    except (BenchError, HacdError) as error:
        sys.exit(str(error))
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    main()
