"""Real haproxy and stunnel on the hosts of `TwoNetworks`, configured by `beamcast network render`."""

import subprocess
import sys
from pathlib import Path

from networks.namespace import Namespace
from networks.stream import until
from requirements import REPOSITORY

FIRST_PORT, LAST_PORT = 30000, 30015


def render(host: Namespace, site: Path, *more: str) -> str:
    """What the command prints on that host."""
    words = [sys.executable, "-m", "beamcast", "network", "render", "--site", str(site), *more]
    done = host.run(*words, environment={"PYTHONPATH": str(REPOSITORY / "src")})
    assert done.returncode == 0, done.stderr
    return done.stdout


def start(host: Namespace, words: list[str], config: Path, text: str, *, port: int = FIRST_PORT) -> None:
    """Start a forwarder with this configuration; ended with its host. It listens when this returns."""
    config.write_text(text)
    log = config.with_suffix(".log")
    process = host.start(*words, str(config), log=log)

    def listens() -> bool:
        assert process.poll() is None, log.read_text()
        return f":{port} " in host.run("ss", "-Hltn").stdout

    until(listens, 10, log.read_text)


class Certificates:
    """An authority and certificates of both ends, for one day."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self._openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=authority",
                      "-keyout", "ca.key", "-out", "ca.pem")  # fmt: skip
        for name in ("beamline", "gateway"):
            self._openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                          "-addext", f"subjectAltName=DNS:{name}", "-keyout", f"{name}.key",
                          "-out", f"{name}.csr")  # fmt: skip
            self._openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-days", "1",
                          "-copy_extensions", "copy", "-out", f"{name}.pem")  # fmt: skip
            (folder / f"{name}.key").chmod(0o600)

    def _openssl(self, *words: str) -> None:
        done = subprocess.run(
            ["openssl", *words], cwd=self._folder, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def table(self, name: str, *, peer: str) -> str:
        """The site file's table for one end."""
        lines = [f'ca = "{self._folder}/ca.pem"', f'certificate = "{self._folder}/{name}.pem"']
        lines += [f'key = "{self._folder}/{name}.key"', f'peer = "{peer}"']
        return "\n".join(["", "[network.forwarder.tls]", *lines, ""])


def forwarder(kind: str, *, host: str, target: str) -> str:
    """The site file's table."""
    return (
        f'\n[network.forwarder]\nkind = "{kind}"\nhost = "{host}"\ntarget = "{target}"\n'
        f"ports = {{ first = {FIRST_PORT}, last = {LAST_PORT} }}\n"
    )
