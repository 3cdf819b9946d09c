"""Soak: a steady load on a daemon that is killed, stopped, reloaded and abused meanwhile.

`python -m soak` says at its end whether each accepted query had exactly one outcome, how long the
daemon took to recover, and what it left behind. Lost and duplicated have to be 0.
"""
