"""`python -m fuzz`: each target for its share of the time.

Exit code 1 if an input breaks one; it is printed, as Python has it.
"""

from __future__ import annotations

import argparse
import ast
import re
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from fuzz.targets import TARGETS, WORDS

#: bytes of an input, s that one may take, MiB that the process may have
MAX_LENGTH, TIMEOUT, MEMORY = 4096, 10, 1024

#: of what libFuzzer writes beside its figures, lines that are shown
SHOWN = 40

#: what it calls the inputs that it keeps, by what they do
_FOUND = ("crash-*", "timeout-*", "oom-*", "leak-*")

_DONE = re.compile(r"^Done (\d+) runs", re.M)
_COVERAGE = re.compile(r"cov: (\d+)")


def _literal(text: str) -> bytes:
    value = ast.literal_eval(text)
    if not isinstance(value, bytes):
        raise ValueError(text)
    return value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Bytes that nobody would send.")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together (%(default)s)")
    parser.add_argument("--target", choices=TARGETS, help="this one alone")
    parser.add_argument("--input", type=_literal, metavar="LITERAL", help="run --target once, on these bytes (b'…')")
    given = parser.parse_args()
    if given.input is not None and given.target is None:
        parser.error("--input: --target is needed with it")
    return given


def _prepare(directory: Path, name: str) -> None:
    """Seeds and words, where libFuzzer finds them."""
    (directory / "seeds").mkdir()
    for number, seed in enumerate(TARGETS[name].seeds):
        (directory / "seeds" / str(number)).write_bytes(seed)
    words = ['"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in WORDS]
    (directory / "words").write_text("".join(words))


def fuzz(name: str, seconds: int) -> bool:
    """Fuzz one target for so long. False if something broke it, which is printed."""
    with tempfile.TemporaryDirectory(prefix="hacd-fuzz-") as place:
        directory = Path(place)
        _prepare(directory, name)
        flags = [f"-max_total_time={seconds}", f"-timeout={TIMEOUT}", f"-rss_limit_mb={MEMORY}"]
        flags += [f"-max_len={MAX_LENGTH}", f"-dict={directory}/words", f"-artifact_prefix={directory}/"]
        command = [sys.executable, "-m", "fuzz.guided", name, *flags, str(directory / "seeds")]
        ended = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
        found = [path for pattern in _FOUND for path in directory.glob(pattern)]
        if ended.returncode == 0 and not found:
            print(f"{name}: {_figures(ended.stderr)}", flush=True)
            return True
        _tell(name, ended, found)
        return False


def _figures(told: str) -> str:
    done, coverage = _DONE.search(told), _COVERAGE.findall(told)
    return f"{int(done[1]) if done else 0:,} inputs, {coverage[-1] if coverage else 0} places reached, nothing found"


def _tell(name: str, ended: subprocess.CompletedProcess[str], found: list[Path]) -> None:
    lines = [line for line in (ended.stdout + ended.stderr).splitlines() if not line.startswith(("#", "INFO:", "\t"))]
    print("\n".join(lines[-SHOWN:]))
    for path in found:
        kind = path.name.partition("-")[0]
        print(
            f"\n{name}: {kind}. To run it again:\n  python -m fuzz --target {name} --input LITERAL\n"
            f"{path.read_bytes()!r}"
        )
    if not found:
        print(f"\n{name}: it ended with {ended.returncode}, and left no input")


def main() -> None:
    """The command."""
    given = _arguments()
    if given.input is not None:
        TARGETS[given.target].run(given.input)
        return
    if find_spec("atheris") is None:
        print(
            "atheris is not installed (it has wheels for some Pythons only): pip install 'hacd[fuzz]'", file=sys.stderr
        )
        sys.exit(2)
    names = [given.target] if given.target else list(TARGETS)
    share = max(1, int(given.seconds / len(names)))
    sound = [fuzz(name, share) for name in names]
    sys.exit(not all(sound))


if __name__ == "__main__":
    main()
