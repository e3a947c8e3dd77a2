"""The certificate and keys of a site's kit: there, valid, of the right kind, and private where they have to be."""

from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from nakt_fed.errors import RunError
from nakt_fed.signing import verified

SOON = 30  # days before the end that are worth a word


def check_authority(path: Path) -> str:
    """How long the federation's certificate is valid. Raises RunError: no certificate, or not valid today."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except ValueError:
        raise RunError(f"{path} holds no certificate; take ca.crt from the kit again") from None
    begin, end, now = certificate.not_valid_before_utc, certificate.not_valid_after_utc, datetime.now(UTC)
    if now < begin:
        raise RunError(f"{path} is valid from {begin:%Y-%m-%d} only; check this machine's clock")
    if now > end:
        raise RunError(f"{path} was valid until {end:%Y-%m-%d}; ask the coordinator for a new one")
    soon = "; ask the coordinator for a new one soon" if (end - now).days < SOON else ""
    return f"the federation's certificate is valid until {end:%Y-%m-%d}{soon}"


def check_site_key(path: Path) -> str:
    """That the site's key is what Flower takes, nobody else's to read, and the other half of site.pub beside it.

    Raises:
        RunError: it is not.
    """
    key = _private_key(path)
    if mode := path.stat().st_mode & 0o077:
        raise RunError(f"{path} can be read by others ({mode:03o}); chmod 600 {path}")
    public = path.with_suffix(".pub")
    if public.exists() and public.read_bytes().split()[:2] != _ssh(key):
        raise RunError(f"{public} is not the other half of {path.name}; take both from the same kit")
    return "ECDSA P-384, readable for its owner only" + (", fits its public half" if public.exists() else "")


def _private_key(path: Path) -> ec.EllipticCurvePrivateKey:
    data = path.read_bytes()
    read = load_ssh_private_key if b"OPENSSH" in data[:50] else load_pem_private_key
    try:
        key = read(data, password=None)
    except (ValueError, TypeError) as error:
        raise RunError(f"{path} holds no private key that can be read ({error}); take site.key from the kit") from None
    if not (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP384R1)):
        raise RunError(f"{path} holds a key of another kind; ECDSA P-384 is expected, take site.key from the kit")
    return key


def _ssh(key: ec.EllipticCurvePrivateKey) -> list[bytes]:
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).split()[:2]


def check_coordinator_key(path: Path) -> str:
    """Raises RunError: not the public key that orders are checked with."""
    verified({}, path)
    return f"what is asked here has to be signed for the key in {path.name} (Ed25519)"
