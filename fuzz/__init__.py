"""Fuzz: bytes that nobody would send, for what reads foreign bytes. atheris looks for those that reach new code.

Law: a target is a function of bytes alone, and needs no atheris: what breaks it can be run again, and the suite runs
each on its seeds. It raises nothing for whatever bytes, unless there is a bug.
"""
