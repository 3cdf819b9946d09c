"""What the log may not show: a generated secret never comes through, ordinary lines come through as they are."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hacd.log import redaction
from hacd.log.redaction import HIDDEN

#: a mark that no line has by itself; secrets hold it at a random place
MARK = "Qz7Secret7zQ"

SCHEMES = st.sampled_from(["http", "https", "HTTP", "hTTps", "socks5h"])
BEFORE = st.sampled_from(["", "Location: ", "Issue another request to this URL: '", "[HTTP/2] [1] OPENED stream for "])
AFTER = st.sampled_from(["", "/", "/path", "?x=1", "#f", ":80/'", "/next?to=http://b@c/"])

#: what a user-info may hold: anything but what ends a host
ANY_BUT_ENDS = st.text(st.characters(exclude_characters="/?#", exclude_categories=["Cs"]), max_size=30)
#: what a header's value may hold
VALUE = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]), max_size=30)
BLANKS = st.text(" \t", max_size=3)


def secrets(alphabet: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda before, after: f"{before}{MARK}{after}", alphabet, alphabet)


def in_any_case(names: list[str]) -> st.SearchStrategy[str]:
    def mixed(name: str, upper: int) -> str:
        return "".join(c.upper() if upper >> i & 1 else c.lower() for i, c in enumerate(name))

    return st.builds(mixed, st.sampled_from(names), st.integers(0, 2**24))


NAMES = in_any_case(
    [
        *("Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "Set-Cookie2", "X-Api-Key", "apikey"),
        *("X-Auth-Token", "X-CSRF-Token", "X-Client-Secret", "X-Password", "Passwd", "Private-Token", "api_key"),
    ]
)
LOGINS = in_any_case(["Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie"])


@given(
    before=BEFORE,
    scheme=SCHEMES,
    slashes=st.sampled_from(["/", "//", "///"]),
    userinfo=secrets(ANY_BUT_ENDS),
    after=AFTER,
)
def test_user_info_of_any_url(before: str, scheme: str, slashes: str, userinfo: str, after: str) -> None:
    shown = redaction.line(f"{before}{scheme}:{slashes}{userinfo}@example.com{after}")
    assert MARK not in shown
    assert shown.startswith(f"{before}{scheme}:{slashes}{HIDDEN}@example.com{after[:1]}")


@given(userinfo=secrets(ANY_BUT_ENDS))
def test_user_info_of_a_location_without_scheme(userinfo: str) -> None:
    assert redaction.line(f"Location: //{userinfo}@example.com/") == f"Location: //{HIDDEN}@example.com/"


def test_user_info_whose_end_was_cut_off() -> None:
    """libcurl cuts its texts at 2 KB, which may be before the @."""
    shown = redaction.line(f"Issue another request to this URL: 'http://alice:{MARK}{'x' * 2000}...")
    assert shown == f"Issue another request to this URL: 'http://{HIDDEN}"


@given(name=NAMES, before=BLANKS, after=BLANKS, value=secrets(VALUE), more=secrets(VALUE))
def test_headers_that_hold_secrets(name: str, before: str, after: str, value: str, more: str) -> None:
    shown, continues = redaction.header(f"{name}{before}:{after}{value}", False)
    assert (shown, continues) == (f"{name}{before}: {HIDDEN}", True)
    assert redaction.line(shown) == shown
    for blank in " \t":
        shown, continues = redaction.header(f"{blank}{more}", continues)
        assert (shown, continues) == (f" {HIDDEN}", True)
    assert redaction.header("Server: nginx", continues) == ("Server: nginx", False)


@given(name=NAMES, blank=BLANKS, value=secrets(VALUE), version=st.sampled_from([2, 3]), stream=st.integers(0, 999))
def test_headers_as_http_2_and_3_tell_them(name: str, blank: str, value: str, version: int, stream: int) -> None:
    shown = redaction.line(f"[HTTP/{version}] [{stream}] [{name}:{blank}{value}]")
    assert shown == f"[HTTP/{version}] [{stream}] [{name}: {HIDDEN}]"


@given(name=LOGINS, before=VALUE, blank=BLANKS, value=secrets(VALUE))
def test_logins_anywhere_in_a_line(name: str, before: str, blank: str, value: str) -> None:
    assert MARK not in redaction.line(f"{before} {name}{blank}: {value}")


@given(
    name=in_any_case(["token", "access_token", "password", "client_secret", "api_key", "apikey"]),
    value=secrets(st.text("abcXYZ019%+-_./:@=", max_size=20)),
)
def test_parameters_of_a_url(name: str, value: str) -> None:
    shown = redaction.line(f"GET /a?x=1&{name}={value}&y=2 HTTP/1.1")
    assert shown == f"GET /a?x=1&{name}={HIDDEN}&y=2 HTTP/1.1"
    assert redaction.line(shown) == shown
    assert redaction.line(f"[:path: /a?{name}={value}]") == f"[:path: /a?{name}={HIDDEN}]"


#: a value in a URL: anything but what ends it
ANY_VALUE = st.text(st.characters(exclude_characters="&# \t\r\n\x0b\x0c", exclude_categories=["Cs", "Z"]), max_size=20)
SECRET_NAMES = ["token", "access_token", "password", "client_secret", "api_key", "apikey"]


def percent_encoded(name: str, which: int) -> str:
    return "".join(f"%{ord(letter):02x}" if which >> place & 1 else letter for place, letter in enumerate(name))


@given(
    before=st.sampled_from(
        ["?", "?a=b&", "#", "?a=b#", "?a=b;", "?x=/", "?x=", "/", "?a=b&amp;", "?u=http%3A%2F%2Fh%3F"]
    ),
    name=st.builds(percent_encoded, in_any_case(SECRET_NAMES), st.integers(0, 2**13)),
    value=secrets(ANY_VALUE),
    around=st.sampled_from(["'", '"', ""]),
    equals=st.sampled_from(["=", "=a=", "=;"]),
)
def test_parameters_in_any_form(before: str, name: str, value: str, around: str, equals: str) -> None:
    url = f"http://example.com/a{before}{name}{equals}{value}"
    assert MARK not in redaction.line(f"Issue another request to this URL: {around}{url}{around}")
    assert MARK not in redaction.line(f"GET {url} HTTP/1.1")
    assert MARK not in redaction.header(f"Location: {url}", False)[0]


@given(value=secrets(st.text("ab '\"=;,/?:@%", max_size=20)))
def test_blanks_in_a_header(value: str) -> None:
    assert MARK not in redaction.header(f"Location: /a?token={value}", False)[0]


@given(
    begin=st.sampled_from(["http:\\\\", "http:\\", "http:/\\", "http:\\/", "\\\\", "/\\"]),
    userinfo=secrets(st.text("ab:@.\\ ", max_size=20)),
)
def test_user_info_behind_backslashes(begin: str, userinfo: str) -> None:
    assert MARK not in redaction.line(f"Location: {begin}{userinfo}@example.com/")


@given(password=secrets(st.text("ab:@. %", max_size=20)))
def test_user_info_without_a_scheme(password: str) -> None:
    assert redaction.header(f"Location: u:{password}@example.com/", False)[0] == f"Location: {HIDDEN}@example.com/"
    path = password.replace(" ", "%20")  # as libcurl goes there
    assert MARK not in redaction.line(f"Issue another request to this URL: 'http://example.com/u:{path}@example.com/'")


@given(before=VALUE, userinfo=secrets(ANY_BUT_ENDS), at=st.integers(0, 60))
def test_a_cut_shows_no_more_than_the_whole(before: str, userinfo: str, at: int) -> None:
    """Up to where it was cut, nobody sees whether an @ follows."""
    cut = f"{before} http://{userinfo}@example.com/"[: len(before) + 8 + at]
    assert MARK[:4] not in redaction.line(cut, cut=True)
    assert MARK[:4] not in redaction.header(f"X-A: {cut}", False, cut=True)[0]


@given(user=secrets(VALUE), method=st.sampled_from(["Basic", "Digest"]))
def test_who_logs_in(user: str, method: str) -> None:
    """Where the name came in the URL, it is user-info, and is as good as a key with many an API."""
    assert redaction.line(f"Server auth using {method} with user '{user}'") == (
        f"Server auth using {method} with user '{HIDDEN}'"
    )


ORDINARY = [
    "hacd starts: 2 workers, socket /run/hacd/hacd.sock",
    "caller uid 0 pid 1: not MessagePack-RPC: an array where [0, msgid, method, params] would be right",
    "tls_client_key: '/no/such' is wrong: no file there that the daemon may read",
    "notification of pid 7 refused: password: it is wrong: at most 1024 printable characters would be right",
    "  Trying [::1]:8080...",
    "Established connection to example.com (2001:db8::1 port 443) from 2001:db8::2 port 38668",
    "Issue another request to this URL: 'https://example.com:8443/a@b?mail=a@b.example&n=1#f@g'",
    "[HTTP/2] [1] OPENED stream for https://127.0.0.1:8443/",
    "[HTTP/2] [1] [:authority: 127.0.0.1:8443]",
    "[HTTP/2] [1] [user-agent: hacd/0.1.0]",
    "SSL connection using TLSv1.3 / TLS_AES_256_GCM_SHA384 / X25519MLKEM768 / RSASSA-PSS",
    " start date: Jan  1 00:00:00 2026 GMT",
    "Connection #0 to host 127.0.0.1:34031 left intact",
    "http://example.com/~a//b@c/",
    "mailto:alice@example.com",
    "<a href='http://x/?n=1'>token</a>",
    "set: hash_size = 1024 by uid 0",
    "",
]

HEADERS = [
    'WWW-Authenticate: Digest realm="me@kennethreitz.com", nonce="1", qop="auth"',
    "Proxy-Authenticate: Basic realm=x",
    "Location: https://example.com/a@b",
    "Access-Control-Allow-Credentials: true",
    "Access-Control-Allow-Headers: Authorization, Cookie",
    "Vary: Cookie",
    "GET /users/a@b.example?next=/c HTTP/1.1",
    "HTTP/1.1 200 OK",
    " continued",
    "",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_ordinary_lines_stay_as_they_are(text: str) -> None:
    assert redaction.line(text) == text


@pytest.mark.parametrize("text", HEADERS)
def test_ordinary_headers_stay_as_they_are(text: str) -> None:
    assert redaction.header(text, False) == (text, False)


@given(st.text())
def test_twice_is_as_good_as_once(text: str) -> None:
    once = redaction.line(text)
    assert redaction.line(once) == once


@pytest.mark.parametrize(
    "piece",
    [
        *("http:", "token", "http://", "[a", "?token", "?token=", "&", "//", "cookie ", "@", ":/", "a", " "),
        *(":\\", "\\\\", "\\@", "/a:", "/:@", "/a=", ",a=", "'a=", "=", "/a=b=", "%74oken=", "?a=%", "?a=%3A/@="),
    ],
)
def test_no_line_takes_long(piece: str) -> None:
    """libcurl takes headers of 100 KB. Quadratic time would be minutes here, and a worker that does nothing else."""
    begin = time.perf_counter()
    redaction.line(piece * (100_000 // len(piece)))
    redaction.header(piece * (100_000 // len(piece)), False)
    redaction.header("Location: " + piece * (100_000 // len(piece)), False, cut=True)
    assert time.perf_counter() - begin < 2
