"""A realm of Kerberos on loopback: a KDC, a service and users, in a directory of their own.

Nothing outside of that directory is read or written: every program is told where its files are.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from tests.support.origins import Server, free_port

REALM = "EXAMPLE.TEST"
SBIN = "/usr/sbin:/sbin:/usr/local/sbin"

CLIENT_CONFIG = """
[libdefaults]
    default_realm = {realm}
    dns_lookup_kdc = false
    dns_lookup_realm = false
    dns_canonicalize_hostname = false
    rdns = false
    udp_preference_limit = 1
    qualify_shortname = ""
[realms]
    {realm} = {{
        kdc = 127.0.0.1:{port}
    }}
[domain_realm]
    localhost = {realm}
"""

KDC_CONFIG = """
[kdcdefaults]
    kdc_listen = ""
    kdc_tcp_listen = 127.0.0.1:{port}
[realms]
    {realm} = {{
        database_name = {directory}/principals
        key_stash_file = {directory}/stash
        acl_file = {directory}/acl
    }}
[logging]
    kdc = FILE:{directory}/kdc.log
"""


class Realm(Server):
    """A KDC of `EXAMPLE.TEST`, with a key for HTTP on localhost."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        values = {"realm": REALM, "port": self.port, "directory": directory}
        self.config = directory / "krb5.conf"
        self.config.write_text(CLIENT_CONFIG.format(**values))
        (directory / "kdc.conf").write_text(KDC_CONFIG.format(**values))
        self.environment = {
            "KRB5_CONFIG": str(self.config),
            "KRB5_KDC_PROFILE": str(directory / "kdc.conf"),
            "KRB5RCACHEDIR": str(directory),
        }
        self._call("kdb5_util", "create", "-s", "-r", REALM, "-P", "of this test alone")
        self.keytab = directory / "http.keytab"
        self._call("kadmin.local", "addprinc", "-randkey", "HTTP/localhost")
        self._call("kadmin.local", "ktadd", "-k", str(self.keytab), "HTTP/localhost")
        self._run([program("krb5kdc"), "-n", "-P", str(directory / "kdc.pid")], directory, environment=self.environment)

    def ticket(self, user: str) -> dict[str, str]:
        """Make a user and get a ticket; the environment of who has it."""
        keytab = self.directory / f"{user}.keytab"
        environment = self.no_ticket(user)
        self._call("kadmin.local", "addprinc", "-randkey", user)
        self._call("kadmin.local", "ktadd", "-k", str(keytab), user)
        self._call("kinit", "-k", "-t", str(keytab), user, environment=environment)
        return environment

    def no_ticket(self, user: str) -> dict[str, str]:
        """The environment of one who is of this realm, and has no ticket."""
        return {"KRB5_CONFIG": self.environment["KRB5_CONFIG"], "KRB5CCNAME": f"FILE:{self.directory}/{user}.cache"}

    def _call(self, name: str, *arguments: str, environment: dict[str, str] | None = None) -> None:
        command = [program(name), *arguments]
        done = subprocess.run(
            command,
            env=self.environment | (environment or {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"


def program(name: str) -> str:
    """Where a program of Kerberos is; empty if it is not there."""
    return shutil.which(name) or shutil.which(name, path=SBIN) or ""


def missing() -> list[str]:
    """The programs that a realm needs and that are not there."""
    return [name for name in ("krb5kdc", "kdb5_util", "kadmin.local", "kinit") if not program(name)]
