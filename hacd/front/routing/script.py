"""A file of routes, loaded and judged. No loop and no socket here.

Law: a file that is wrong gives one error, with its line, and no routes.
"""

from __future__ import annotations

import inspect
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from hacd import routes
from hacd.errors import BadRequest, SettingsError
from hacd.query import check_route

#: the name under which a file of routes finds itself
MODULE = "hacd_routes_file"

#: what a process that judged a file says if nothing is wrong
RIGHT = "right"


def load(path: str) -> dict[str, routes.Route]:
    """The routes that the file has, by name. Runs the file. Raises SettingsError with place and reason."""
    try:
        code = compile(Path(path).read_bytes(), path, "exec")
    except OSError as error:
        raise SettingsError(f"hacd.routes: {path}: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise SettingsError(f"hacd.routes: {_syntax(path, error)}") from None
    module = ModuleType(MODULE)
    module.__file__ = path
    with _neighbours(path), routes.taking() as taken:
        sys.modules[MODULE] = module
        try:
            exec(code, module.__dict__)
        except (Exception, SystemExit) as error:  # noqa: BLE001
            raise SettingsError(f"hacd.routes: {where(error, path)}: {told(error)}") from None
    return _table(path, taken)


def check_apart(path: str) -> None:
    """Judge the file in a process of its own, which what it does ends with. Raises SettingsError, as `load` does."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            load(path)
            os.write(writing, RIGHT.encode())
        except SettingsError as error:
            os.write(writing, str(error).encode("utf-8", "replace")[:4000])
        finally:
            os._exit(0)
    os.close(writing)
    with open(reading, encoding="utf-8", errors="replace") as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    if said != RIGHT:
        raise SettingsError(said or f"hacd.routes: {path}: it ended the process that read it")


def _table(path: str, taken: list[tuple[str, routes.Route]]) -> dict[str, routes.Route]:
    table: dict[str, routes.Route] = {}
    for name, function in taken:
        try:
            _judge(name, function)
        except (BadRequest, ValueError) as error:
            raise SettingsError(f"hacd.routes: {_line(path, function)}: {error}") from None
        if name in table:
            raise SettingsError(f"hacd.routes: {_line(path, function)}: route {name!r} is there twice")
        table[name] = function
    if not table:
        raise SettingsError(f'hacd.routes: {path}: no route in it: @route("NAME") before a function makes one')
    return table


def _judge(name: Any, function: Any) -> None:
    """Raise BadRequest or ValueError for what cannot be a route."""
    if not check_route(name):
        raise ValueError("a route needs a name")
    if not inspect.isroutine(function):
        raise ValueError(f"route {name!r}: a {type(function).__name__} is wrong: a function would be right")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise ValueError(f"route {name!r}: it yields: def without yield, or async def with await, would be right")
    try:
        inspect.signature(function).bind(object())
    except TypeError:
        raise ValueError(f"route {name!r}: one argument, the transaction, would be right") from None


@contextmanager
def _neighbours(path: str) -> Iterator[None]:
    """Modules beside the file can be imported, and are read anew; if the file is wrong, the old ones stay."""
    directory = os.path.dirname(os.path.abspath(path))
    known = {name: module for name, module in sys.modules.items() if _is_in(module, directory)}
    for name in known:
        del sys.modules[name]
    sys.path.insert(0, directory)
    try:
        yield
    except SettingsError:
        sys.modules.update(known)
        raise
    finally:
        sys.path.remove(directory)


def _is_in(module: Any, directory: str) -> bool:
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and os.path.dirname(file) == directory and not module.__name__.startswith("hacd")


# -- errors for people


def _syntax(path: str, error: Exception) -> str:
    line = getattr(error, "lineno", None)
    return f"{path}{f':{line}' if line else ''}: {getattr(error, 'msg', None) or error}"


def _line(path: str, function: Any) -> str:
    code = getattr(inspect.unwrap(function), "__code__", None)
    return f"{code.co_filename}:{code.co_firstlineno}" if code else path


def where(error: BaseException, path: str) -> str:
    """The line of the file of routes at which an exception left it; where it came from, if not from there."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if frame.filename == path] or frames[-1:]
    return f"{ours[-1].filename}:{ours[-1].lineno}" if ours else path


def told(error: BaseException) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
