"""An authority of our own, and a proxy that speaks TLS in front of a server that does not."""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.socket_server import SocketServer, pass_on

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class Authority:
    """A certificate authority.

    Attributes:
        file: its certificate, which clients trust.
    """

    file: Path
    _key: ec.EllipticCurvePrivateKey
    _name: x509.Name

    @classmethod
    def create(cls, file: Path, name: str) -> Self:
        """Makes an authority and writes its certificate."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
        certificate = (
            _draft(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, hashes.SHA256())
        )
        file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return cls(file, key, subject)

    def hashed(self, folder: Path) -> Path:
        """Returns a new folder with its certificate under the hash by which OpenSSL finds it."""
        folder.mkdir()
        # OpenSSL's: of the name in small letters, without the head of the outer sequence.
        small = [x509.NameAttribute(each.oid, str(each.value).lower()) for each in self._name]
        digest = hashlib.sha1(x509.Name(small).public_bytes()[2:], usedforsecurity=False).digest()
        name = f"{int.from_bytes(digest[:4], 'little'):08x}.0"
        (folder / name).write_bytes(self.file.read_bytes())
        return folder

    def issue(
        self, folder: Path, *hosts: str, valid: timedelta = timedelta(hours=1)
    ) -> tuple[Path, Path]:
        """Writes a certificate for hosts and its key; returns both files."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [_general_name(host) for host in hosts]
        subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hosts[0])])
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        certificate = (
            _draft(subject, self._name, key.public_key(), valid)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer, critical=False)
            .sign(self._key, hashes.SHA256())
        )
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "certificate.pem").write_bytes(
            certificate.public_bytes(serialization.Encoding.PEM)
        )
        (folder / "key.pem").write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return folder / "certificate.pem", folder / "key.pem"


def server_context(
    certificate: Path,
    key: Path,
    *,
    version: ssl.TLSVersion | None = None,
    asks_for: Path | None = None,
) -> ssl.SSLContext:
    """Returns what a server shows of itself.

    Args:
        certificate: its own.
        key: of it.
        version: the only one that it speaks; None for all.
        asks_for: the authority whose certificates clients must show; None if they need none.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if asks_for is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(asks_for)
    return context


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _draft(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    valid: timedelta = timedelta(hours=1),
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509
        .CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=2))
        .not_valid_after(now + valid)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


class TlsProxy(SocketServer):
    """Ends TLS and passes all on to a plain server."""

    def __init__(self, target_port: int, certificate: Path, key: Path) -> None:
        self._target_port = target_port
        self.tls = server_context(certificate, key)

    async def _serve(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _connection: int
    ) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        try:
            await asyncio.gather(pass_on(reader, back_writer), pass_on(back_reader, writer))
        finally:
            back_writer.close()
