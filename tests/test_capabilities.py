"""What is refused because libcurl lacks it: the judge alone, with libcurls of every kind."""

from __future__ import annotations

import logging

import pytest

from hacd.errors import BadRequest
from hacd.front.capabilities import FINE_MAX, Capabilities
from hacd.rpc import pack

ALL, NO_NTLM, NO_GSS = 31, 23, 19


def shape(**options: int) -> bytes:
    return pack(options)


def judge(capabilities: Capabilities, login: bool = False, **options: int) -> str:
    """What it says; empty if nothing."""
    try:
        capabilities.judge(shape(**options) if options else b"", login)
    except BadRequest as error:
        return error.message
    return ""


@pytest.fixture
def plain() -> Capabilities:
    """Of a libcurl without NTLM and HTTP/3."""
    capabilities = Capabilities()
    capabilities.configure(3)
    capabilities.learn(NO_NTLM, [0, 1, 2])
    return capabilities


def test_before_a_worker_said_hello_nothing_is_refused() -> None:
    capabilities = Capabilities()
    capabilities.configure(8)
    assert (
        judge(capabilities, login=True)
        == judge(capabilities, authmethod=8)
        == judge(capabilities, http_version=3)
        == ""
    )
    capabilities.learn(NO_NTLM, [0])
    assert judge(capabilities, login=True)  # what was right before is judged again
    assert judge(capabilities, authmethod=8)
    assert judge(capabilities, http_version=3)


def test_every_method_where_libcurl_has_it() -> None:
    capabilities = Capabilities()
    capabilities.configure(8)
    capabilities.learn(ALL, [0, 1, 2, 3])
    assert [judge(capabilities, True, authmethod=number) for number in range(1, 32)] == [""] * 31
    assert [judge(capabilities, http_version=number) for number in range(4)] == [""] * 4


def test_method_that_is_not_there(plain: Capabilities) -> None:
    assert judge(plain, authmethod=8) == (
        "authmethod: 8 (NTLM) is wrong: this libcurl has no NTLM; "
        "it has 1 Basic, 2 Digest, 4 Negotiate, 16 Digest with IE flavour"
    )
    plain.learn(NO_GSS, [0, 1, 2])
    assert judge(plain, authmethod=12) == (
        "authmethod: 12 (Negotiate, NTLM) is wrong: this libcurl has no Negotiate and no NTLM; "
        "it has 1 Basic, 2 Digest, 16 Digest with IE flavour"
    )


def test_one_method_of_a_sum_is_enough(plain: Capabilities) -> None:
    refused = [number for number in range(1, 32) if judge(plain, authmethod=number)]
    assert refused == [8]


def test_version_that_is_not_there(plain: Capabilities) -> None:
    assert judge(plain, http_version=3) == (
        "http_version: 3 (HTTP/3) is wrong: this libcurl has no HTTP/3; "
        "it has 0 libcurl's choice, 1 HTTP/2 with upgrade, 2 HTTP/2 by prior knowledge"
    )
    plain.learn(NO_NTLM, [0])
    assert judge(plain, http_version=2) == (
        "http_version: 2 (HTTP/2 by prior knowledge) is wrong: this libcurl has no HTTP/2; it has 0 libcurl's choice"
    )


def test_parameter_that_is_not_there(caplog: pytest.LogCaptureFixture) -> None:
    """It is an error once; only logins that name no method of their own are refused."""
    capabilities = Capabilities()
    capabilities.configure(8)
    with caplog.at_level(logging.ERROR):
        capabilities.learn(NO_NTLM, [0, 1, 2])
        capabilities.learn(NO_NTLM, [0, 1, 2])
    assert [record.getMessage()[:50] for record in caplog.records] == [
        "parameter authmethod: 8 (NTLM) is wrong: this libc"
    ]
    for _ in range(2):
        assert judge(capabilities) == ""
        assert judge(capabilities, login=True).startswith("authmethod: 8 (NTLM) is wrong")
        assert judge(capabilities, http_version=2) == ""
        assert judge(capabilities, True, http_version=2).startswith("authmethod: 8 (NTLM) is wrong")
        assert judge(capabilities, True, authmethod=1) == ""


def test_parameter_that_is_changed(plain: Capabilities, caplog: pytest.LogCaptureFixture) -> None:
    assert judge(plain, True, http_version=2) == ""
    plain.configure(8)
    assert judge(plain, True, http_version=2).startswith("authmethod: 8 (NTLM) is wrong")
    plain.configure(11)
    assert judge(plain, True, http_version=2) == ""
    assert len(caplog.records) == 1


def test_shapes_that_are_remembered_are_bounded(plain: Capabilities) -> None:
    for number in range(FINE_MAX + 10):
        assert judge(plain, tcp_ka_idle=number) == ""
        assert len(plain._fine) <= FINE_MAX


@pytest.mark.parametrize("said", [(None, [0]), ("x", [0]), (1, None), (1, ["x"]), (1, 7)])
def test_hello_that_cannot_be(plain: Capabilities, said: tuple[object, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        plain.learn(*said)
    assert judge(plain, authmethod=8)
