"""The federation's own authority and the server certificate that it signs, as PEM bytes."""

import ipaddress
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from nakt_fed.provision.keys import KeyFileError, read_key

AUTHORITY_DAYS = 3650
LOOPBACK = ("localhost", "127.0.0.1")
"""On its own machine the coordinator is dialled as these: by the proxy, `nakt run` and Flower's executor."""


def authority_certificate(private: bytes, federation: str) -> bytes:
    """The authority's own certificate (PEM), valid for ten years, good for signing servers' certificates and nothing else."""
    key = read_key(private, "ca.key")
    subject = _subject(federation, "nakt-fed authority")
    builder = _builder(subject, subject, key.public_key(), AUTHORITY_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return _signed(builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True), key)


def server_certificate(
    authority: bytes, authority_key: bytes, public: ec.EllipticCurvePublicKey, host: str, days: int
) -> bytes:
    """A certificate (PEM) for `host`, a DNS name or an IPv4 address, and for the loopback of the coordinator's own machine.

    It ends after `days`, or with the authority's where that is sooner.

    Raises:
        KeyFileError: the authority's key or certificate cannot be read, or they do not belong together.
    """
    issuer, key = read_certificate(authority, "ca.crt"), read_key(authority_key, "ca.key")
    if issuer.public_key() != key.public_key():
        raise KeyFileError("ca.key and ca.crt do not belong together; put back the two that were made together")
    builder = _builder(issuer.subject, _subject(host, "nakt-fed coordinator"), public, days, issuer.not_valid_after_utc)
    names = [_general_name(name) for name in dict.fromkeys((host, *LOOPBACK))]
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
    )
    return _signed(builder, key)


def read_certificate(pem: bytes, file: str) -> x509.Certificate:
    """Raises KeyFileError: it holds no certificate."""
    try:
        return x509.load_pem_x509_certificate(pem)
    except ValueError:
        raise KeyFileError(f"{file} holds no certificate in PEM form; put the right one back") from None


def public_key_of(pem: bytes, file: str) -> ec.EllipticCurvePublicKey:
    """Raises KeyFileError: it holds no certificate of an ECDSA key."""
    key = read_certificate(pem, file).public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise KeyFileError(f"{file} is not for an ECDSA key; put the right one back")
    return key


def hosts_of(certificate: x509.Certificate) -> list[str]:
    """What a client may have dialled."""
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return [*names.get_values_for_type(x509.DNSName), *map(str, names.get_values_for_type(x509.IPAddress))]


def _subject(name: str, organisation: str) -> x509.Name:
    common = name[:64]  # the longest that X.509 allows; clients look at the alternative names
    pairs = [(NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, common)]
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in pairs])


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    issuer: x509.Name, subject: x509.Name, public: ec.EllipticCurvePublicKey, days: int, latest: datetime | None = None
) -> x509.CertificateBuilder:
    """Valid since yesterday: a hospital's clock may be late."""
    now = datetime.now(UTC).replace(microsecond=0)
    end = now + timedelta(days=days)
    return (
        x509.CertificateBuilder(issuer, subject, public, x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(min(end, latest) if latest else end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _usage(**allowed: bool) -> x509.KeyUsage:
    signing = ["digital_signature", "content_commitment", "key_cert_sign", "crl_sign"]
    kinds = [*signing, "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"]
    return x509.KeyUsage(**{kind: allowed.get(kind, False) for kind in kinds})


def _signed(builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey) -> bytes:
    return builder.sign(key, hashes.SHA384()).public_bytes(Encoding.PEM)
