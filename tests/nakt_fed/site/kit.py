"""A hospital's kit on disk, small: certificate, keys, checkpoint, private pictures and site.toml."""

from pathlib import Path
from typing import Any

import tomli_w
import torch

from nakt_fed.app_folder import app_sha256
from nakt_fed.checkpoint import save_checkpoint
from nakt_fed.data.synthetic import synthetic_set, write_folder
from nakt_fed.networks import build_network
from nakt_fed.provision import keys
from nakt_fed.provision.certificates import authority_certificate, server_certificate
from nakt_fed.recipe import NetworkSpec
from tests.nakt_fed.site.hospital import write_key
from tests.tiny import SIZE

NETWORK = {"network": "unet", "width": 2}


def write_site(folder: Path, **tables: dict[str, Any]) -> Path:
    """Returns site.toml; each keyword replaces keys of a table. `server.crt` and `server.key` are a coordinator's."""
    folder.mkdir(parents=True, exist_ok=True)
    write_keys(folder)
    torch.manual_seed(0)
    spec = NetworkSpec(**NETWORK)
    save_checkpoint(folder / "teacher.safetensors", build_network(spec), spec, n_images=4, image_size=SIZE)
    write_folder(synthetic_set(4, SIZE, seed=1), folder / "private")
    raw: dict[str, Any] = {
        "site": {"name": "ann", "image_size": SIZE, "threads": 1},
        "teacher": {**NETWORK, "checkpoint": "teacher.safetensors"},
        "private": {"images": "private/images", "masks": "private/masks"},
        "coordinator": {
            "address": "127.0.0.1:9",
            "root_certificates": "ca.crt",
            "public_key": "coordinator.pub",
            "site_key": "site.key",
        },
        "policy": {"approval": "automatic", "pictures_per_set": 100, "apps": [app_sha256()]},
    }
    for name, table in tables.items():
        raw[name] = {**raw[name], **table}
    (folder / "site.toml").write_text(tomli_w.dumps(raw))
    return folder / "site.toml"


def write_keys(folder: Path) -> None:
    write_key(folder)
    authority, server, site = keys.new_key(), keys.new_key(), keys.new_site_key()
    ca = authority_certificate(authority, "test")
    public = keys.read_key(server, "server.key").public_key()
    content = {
        "ca.crt": ca,
        "server.crt": server_certificate(ca, authority, public, "localhost", 30),
        "server.key": server,
        "site.key": site,
        "site.pub": keys.site_public(site, "ann"),
    }
    for name, data in content.items():
        (folder / name).write_bytes(data)
    (folder / "site.key").chmod(0o600)
