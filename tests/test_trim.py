"""Freed memory goes back to the system, also from between what still lives."""

from __future__ import annotations

import subprocess
import sys

from hacd.trim import PATIENCE

PROGRAM = """
from hacd.trim import STEP, Trim, resident

MIB = 1024 * 1024
trim = Trim()
start = resident()
bodies, lives = [], []
bytearray(16 * MIB)  # from here on glibc takes 4 MiB from its heap
for _ in range(30):
    bodies.append(bytearray(b"x" * (4 * MIB)))
    lives.append(bytes(100_000))
trim.look()  # all is in use
assert resident() - start > 110 * MIB, resident() - start
bodies.clear()
print((resident() - start) // MIB)
for _ in range(200):
    trim.look()
print((resident() - start) // MIB)
"""


def test_what_is_freed_goes_back() -> None:
    said = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    before, after = map(int, said.split())
    assert after <= min(before, 20)


def test_looks_that_do_not_help_become_rare() -> None:
    program = """
from hacd import trim

asked = 0
class Counting(trim.Trim):
    def __init__(self):
        super().__init__()
        self._trim = self.ask
    def ask(self, _):
        global asked
        asked += 1
look = Counting()
held = bytearray(b"x" * 3 * trim.STEP)
for _ in range(1000):
    look.look()
print(asked)
"""
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert 5 < int(said) < 1000 / PATIENCE + 10
