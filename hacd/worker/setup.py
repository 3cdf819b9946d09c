"""What a handle is set up with: the daemon's parameters, and over them the sticky options of a shape.

Everything here is set once for a handle, and holds for each query that it serves.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pycurl

from hacd import __version__, log
from hacd.rpc import unpack
from hacd.settings import Settings
from hacd.worker.egress import Egress
from hacd.worker.logins import logged_out
from hacd.worker.verbose import Verbose

#: a shape as jobs carry it: the packed sticky options, and whether there is a body
Shape = tuple[bytes, bool]

HTTP_ONLY = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS

#: s that an unused connection is kept
MAXAGE_CONN = 118

#: Bytes that libcurl reads at once; a multi's transfers share one buffer. More would save a long body system calls,
#: and cost the neighbours of a flood of short lines: a transfer is paused only when what was read is through.
READ = 32 * 1024

#: bytes from which on a body is put into the arena: shorter ones are quicker in their outcome
BLOCK = 16 * 1024

#: redirects that are followed for one query
MAXREDIRS = 10

# CURLOPT_FOLLOWLOCATION: 1 keeps a named method over every redirect; 2, since libcurl 8.13, lets the
# status decide (303 makes it GET), as browsers do.
FOLLOW = 2 if pycurl.version_info()[2] >= 0x080D00 else 1

#: The manual's numbers of `http_version`, and libcurl's.
HTTP_VERSIONS = {
    0: pycurl.CURL_HTTP_VERSION_NONE,
    1: pycurl.CURL_HTTP_VERSION_2_0,
    2: pycurl.CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE,
    3: pycurl.CURL_HTTP_VERSION_3,
}

#: Where distributions keep the certificates of authorities. A wheel's libcurl looks where the
#: distribution has them that it was built on, which is another one's more often than not.
CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)

# methods that say the length of their body even where there is none
_EXPECT_BODY = (b"POST", b"PUT", b"PATCH")

# methods after which a connection can be used again, with a body and without
_MAY_HAVE_BODY = (None, *_EXPECT_BODY)
_BODILESS = (None, b"GET", b"HEAD", b"DELETE", b"OPTIONS", b"TRACE")


class SetUp:
    """Sets handles up. One for a worker. `mixed`: connections may be kept that were made by other rules."""

    def __init__(self, settings: Settings, mixed: bool = False) -> None:
        self.egress = Egress(settings)
        #: whether a handle may meet connections that its own rules forbid
        self.shared = mixed or self.egress.differs
        self.max_body = settings.limits.max_body
        self.max_header = settings.limits.max_header
        self._ca_bundle = ca_bundle()
        parameters = settings.http_async_client
        uses_shm = parameters.memory_manager == "shm"
        threshold = settings.hacd.shm_threshold
        #: of bodies, from which on they are put into the arena, and into files
        self.lengths = (min(BLOCK, threshold), threshold) if uses_shm else (self.max_body + 1, self.max_body + 1)
        self._defaults: dict[bytes, Any] = {
            b"authmethod": parameters.authmethod,
            b"tls_client_cert": parameters.tls_client_cert,
            b"tls_client_key": parameters.tls_client_key,
            b"tls_ca_path": parameters.tls_ca_path,
            b"tcp_keepalive": parameters.tcp_keepalive,
            b"tcp_ka_idle": parameters.tcp_ka_idle,
            b"tcp_ka_interval": parameters.tcp_ka_interval,
            b"follow_redirect": parameters.curl_follow_redirect,
            b"http_version": 0,
            b"verbose": parameters.curl_verbose,
        }
        self._tls_version = parameters.tls_version
        self._verify_host = 2 if parameters.tls_verify_host else 0
        self._verify_peer = parameters.tls_verify_peer

    def options(self, shape: Shape) -> dict[bytes, Any]:
        """The sticky options of a shape, and beside them the daemon's parameters."""
        packed = shape[0]
        return self._defaults | (unpack(packed, text=False) if packed else {})

    def apply(self, curl: pycurl.Curl, options: dict[bytes, Any], has_body: bool, query: Callable[[], str]) -> int:
        """Set a new handle up for a shape; its `authmethod`. Raises pycurl.error for what this libcurl cannot do.

        `query()`: the id of the query that the handle carries out, for the log.
        """
        self._always(curl)
        self._tls(curl, options)
        _tcp(curl, options)
        logged_out(curl, options[b"authmethod"])
        curl.setopt(pycurl.HTTP_VERSION, HTTP_VERSIONS[options[b"http_version"]])
        if options[b"follow_redirect"]:
            curl.setopt(pycurl.FOLLOWLOCATION, FOLLOW)
            curl.setopt(pycurl.MAXREDIRS, MAXREDIRS)
        if options[b"verbose"]:
            curl.setopt(pycurl.DEBUGFUNCTION, Verbose(query))
            curl.setopt(pycurl.VERBOSE, 1)
        _method(curl, options.get(b"method"), has_body)
        return int(options[b"authmethod"])

    def _always(self, curl: pycurl.Curl) -> None:
        set_ = curl.setopt
        set_(pycurl.NOSIGNAL, 1)
        set_(pycurl.PROTOCOLS, HTTP_ONLY)
        set_(pycurl.REDIR_PROTOCOLS, HTTP_ONLY)
        # A proxy of the environment would be one more party that nobody named.
        set_(pycurl.PROXY, "")
        set_(pycurl.USERAGENT, f"hacd/{__version__}")
        set_(pycurl.MAXAGE_CONN, MAXAGE_CONN)
        set_(pycurl.BUFFERSIZE, READ)

    def _tls(self, curl: pycurl.Curl, options: dict[bytes, Any]) -> None:
        set_ = curl.setopt
        # Without one, OpenSSL would ask on the terminal for that of an encrypted key, and the worker wait.
        set_(pycurl.KEYPASSWD, "")
        set_(pycurl.SSLVERSION, self._tls_version)
        set_(pycurl.SSL_VERIFYHOST, self._verify_host)
        set_(pycurl.SSL_VERIFYPEER, self._verify_peer)
        if self._ca_bundle:
            set_(pycurl.CAINFO, os.fsencode(self._ca_bundle))
        for name, option in (
            (b"tls_client_cert", pycurl.SSLCERT),
            (b"tls_client_key", pycurl.SSLKEY),
            (b"tls_ca_path", pycurl.CAPATH),
        ):
            if options[name]:
                set_(option, os.fsencode(options[name]))


def _tcp(curl: pycurl.Curl, options: dict[bytes, Any]) -> None:
    if not options[b"tcp_keepalive"]:
        return
    curl.setopt(pycurl.TCP_KEEPALIVE, 1)
    for name, option in ((b"tcp_ka_idle", pycurl.TCP_KEEPIDLE), (b"tcp_ka_interval", pycurl.TCP_KEEPINTVL)):
        if options[name]:
            curl.setopt(option, options[name])


def _method(curl: pycurl.Curl, method: bytes | None, has_body: bool) -> None:
    if method == b"HEAD":
        curl.setopt(pycurl.NOBODY, 1)
        return
    if method in _EXPECT_BODY and not has_body:
        curl.setopt(pycurl.POSTFIELDS, b"")  # without a length of 0, origins answer 411
        has_body = True
    if method is not None and method != (b"POST" if has_body else b"GET"):
        curl.setopt(pycurl.CUSTOMREQUEST, method)
    if method not in (_MAY_HAVE_BODY if has_body else _BODILESS):
        # An origin that reads no body there takes it for the next request on that connection,
        # and libcurl looks for unexpected bytes only on connections idle for a second.
        curl.setopt(pycurl.FORBID_REUSE, 1)


def ca_bundle() -> str | None:
    """The file of authorities that this system trusts: SSL_CERT_FILE, else where distributions have it."""
    named = os.environ.get("SSL_CERT_FILE")
    for path in (named, *CA_BUNDLES):
        if path and os.access(path, os.R_OK):
            return path
    log.warning("no file of trusted authorities is found: https:// will fail; install ca-certificates")
    return None
