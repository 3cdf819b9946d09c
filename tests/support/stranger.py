"""A caller of another user, for what he may not do. Takes root."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

#: nobody, on every Linux
UID = 65534

PREAMBLE = """
import os, socket, sys, msgpack
os.setgid(65534); os.setuid(65534)
wire = socket.socket(socket.AF_UNIX)
wire.connect(sys.argv[1])
def call(method, params):
    wire.sendall(msgpack.packb([0, 1, method, params]))
    return msgpack.unpackb(wire.recv(65536))[2:]
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="takes two users")


def stranger(socket: str, program: str) -> subprocess.Popen[str]:
    """Run `program` as nobody, with `wire` connected to the daemon and `call(method, params)`."""
    command = [sys.executable, "-c", PREAMBLE + program, socket]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
