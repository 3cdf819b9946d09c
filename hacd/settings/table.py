"""The parameters, as one table: name, type, default, bounds, unit and text.

Law: the classes below are the table. What is checked, `conf/hacd.toml` and the docs follow from
them. A row that is marked `live` is changed by a reload and by `hacd set`; any other is read at the
start only.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Struct

from hacd.rpc import CHUNK
from hacd.settings import lists
from hacd.settings.rows import a_list as _list
from hacd.settings.rows import live as _live
from hacd.settings.rows import meta as _meta

KIB, MIB = 1024, 1024 * 1024
DAY = 86_400_000
PATH_MAX = 4095
NAME_MAX = 255

#: the largest of the manual's switches, which are on with any value but 0
NON_ZERO = 2**31 - 1

#: bytes that a frame and a body can be allowed to have at the most
FRAME_MAX = BODY_MAX = 1024 * MIB


class HttpAsyncClient(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The manual's parameters."""

    workers: Annotated[
        int, _meta("Number of worker processes that send HTTP requests and handle responses.", ge=1, le=64)
    ] = 1
    connection_timeout: Annotated[
        int,
        _live(
            "How long a query waits for its whole reply, where it names no `timeout` of its own.", "ms", ge=1, le=DAY
        ),
    ] = 500
    hash_size: Annotated[
        int,
        _meta(
            "Slots of the hash of suspended transactions, made at start; rounded down to a power of two. A slot is "
            "170 bytes from the start on, a transaction past them 210 bytes while it is in flight; in time there is "
            "no difference to be measured.",
            ge=1,
            le=1_048_576,
        ),
    ] = 2048
    tls_version: Annotated[
        Literal[0, 1, 4, 5, 6, 7],
        _live("Preferred TLS version, as libcurl numbers them: 0 its default, 1 TLS 1.x, 4 to 7 TLS 1.0 to 1.3."),
    ] = 0
    tls_verify_host: Annotated[
        Literal[0, 1, 2],
        _live("Whether the name in a server's certificate has to be the host's: 0 no, 2 yes (1 is 2)."),
    ] = 2
    tls_verify_peer: Annotated[
        Literal[0, 1], _live("Whether a server's certificate has to be signed by an authority that is known.")
    ] = 1
    tls_client_cert: Annotated[
        str, _live('File with the client certificate (PEM) that is shown to servers. "": none.', max_length=PATH_MAX)
    ] = ""
    tls_client_key: Annotated[
        str, _live('File with the private key of that certificate (PEM). "": none.', max_length=PATH_MAX)
    ] = ""
    tls_ca_path: Annotated[
        str,
        _live(
            "Directory with certificates of authorities, hashed as `openssl rehash` does, trusted beside the system's. "
            '"": none.',
            max_length=PATH_MAX,
        ),
    ] = ""
    authmethod: Annotated[
        int,
        _live(
            "How to log in where a query has a `username`, a sum of: 1 Basic, 2 Digest, 4 Negotiate, 8 NTLM, "
            "16 Digest with IE flavour. With several, libcurl asks the server first.",
            ge=1,
            le=31,
        ),
    ] = 3
    curl_verbose: Annotated[
        int,
        _live(
            "Non-zero: log what libcurl says of each transfer, and the headers of requests and replies, at level info.",
            ge=0,
            le=NON_ZERO,
        ),
    ] = 0
    curl_follow_redirect: Annotated[
        int,
        _live("Non-zero: follow redirects (3xx), to http and https only, and 10 of them at most.", ge=0, le=NON_ZERO),
    ] = 0
    memory_manager: Annotated[
        Literal["shm", "sys"],
        _meta(
            "Where the bodies of replies are kept. shm: long ones in shared memory, where callers can read them who "
            "say that they do. sys: in each process's own memory."
        ),
    ] = "shm"
    tcp_keepalive: Annotated[int, _live("Non-zero: probe idle TCP connections.", ge=0, le=NON_ZERO)] = 0
    tcp_ka_idle: Annotated[
        int, _live("Time that a connection is idle before the first probe; 0: libcurl's 60 s.", "s", ge=0, le=86_400)
    ] = 0
    tcp_ka_interval: Annotated[int, _live("Time between two probes; 0: libcurl's 60 s.", "s", ge=0, le=86_400)] = 0


class Hacd(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The daemon's own."""

    socket: Annotated[
        str,
        _meta(
            'Path of the Unix socket that callers dial. "": /run/hacd/hacd.sock for root, '
            "else $XDG_RUNTIME_DIR/hacd/hacd.sock.",
            max_length=99,
        ),
    ] = ""
    fronts: Annotated[
        int,
        _meta(
            "Front processes that accept callers on the one socket: more than one where one is the bound, from three "
            "workers on. Of limits that count, or are bytes, in all, each has its share, rounded down, and at least 1.",
            "count",
            ge=1,
            le=64,
        ),
    ] = 1
    socket_mode: Annotated[
        str,
        _meta(
            "Permissions of that socket, in octal.",
            right='three octal digits in quotes, such as "0660",',
            pattern="^0?[0-7]{3}$",
        ),
    ] = "0660"
    socket_owner: Annotated[
        str,
        _meta(
            'Who owns that socket; takes root. "": the daemon\'s user.',
            right="name or number of a user",
            max_length=NAME_MAX,
        ),
    ] = ""
    socket_group: Annotated[
        str,
        _meta(
            "Group of that socket, which `socket_mode` lets in; one of the daemon's own groups, or any for root. "
            '"": the daemon\'s group.',
            right="name or number of a group",
            max_length=NAME_MAX,
        ),
    ] = ""
    allow_users: Annotated[
        tuple[str, ...],
        _list(
            "Users who may call, beside those in `allow_groups`, root and the daemon's own. With both lists empty: "
            "everybody who may open the socket.",
            lists.USERS,
        ),
    ] = ()
    allow_groups: Annotated[
        tuple[str, ...], _list("Groups whose members may call, supplementary groups counted.", lists.GROUPS)
    ] = ()
    tls_dirs: Annotated[
        tuple[str, ...],
        _list(
            "Directories under which the files of a query's `tls_client_cert`, `tls_client_key` and `tls_ca_path` have "
            "to lie. Empty: anywhere.",
            lists.DIRECTORIES,
        ),
    ] = ()
    routes: Annotated[
        str,
        _live(
            "File of the daemon's own routes, in Python; it runs as the daemon's user. \"\": none.",
            right="the absolute path of a file",
            pattern="^(/.*)?$",
            max_length=PATH_MAX,
        ),
    ] = ""
    route_warn_ms: Annotated[
        int,
        _live(
            "A route that holds the front longer than this is logged: nobody else is served meanwhile.",
            "ms",
            ge=1,
            le=DAY,
        ),
    ] = 50
    transaction_timeout: Annotated[
        int,
        _live(
            "How long a transaction may be in the daemon's routes, with all its queries; then it ends with `internal`.",
            "ms",
            ge=1,
            le=DAY,
        ),
    ] = 60_000
    worker_timeout: Annotated[
        int,
        _live(
            "How long a worker may not answer the front's heartbeats, one a second; then it is killed and replaced.",
            "ms",
            ge=1000,
            le=DAY,
        ),
    ] = 10_000
    front_timeout: Annotated[
        int,
        _live(
            "How long the front's loop may not turn, as in a route without an end; then it is killed and replaced.",
            "ms",
            ge=1000,
            le=DAY,
        ),
    ] = 30_000
    drain_timeout: Annotated[
        int, _live("How long a stop waits for what is in flight; the rest ends with an error.", "ms", ge=0, le=DAY)
    ] = 5000
    shm_threshold: Annotated[
        int,
        _live(
            "Bytes from which on a body is a file in shared memory, for a caller who takes descriptors. Others, from "
            "16 KiB on, are in memory that the worker shares with the front, or with the caller.",
            "bytes",
            ge=4096,
            le=BODY_MAX,
        ),
    ] = 128 * KIB
    shm_size: Annotated[
        int,
        _live(
            "Bytes of shared memory in all, for bodies until they are sent, or returned; each worker has its share. A "
            "body that finds no room is kept as with sys, and counted in `shm_fallbacks`.",
            "bytes",
            ge=MIB,
            le=1024 * 1024 * MIB,
        ),
    ] = 64 * MIB
    log_target: Annotated[
        str,
        _live(
            "Where the log goes: stderr, systemd's journal, or a file, which is opened anew on SIGUSR1.",
            right='"stderr", "journald" or the absolute path of a file',
            pattern="^(stderr|journald|/.+)$",
            max_length=PATH_MAX,
        ),
    ] = "stderr"
    log_format: Annotated[
        Literal["text", "json"], _live("The form of a line, on stderr and in a file: text, or an object of JSON.")
    ] = "text"
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _live("The least level that is logged.")] = (
        "info"
    )
    log_secrets: Annotated[
        bool, _live("Log logins, cookies, user-info of URLs and the like as they are; else as [redacted].")
    ] = False


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Bounds of everything that can grow. What passes one is refused with `busy` or `too_large`."""

    max_transactions: Annotated[
        int, _live("Transactions in flight in all; one more is refused with `busy`.", "count", ge=1, le=10_000_000)
    ] = 131_072
    max_user_transactions: Annotated[
        int,
        _live("Transactions in flight of one user; one more is `busy`. 0: any.", "count", ge=0, le=10_000_000),
    ] = 0
    max_client_in_flight: Annotated[
        int, _live("Transactions in flight for one connection; one more is `busy`.", "count", ge=1, le=10_000_000)
    ] = 131_072
    max_clients: Annotated[
        int, _live("Connections of callers; one more gets `busy` and is closed.", "count", ge=1, le=1_000_000)
    ] = 4096
    max_user_clients: Annotated[
        int, _live("Connections of one user; one more gets `busy`. 0: any.", "count", ge=0, le=1_000_000)
    ] = 0
    max_client_buffer: Annotated[
        int,
        _live(
            "Bytes that wait for a caller who does not read; past it, his connection is cut.",
            "bytes",
            ge=CHUNK,
            le=1024 * MIB,
        ),
    ] = 64 * MIB
    max_memory: Annotated[
        int,
        _live(
            "Bytes that callers make the front hold: halves of messages, queries, replies not taken, routes registered "
            "for. With 3/4 of it held by queries and routes, one more is `busy`; past all of it, who holds most loses "
            "the largest of his connections.",
            "bytes",
            ge=16 * MIB,
            le=1024 * 1024 * MIB,
        ),
    ] = 1024 * MIB
    max_host_connections: Annotated[
        int,
        _live(
            "Queries on their way to one origin (scheme, host and port) at once; with HTTP/1 each has its connection. "
            "What is more waits, within its timeout, which is told as `queue`. 0: no bound.",
            "count",
            ge=0,
            le=1_000_000,
        ),
    ] = 0
    max_header: Annotated[
        int,
        _live(
            "Bytes of a reply's header blocks, with those of redirects and interim replies; more ends with code 100. "
            "libcurl has a bound of its own at 300 KiB.",
            "bytes",
            ge=256,
            le=300 * KIB,
        ),
    ] = 128 * KIB
    max_frame: Annotated[
        int,
        _live(
            "Bytes of one message of a caller; a longer one is `too_large`, and ends the connection.",
            "bytes",
            ge=CHUNK,
            le=FRAME_MAX,
        ),
    ] = 16 * MIB
    max_body: Annotated[
        int, _live("Bytes of a reply's body; a longer one ends with code 63.", "bytes", ge=1, le=BODY_MAX)
    ] = 32 * MIB


#: what is given by user or group: by the name or number, lists of `[egress]` by their names
Rules = dict[str, dict[str, tuple[str, ...]]]


class Egress(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What queries may reach, judged by the address that is connected to. What is refused ends with code 7."""

    allow: Annotated[
        tuple[str, ...],
        _list("Networks that may be reached, where `deny` has no network of theirs. Empty: all.", lists.NETWORKS),
    ] = ()
    deny: Annotated[
        tuple[str, ...],
        _list(
            "Networks that may not be reached, nor in a form of IPv6's that holds such an address. By default "
            "link-local ones and fd00:ec2::254: clouds tell secrets there.",
            lists.NETWORKS,
        ),
    ] = ("169.254.0.0/16", "fe80::/10", "fd00:ec2::254/128")
    hosts: Annotated[
        tuple[str, ...],
        _list(
            'Hosts that may be named, in URLs and redirects: a name, "*.name" for those under it, an address; with or '
            "without a port. Empty: all.",
            lists.HOSTS,
        ),
    ] = ()
    ports: Annotated[tuple[str, ...], _list("Ports that may be connected to. Empty: all.", lists.PORTS)] = ()
    users: Annotated[
        Rules,
        _live(
            "Rules of one user. A list that is given there stands for that of `[egress]`; the others hold as they are.",
            right=f"at most {lists.RULES_MAX} tables [egress.users.NAME] with allow, deny, hosts or ports",
            max_length=lists.RULES_MAX,
        ),
    ] = {}
    groups: Annotated[
        Rules,
        _live(
            "Rules of a group's members, who have none of their own. Of several, the first in the file holds.",
            right=f"at most {lists.RULES_MAX} tables [egress.groups.NAME] with allow, deny, hosts or ports",
            max_length=lists.RULES_MAX,
        ),
    ] = {}


class Settings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings, by section."""

    http_async_client: HttpAsyncClient = HttpAsyncClient()
    hacd: Hacd = Hacd()
    limits: Limits = Limits()
    egress: Egress = Egress()


SECTIONS: dict[str, type[Struct]] = {
    "http_async_client": HttpAsyncClient,
    "hacd": Hacd,
    "limits": Limits,
    "egress": Egress,
}
