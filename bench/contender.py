"""`python -m bench.contender NAME …`: one contender's run in a process of its own; prints one line of JSON."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from importlib import import_module
from typing import Any

from bench.contenders import BY_NAME
from bench.measure import Job, measured


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.contender")
    parser.add_argument("name", choices=sorted(BY_NAME))
    parser.add_argument("--url", required=True)
    parser.add_argument("--queries", type=int, required=True)
    parser.add_argument("--warm-up", type=int, required=True)
    parser.add_argument("--in-flight", type=int, required=True)
    parser.add_argument("--socket")
    parser.add_argument("--watch", type=json.loads, default={}, help="JSON: lists of process ids by role")
    return parser.parse_args()


def main() -> None:
    """Find the contender, measure it, print its figures."""
    given = _arguments()
    module, _, function = BY_NAME[given.name].home.partition(":")
    enter: Any = getattr(import_module(f"bench.contenders.{module}"), function)
    with enter(Job(given.url, given.in_flight, given.socket)) as run:
        figures = measured(run, given.warm_up, given.queries, given.watch)
    print(json.dumps(asdict(figures)))


if __name__ == "__main__":
    main()
