"""Certificates for tests of TLS."""

import subprocess
from pathlib import Path

from tests.support.services import find_program

KEY_PASSPHRASE = "of the key"
_EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "2")


def create_certificates(folder: Path) -> None:
    """Create two authorities, and certificates of the first for a server and a client."""
    folder.mkdir()
    for name in ("ca", "stranger"):
        _run_openssl(folder, *_EC, "-nodes", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.pem")
    ca_options = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
    _run_openssl(
        folder, *_EC, *ca_options, "-nodes", "-subj", "/CN=server", "-keyout", "server.key", "-out", "server.pem"
    )
    passphrase_options = ("-passout", f"pass:{KEY_PASSPHRASE}")
    client_options = ("-subj", "/CN=client", "-keyout", "client.key", "-out", "client.pem")
    _run_openssl(folder, *_EC, *ca_options, *passphrase_options, *client_options)
    (folder / "server.store").write_text((folder / "server.key").read_text() + (folder / "server.pem").read_text())


def _run_openssl(folder: Path, *arguments: str) -> None:
    binary = find_program("openssl", "openssl")
    subprocess.run([binary, "req", "-x509", *arguments], cwd=folder, capture_output=True, timeout=60, check=True)
