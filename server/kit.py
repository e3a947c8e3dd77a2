"""The coordinator's kit, as `nakt provision` makes it: who the sites are, which keys, where the SuperLink listens."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_public_key

from nakt_fed.errors import RunError
from nakt_fed.provision.federation_file import load_federation

FILES = ("ca.crt", "server.crt", "server.key", "coordinator.key", "federation.toml")


@dataclass(frozen=True)
class Kit:
    """Paths in the kit's folder; `state` is what the coordinator writes itself."""

    folder: Path

    @property
    def root_certificates(self) -> Path:
        return self.folder / "ca.crt"

    @property
    def signing_key(self) -> Path:
        """Signs what is asked of the sites."""
        return self.folder / "coordinator.key"

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def listen(self, direct: bool) -> str:
        """host:port of the SuperLink: behind a proxy on this machine, or open to everyone on the address that sites dial."""
        place = load_federation(self.folder / "federation.toml").coordinator
        return f"0.0.0.0:{place.port}" if direct else f"127.0.0.1:{place.inner}"

    def key_files(self) -> dict[str, Path]:
        """The public key that each site shows, by name."""
        return {path.stem: path for path in sorted((self.folder / "sites").glob("*.pub"))}

    def public_keys(self) -> dict[bytes, str]:
        """Which site a registered key (PEM, as Flower gives it) belongs to. Raises RunError: a file holds no key."""
        return {_pem(path): name for name, path in self.key_files().items()}

    def address(self) -> str:
        """Where the running SuperLink takes orders from this machine. Raises RunError: none was started."""
        try:
            return (self.state / "address").read_text().strip()
        except FileNotFoundError:
            raise RunError(
                f"no coordinator runs from {self.folder}; start it with: nakt coordinator start {shlex.quote(str(self.folder))}"
            ) from None


def load_kit(folder: Path) -> Kit:
    """Raises RunError: the folder is no coordinator's kit; the missing file is named."""
    folder = Path(folder).expanduser().resolve()
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise RunError(f"{folder} is no coordinator's kit: {missing[0]} is not there; make one with nakt provision")
    return Kit(folder)


def _pem(path: Path) -> bytes:
    try:
        key = load_ssh_public_key(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} holds no public key ({error}); provision the site again") from None
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
