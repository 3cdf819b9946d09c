"""One target under atheris: `python -m fuzz.guided TARGET FLAGS`, with libFuzzer's own flags.

A process of its own, since libFuzzer does not return; and what it is to be guided by has to be imported here first.
"""

from __future__ import annotations

import sys

import atheris


def main() -> None:
    """The process's life."""
    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=["hacd"]):
        from fuzz.targets import TARGETS
    atheris.Setup(sys.argv, TARGETS[name].run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
