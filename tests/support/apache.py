"""Apache: what it alone does here is Digest with IE flavour and, with a realm of Kerberos, Negotiate.

It runs without Debian's configuration, and as an ordinary user even where root runs the tests: as
root it would not serve.
"""

from __future__ import annotations

import os
import pwd
import shutil
import tempfile
from base64 import b64encode
from hashlib import md5, sha1
from pathlib import Path

from tests.support.origins import Server, free_port

MODULES = Path("/usr/lib/apache2/modules")

#: beside what a location needs for its logins
LOADED = ("mpm_event", "authn_core", "authz_core", "authz_user", "alias", "headers", "setenvif", "dir")
LOGINS = ("auth_basic", "auth_digest", "authn_file")

CONFIG = """
ServerRoot {directory}
ServerName localhost
PidFile apache.pid
ErrorLog error.log
DefaultRuntimeDir .
Listen 127.0.0.1:{port}
{modules}
StartServers 1
ThreadsPerChild 64
MinSpareThreads 1
MaxRequestWorkers 64
ServerLimit 1
KeepAlive On
KeepAliveTimeout 60
MaxKeepAliveRequests 0
DocumentRoot {directory}/files
# Who logged in and how, and over which connection.
Header always set X-User "expr=%{{REMOTE_USER}}"
Header always set X-Auth-Type "expr=%{{AUTH_TYPE}}"
Header always set X-Connection "expr=%{{REMOTE_PORT}}"
{more}
"""

PASSWORDS = """
BrowserMatch "MSIE" AuthDigestEnableQueryStringHack=On
Alias /basic {directory}/files
Alias /digest {directory}/files
<Location /basic>
    AuthType Basic
    AuthName basic
    AuthUserFile {directory}/basic
    Require valid-user
</Location>
<Location /digest>
    AuthType Digest
    AuthName digest
    AuthDigestProvider file
    AuthUserFile {directory}/digest
    Require valid-user
</Location>
"""


class Apache(Server):
    """Apache, with `modules` beside the common ones, `more` configuration, and files that it may read (name to bytes).

    Every reply to a request that was let in says `X-User`, `X-Auth-Type` and `X-Connection`.
    """

    def __init__(
        self,
        modules: tuple[str, ...] = LOGINS,
        more: str = PASSWORDS,
        files: dict[str, bytes] | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.port = free_port()
        # Not below pytest's own directory, into which nobody but its owner can look.
        self.directory = Path(tempfile.mkdtemp(prefix="hacd-apache-"))
        shown = self.directory / "files"
        shown.mkdir()
        (shown / "index.html").write_text("in")
        for name, content in (passwords() if files is None else files).items():
            (self.directory / name).write_bytes(content)
        load = "\n".join(f"LoadModule {name}_module {MODULES}/mod_{name}.so" for name in (*LOADED, *modules))
        more = more.format(directory=self.directory)
        config = CONFIG.format(directory=self.directory, port=self.port, modules=load, more=more)
        (self.directory / "apache.conf").write_text(config)
        user = self._hand_over() if os.geteuid() == 0 else None
        command = [apache_path(), "-DFOREGROUND", "-f", str(self.directory / "apache.conf")]
        self._run(command, self.directory, user=user, environment=environment)

    def _hand_over(self) -> int:
        """Give the directory to a user who is not root; his number, and his group's."""
        nobody = pwd.getpwnam("nobody").pw_uid
        for path in (self.directory, *self.directory.rglob("*")):
            os.chown(path, nobody, nobody)
        return nobody

    def close(self) -> None:
        """End it, and leave nothing."""
        super().close()
        shutil.rmtree(self.directory)


def passwords() -> dict[str, bytes]:
    """Alice's and Bob's, in the forms of htpasswd and htdigest; each one's password is the name and `-secret`."""
    users = ("alice", "bob")
    plain = "".join(f"{user}:{{SHA}}{b64encode(sha1(f'{user}-secret'.encode()).digest()).decode()}\n" for user in users)
    digests = "".join(f"{user}:digest:{md5(f'{user}:digest:{user}-secret'.encode()).hexdigest()}\n" for user in users)
    return {"basic": plain.encode(), "digest": digests.encode()}


def apache_path() -> str:
    """Where Apache is; Debian keeps it out of the PATH of ordinary users. Empty if it is not there."""
    return shutil.which("apache2", path="/usr/sbin:/sbin:/usr/local/sbin") or ""


def has_apache(*modules: str) -> bool:
    """Whether it is there, with these modules."""
    return bool(apache_path()) and all((MODULES / f"mod_{name}.so").exists() for name in modules)
