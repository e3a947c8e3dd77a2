"""Key pairs, as bytes in the forms that OpenSSL, Flower and `nakt_fed.signing` read.

All but the coordinator's signing key (Ed25519) are ECDSA on P-384, which Flower asks of a SuperNode's key.
"""

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from nakt_fed.errors import NaktError


class KeyFileError(NaktError):
    """A key or certificate in a kit cannot be read, or is of another kind."""


def new_key() -> bytes:
    """A private key for a certificate (PEM, PKCS 8)."""
    return _private(ec.generate_private_key(ec.SECP384R1()), PrivateFormat.PKCS8)


def new_site_key() -> bytes:
    """A private key in OpenSSH's form, the only one that `flower-supernode` reads."""
    return _private(ec.generate_private_key(ec.SECP384R1()), PrivateFormat.OpenSSH)


def new_signing_key() -> bytes:
    """The private key that signs orders (PEM, PKCS 8)."""
    return _private(Ed25519PrivateKey.generate(), PrivateFormat.PKCS8)


def _private(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey, form: PrivateFormat) -> bytes:
    return key.private_bytes(Encoding.PEM, form, NoEncryption())


def site_public(private: bytes, name: str) -> bytes:
    """One line in OpenSSH's form, for `flwr supernode register`. Raises KeyFileError: no such private key."""
    try:
        key = load_ssh_private_key(private, None)
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"the site.key of {name!r} is no ECDSA key in OpenSSH's form; put the right one back")
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + f" {name}\n".encode()


def signing_public(private: bytes) -> bytes:
    """What sites verify orders with (PEM). Raises KeyFileError: no such private key."""
    try:
        key = load_pem_private_key(private, None)
    except ValueError:
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError("coordinator.key is no Ed25519 key in PEM form; put the right one back")
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def read_key(private: bytes, file: str) -> ec.EllipticCurvePrivateKey:
    """A certificate's private key; `file` is its name in errors. Raises KeyFileError: no such private key."""
    try:
        key = load_pem_private_key(private, None)
    except ValueError:
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise KeyFileError(f"{file} is no ECDSA key in PEM form; put the right one back")
    return key
