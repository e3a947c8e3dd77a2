"""A site that takes part no more: its key is kept as revoked, and never taken back."""

from pathlib import Path

from nakt_fed.provision.edits import remove_site
from nakt_fed.provision.federation_file import FederationFile, is_site_name, load_federation
from nakt_fed.provision.keys import site_public
from nakt_fed.provision.made import Made, ProvisionError


def revoke_site(made: Made, path: Path, name: str) -> None:
    """Take a site's key from the coordinator's, then its entry from the federation file at `path`.

    In that order: were the run killed in between, the key would be gone already.

    Raises:
        ProvisionError: nobody was ever called so.
    """
    federation = load_federation(path)
    current, folder = f"coordinator/sites/{name}.pub", made.root / "coordinator" / "revoked"
    if not _was_ever(made, name, federation, folder):
        names = ", ".join(federation.site_names) or "none"
        raise ProvisionError(f"no site is called {name!r}, so there is nothing to revoke; sites: {names}")
    public = made.read(current) or made.read(f"{name}/site.pub")
    if public is not None:
        made.file(_free_name(folder, name, public), public)
        (made.root / current).unlink(missing_ok=True)
    made.forget(current)
    made.forget(name)
    remove_site(path, name)


def _was_ever(made: Made, name: str, federation: FederationFile, revoked: Path) -> bool:
    if name in federation.site_names or f"coordinator/sites/{name}.pub" in made.hashes:
        return True
    return is_site_name(name) and (revoked / f"{name}.pub").exists()


def _free_name(folder: Path, name: str, public: bytes) -> str:
    """A site may have been revoked before, with another key."""
    for number in range(1, 1000):
        file = folder / (f"{name}.pub" if number == 1 else f"{name}-{number}.pub")
        if not file.exists() or file.read_bytes() == public:
            return f"coordinator/revoked/{file.name}"
    raise ProvisionError(f"{folder} holds a thousand keys of {name!r}; tidy it up")


def refuse_revoked(made: Made, name: str) -> None:
    """Raises ProvisionError: the kit still holds a key that was revoked."""
    private = made.read(f"{name}/site.key")
    public = site_public(private, name).split()[1] if private else None
    for file in (made.root / "coordinator" / "revoked").glob("*.pub"):
        if public in file.read_bytes().split():
            raise ProvisionError(
                f"{made.root / name} holds a key that was revoked; delete that folder, then the site gets a new key"
            )
