"""A hospital for tests: its site file, its coordinator's key, its service behind the gate."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from nakt_fed.codec import encode
from nakt_fed.data.pictures import content_hash
from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.exchange import Request
from nakt_fed.manifest import Manifest
from nakt_fed.service import TeacherService
from nakt_fed.signing import Now, Sign, signer, utc_now
from nakt_fed.site.site_file import SiteFile
from nakt_fed.teacher import TeacherCard
from nakt_fed.toml_file import parse
from tests.tiny import CARD, SIZE, Answer, bright

CHUNK = 4
RUN = "breast-20300101-120000"
SECRET = "Erika-Mustermann"


def write_private(folder: Path, count: int) -> Path:
    """Annotated pictures whose folder and files are called after a patient, `SECRET`; returns the folder."""
    private = folder / SECRET
    write_folder(synthetic_set(count, SIZE, 5), private)
    for part in ("images", "masks"):
        for path in list((private / part).iterdir()):
            path.rename(path.with_name(f"{SECRET}-{path.name}"))
    return private


def write_key(folder: Path, name: str = "coordinator") -> Path:
    """<name>.key and <name>.pub; returns the private one."""
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private


def site_file(
    folder: Path, private: Path | None = None, test_share: float = 0.0, classes: Sequence[str] = (), **policy: Any
) -> SiteFile:
    """`private` holds images and masks, of several classes a folder of masks each; approval is automatic unless told
    otherwise."""
    raw: dict[str, Any] = {
        "site": {"name": "ann", "image_size": SIZE, "threads": 1, "classes": list(classes)},
        "teacher": {"network": "unet", "width": 2, "checkpoint": "teacher.safetensors"},
        "coordinator": {
            "address": "coordinator.example:9092",
            "root_certificates": "ca.crt",
            "public_key": "coordinator.pub",
            "site_key": "site.key",
        },
        "policy": {"approval": "automatic", **policy},
    }
    if private:
        masks = {label: str(private / label) for label in classes} if len(classes) > 1 else str(private / "masks")
        raw["private"] = {"images": str(private / "images"), "masks": masks, "test_share": test_share}
    return parse(SiteFile, raw, folder, "site.toml")


def service_of(file: SiteFile, teacher: Answer = bright) -> TeacherService:
    """The site's service with `teacher` in the place of a network."""
    service = TeacherService(
        file.spec(), file.site.folder, image_size=SIZE, seed=0, threads=1, min_evaluated=file.policy.min_evaluated
    )
    service.__dict__["_ready"] = None, TeacherCard(**CARD)
    service.__dict__["teacher"] = teacher
    return service


def bare(request: Request) -> Request:
    """What a signed request asks, as it is behind the gate."""
    return Request(request.kind, json.loads(request.meta["order"])["meta"], request.blob)


class Coordinator:
    """Asks about `count` pictures that are nobody's secret, with the key in a folder."""

    def __init__(
        self,
        folder: Path,
        count: int = 10,
        seed: int = 0,
        run: str = RUN,
        key: str = "coordinator",
        now: Now = utc_now,
    ) -> None:
        self.pictures = synthetic_set(count, SIZE, seed).images
        ids = tuple(f"organ/{number}" for number in range(count))
        self.manifest = Manifest(ids, tuple(map(content_hash, self.pictures)), SIZE)
        self.sign: Sign = signer(folder / f"{key}.key", run, now)

    def signed(self, request: Request, site: str = "ann") -> Request:
        return Request(request.kind, dict(self.sign(site, request)), request.blob)

    def hello(self) -> Request:
        return self.signed(Request("hello"))

    def offer(self, picture_set: str = "transferal", chunk: int = CHUNK, **changes: Any) -> Request:
        about = {"set": picture_set, "chunk": chunk, "manifest": self.manifest.sha256, "pictures": len(self.manifest)}
        return self.signed(Request("offer", {**about, **changes}, self.manifest.to_json().encode()))

    def send(self, chunk: int) -> Request:
        stack = np.asarray(self.pictures[chunk * CHUNK : (chunk + 1) * CHUNK])
        meta = {"set": "transferal", "manifest": self.manifest.sha256, "chunk": chunk}
        return self.signed(Request("pictures", meta, encode(stack)))

    def ask(self, start: int, stop: int, **changes: Any) -> Request:
        meta = {"set": "transferal", "manifest": self.manifest.sha256, "range": [start, stop], "near": 0}
        return self.signed(Request("masks", {**meta, **changes}))

    def judge(self, student: bytes, network: Any, **meta: Any) -> Request:
        return self.signed(Request("evaluate", {"network": network, **meta}, student))

    def personalise(self, student: bytes, network: Any, recipe: Any, send: bool = False) -> Request:
        about = {"student": hashlib.sha256(student).hexdigest(), "network": network, "recipe": recipe}
        return self.signed(Request("personalise", about, student if send else b""))

    def everything(self) -> list[Request]:
        """Offer, pictures, masks, chunk by chunk."""
        count = len(self.manifest)
        parts = [(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
        return [self.offer(), *(self.send(i) for i in range(len(parts))), *(self.ask(*part) for part in parts)]
