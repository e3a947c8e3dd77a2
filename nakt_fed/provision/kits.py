"""The kits of a federation: one folder per hospital, one for the coordinator, one for the authority that stays at home.

The order of writing is such that a run which is killed anywhere can be repeated: a key first, what is derived from it after.
"""

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from nakt_fed.app_folder import app_sha256
from nakt_fed.provision import certificates, keys
from nakt_fed.provision.edits import add_site
from nakt_fed.provision.federation_file import FederationFile, is_site_name, load_federation
from nakt_fed.provision.fill import AUTHORITY, COORDINATOR, SITE, fill
from nakt_fed.provision.made import PUBLIC, Made, ProvisionError, alone
from nakt_fed.provision.revoke import refuse_revoked, revoke_site


@dataclass(frozen=True)
class Outcome:
    """What a run did: files by their path in the kits folder, sites by name."""

    new: list[str]
    renewed: list[str]
    kept: list[str]
    given_away: list[str]
    """Kits that were made before and whose private key is not here any more."""
    certificate_ends: datetime | None
    names_host: bool
    """Whether the server certificate is for the federation file's host."""


def provision(
    path: Path,
    root: Path,
    *,
    add: tuple[str, ...] = (),
    revoke: tuple[str, ...] = (),
    days: int = 825,
    renew: bool = False,
) -> Outcome:
    """Make what is missing below `root` for the federation file at `path`; carried out again, it changes nothing.

    Args:
        add: sites to append to the federation file first.
        revoke: sites to take out of it; the coordinator's copies of their public keys go to coordinator/revoked.
        days: how long a new server certificate is valid.
        renew: make a new server certificate for the same key, signed by the same authority.

    Raises:
        StudyError: the federation file cannot be used.
        ProvisionError: what is needed has been taken out of the kits folder.
        KeyFileError: a key in it was damaged.
        RunError: the app's SHA-256, which goes into the site files, cannot be found.
    """
    load_federation(path)
    path, root = path.expanduser().resolve(), root.expanduser().resolve()
    with alone(root):
        made = Made(root)
        for name in revoke:
            revoke_site(made, path, name)
        for name in add:
            if is_site_name(name):
                refuse_revoked(made, name)  # before the file names it
            add_site(path, name)
        federation = load_federation(path)
        _authority(made, federation)
        _coordinator(made, federation, path, days, renew)
        for name in federation.site_names:
            _site(made, federation, name)
        return _outcome(made, federation)


def _authority(made: Made, federation: FederationFile) -> None:
    key = made.once("authority/ca.key", keys.new_key)
    made.once(
        "authority/ca.crt",
        lambda: certificates.authority_certificate(_needed(key, "authority/ca.key"), federation.federation.name),
        PUBLIC,
    )
    fill(made, "authority", AUTHORITY, federation=federation)


def _coordinator(made: Made, federation: FederationFile, path: Path, days: int, renew: bool) -> None:
    """The copy of coordinator.pub in authority/ is for the kits of sites that join after the coordinator's kit has gone."""
    signing = made.once("coordinator/coordinator.key", keys.new_signing_key)
    public = made.once(
        "authority/coordinator.pub",
        lambda: keys.signing_public(_needed(signing, "coordinator/coordinator.key")),
        PUBLIC,
    )
    server = made.once("coordinator/server.key", keys.new_key)
    _server_certificate(made, federation.coordinator.host, server, days, renew)
    if made.is_away("coordinator/coordinator.key"):
        return
    made.file("coordinator/ca.crt", _authority_certificate(made))
    made.file("coordinator/coordinator.pub", _needed(public, "authority/coordinator.pub"))
    made.file("coordinator/federation.toml", path.read_bytes())
    fill(made, "coordinator", COORDINATOR, federation=federation, role="coordinator", name="coordinator")


def _server_certificate(made: Made, host: str, server: bytes | None, days: int, renew: bool) -> None:
    name = "coordinator/server.crt"

    def make() -> bytes:
        if server is not None:
            public = keys.read_key(server, "server.key").public_key()
        else:  # the certificate holds the public half, which is all that signing needs
            public = certificates.public_key_of(_needed(made.read(name), name), "server.crt")
        authority_key = _needed(made.read("authority/ca.key"), "authority/ca.key")
        return certificates.server_certificate(_authority_certificate(made), authority_key, public, host, days)

    if renew and name in made.hashes:
        made.replace(name, make())
    else:
        made.once(name, make, PUBLIC)


def _site(made: Made, federation: FederationFile, name: str) -> None:
    """The kit, and last the public key at the coordinator: only with that is the site provisioned."""
    key, at_coordinator = f"{name}/site.key", f"coordinator/sites/{name}.pub"
    if made.is_away(key) and at_coordinator not in made.hashes:
        made.forget(name)
    refuse_revoked(made, name)
    private = made.once(key, keys.new_site_key)
    if private is None:
        return
    public = keys.site_public(private, name)
    made.file(f"{name}/site.pub", public)
    made.file(f"{name}/ca.crt", _authority_certificate(made))
    made.file(f"{name}/coordinator.pub", _needed(made.read("authority/coordinator.pub"), "authority/coordinator.pub"))
    fill(made, name, SITE, federation=federation, role="site", name=name, app=app_sha256())
    made.once(at_coordinator, lambda: public, PUBLIC)


def _authority_certificate(made: Made) -> bytes:
    return _needed(made.read("authority/ca.crt"), "authority/ca.crt")


def _outcome(made: Made, federation: FederationFile) -> Outcome:
    kits = {"coordinator": "coordinator/coordinator.key"} | {name: f"{name}/site.key" for name in federation.site_names}
    pem = made.read("coordinator/server.crt")
    certificate = certificates.read_certificate(pem, "server.crt") if pem else None
    return Outcome(
        new=made.new,
        renewed=made.renewed,
        kept=made.kept,
        given_away=[kit for kit, key in kits.items() if made.is_away(key)],
        certificate_ends=certificate.not_valid_after_utc if certificate else None,
        names_host=certificate is None or federation.coordinator.host in certificates.hosts_of(certificate),
    )


def _needed(content: bytes | None, name: str) -> bytes:
    if content is None:
        raise ProvisionError(f"{name} is not in the kits folder any more; put it back for this step")
    return content
