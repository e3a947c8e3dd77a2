"""Signatures. Orders: what a coordinator asks of a site, signed with its key (Ed25519), so that no relay can ask for more.
Answers: signed with the site's registered key (ECDSA), so that nobody else can answer for it, and no answer is used twice."""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
    load_ssh_private_key,
)

from nakt_fed.errors import RunError
from nakt_fed.exchange import Request

Sign = Callable[[str, Request], dict[str, str]]
"""A site's name and a request become the meta that is sent in its place: `order` (JSON text) and `signature` (base64).

The order is the whole request: kind, site, run, issued (UTC), meta, and the blob's SHA-256.
"""
Now = Callable[[], datetime]
SITE_KEY = "NAKT_SITE_KEY"
"""Environment variable: where the SuperNode that started the app has its private key."""
_ECDSA = ec.ECDSA(hashes.SHA256())


def utc_now() -> datetime:
    return datetime.now(UTC)


def signer(key_file: Path, run: str, now: Now = utc_now) -> Sign:
    """Sign orders of one run with the coordinator's private key. Raises RunError: no such key."""
    key = _load(key_file, load_pem_private_key, Ed25519PrivateKey, password=None)

    def sign(site: str, request: Request) -> dict[str, str]:
        about = {"kind": request.kind, "site": site, "run": run, "issued": now().isoformat(timespec="seconds")}
        order = {**about, "meta": request.meta, "blob": hashlib.sha256(request.blob).hexdigest()}
        text = json.dumps(order, sort_keys=True, allow_nan=False)
        return {"order": text, "signature": base64.b64encode(key.sign(text.encode())).decode()}

    return sign


def verified(meta: dict[str, Any], key_file: Path) -> dict[str, Any] | None:
    """The order in a request's meta; None when there is none or the coordinator did not sign it. Raises RunError: no such key."""
    key = _load(key_file, load_pem_public_key, Ed25519PublicKey)
    try:
        text, signature = str(meta["order"]), base64.b64decode(str(meta["signature"]), validate=True)
        key.verify(signature, text.encode())
        order = json.loads(text)
    except (KeyError, ValueError, InvalidSignature):
        return None
    return order if isinstance(order, dict) else None


@dataclass(frozen=True)
class Answer:
    """A site's replies to the message with this id: their texts, and their blobs one behind the other.

    The id is a hash of the message, and with it of the signed order in it.
    """

    message: str
    texts: list[str]
    sizes: list[int]
    blob: bytes

    def stated(self) -> bytes:
        """What is signed."""
        about = {"nakt-fed answer": self.message, "texts": self.texts, "sizes": self.sizes}
        return json.dumps({**about, "blob": hashlib.sha256(self.blob).hexdigest()}, sort_keys=True).encode()


def sign_answer(key_file: Path, answer: Answer) -> str:
    """The site's signature (base64). Raises RunError: no such key."""
    key = _load(key_file, load_ssh_private_key, ec.EllipticCurvePrivateKey, password=None)
    return base64.b64encode(key.sign(answer.stated(), _ECDSA)).decode()


def is_answer_of(public_key: bytes, signature: str, answer: Answer) -> bool:
    """Whether the holder of the site's key (`public_key`, PEM) has given these replies to this very message."""
    key = load_pem_public_key(public_key)
    assert isinstance(key, ec.EllipticCurvePublicKey)
    try:
        key.verify(base64.b64decode(signature, validate=True), answer.stated(), _ECDSA)
    except (ValueError, InvalidSignature):
        return False
    return True


def _load(path: Path, read: Callable[..., Any], kind: type, **options: Any) -> Any:
    try:
        key = read(path.read_bytes(), **options)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} holds no key ({type(error).__name__}); take the one from the kit") from None
    if not isinstance(key, kind):
        raise RunError(f"{path} holds a key of another kind; an Ed25519 key in PEM form is expected, as in the kit")
    return key
