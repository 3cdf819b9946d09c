"""A file of routes, loaded and judged. No loop and no socket here.

Law: a file that is wrong gives one error, with its line, and no routes.
"""

from __future__ import annotations

import inspect
import os
import select
import signal
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

#: modules that no file of routes brought: a reload leaves them as they are
_BEFORE = frozenset(sys.modules)

#: what a process that judged a file says if nothing is wrong
RIGHT = "right"

#: s that reading a file may take. A front reads it twice, and is given `watch.STARTS` until it turns.
LONGEST = 10.0


def load(path: str) -> routes.Table:
    """The routes that the file has, by name. Runs the file. Raises SettingsError with place and reason."""
    try:
        code = compile(Path(path).read_bytes(), path, "exec")
    except OSError as error:
        raise SettingsError(f"hacd.routes: {path}: {error.strerror}") from None
    except (SyntaxError, ValueError) as error:
        raise SettingsError(f"hacd.routes: {_syntax(path, error)}") from None
    module = ModuleType(MODULE)
    module.__file__ = path
    with _neighbours(path, module), routes.taking() as taken:
        try:
            exec(code, module.__dict__)
        except BaseException as error:  # noqa: BLE001
            raise SettingsError(f"hacd.routes: {where(error, path)}: {told(error)}") from None
        return _table(path, taken)


def check_apart(path: str, longest: float = 0.0) -> None:
    """Judge the file in a process of its own, which what it does ends with. Raises SettingsError, as `load` does.

    `longest`: seconds that it may take; 0: LONGEST.
    """
    longest = longest or LONGEST
    try:
        pid, reading = _judging(path)
    except OSError as error:
        raise SettingsError(f"hacd.routes: {path}: it cannot be judged: {error.strerror}") from None
    watch = select.poll()  # not `select.select`, which takes no descriptor above 1023
    watch.register(reading, select.POLLIN)
    ended = bool(watch.poll(1000 * longest))
    if not ended:
        os.kill(pid, signal.SIGKILL)
    # Once, and not to its end: a process that the file began may keep the pipe for as long as it lives.
    said = os.read(reading, select.PIPE_BUF).decode("utf-8", "replace") if ended else ""
    os.close(reading)
    os.waitpid(pid, 0)
    if not ended:
        raise SettingsError(f"hacd.routes: {path}: it was not read within {longest:g} s: routes alone would be right")
    if said != RIGHT:
        raise SettingsError(said or f"hacd.routes: {path}: it ended the process that read it")


def _judging(path: str) -> tuple[int, int]:
    """The process that judges the file, and where it says what it found. Raises OSError."""
    reading, writing = os.pipe()
    try:
        pid = os.fork()
    except OSError:
        os.close(reading)
        os.close(writing)
        raise
    if pid == 0:
        try:
            os.close(reading)
            load(path)
            os.write(writing, RIGHT.encode())
        except SettingsError as error:
            os.write(writing, str(error).encode("utf-8", "replace")[: select.PIPE_BUF])
        finally:
            os._exit(0)
    os.close(writing)
    return pid, reading


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
def _neighbours(path: str, module: ModuleType) -> Iterator[None]:
    """Modules and packages beside the file can be imported, also later by its routes, and are read anew.

    If the file is wrong, all is as before.
    """
    directory = os.path.dirname(os.path.abspath(path))
    modules, searched = dict(sys.modules), list(sys.path)
    _forget(directory, _BEFORE)
    sys.modules[MODULE] = module
    if directory not in sys.path:
        sys.path.insert(0, directory)
    try:
        yield
    except SettingsError:
        _forget(directory, frozenset(modules))
        sys.modules.update(modules)
        sys.path[:] = searched
        raise


def _forget(directory: str, but: frozenset[str]) -> None:
    """Have the modules that lie in that directory imported anew, but for these, hacd's own and installed ones."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name in but or name.partition(".")[0] == "hacd" or not isinstance(file, str):
            continue
        if os.path.abspath(file).startswith(directory + os.sep) and "site-packages" not in file:
            del sys.modules[name]


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


def forget_frames(error: BaseException) -> None:
    """Have an exception that was told hold no frame: of these, some hold what holds the exception."""
    told_of: set[int] = set()
    rest: list[BaseException | None] = [error]
    while rest:
        one = rest.pop()
        if one is not None and id(one) not in told_of:
            told_of.add(id(one))
            one.__traceback__ = None
            rest += [one.__context__, one.__cause__]


def told(error: BaseException) -> str:
    """An exception in one line, whatever its own text may do."""
    try:
        text = str(error)
    except BaseException as wrong:  # noqa: BLE001
        text = f"its text raised {type(wrong).__name__}"
    name = type(error).__name__
    return " ".join((f"{name}: {text}" if text else name).split())[:500]
