import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from nakt_fed.errors import RunError
from nakt_fed.exchange import Request
from nakt_fed.provision import kits, made, revoke
from nakt_fed.provision.certificates import AUTHORITY_DAYS, hosts_of, read_certificate
from nakt_fed.provision.edits import remove_site
from nakt_fed.provision.federation_file import load_federation
from nakt_fed.provision.keys import KeyFileError
from nakt_fed.provision.kits import Outcome, provision
from nakt_fed.provision.made import ProvisionError
from nakt_fed.signing import signer, verified

SECRETS = {
    "authority/ca.key",
    "coordinator/server.key",
    "coordinator/coordinator.key",
    "hospital-1/site.key",
    "hospital-2/site.key",
}
SITE = {
    *("README.md", "site.toml", "site.key", "site.pub", "ca.crt", "coordinator.pub", "Containerfile"),
    *("nakt-site.service", "nakt-supernode.service", "nakt-site-simple.service"),
}
COORDINATOR = {
    *("README.md", "ca.crt", "server.crt", "server.key", "coordinator.key", "coordinator.pub", "federation.toml"),
    *("nginx.conf", "nakt-coordinator.service", "nakt-proxy.service", "Containerfile"),
    *("sites/hospital-1.pub", "sites/hospital-2.pub"),
}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test pulls the plug, so none waits for the disk."""
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def federation(tmp_path: Path) -> Path:
    path = tmp_path / "federation.toml"
    head = '# ours\n[federation]\nname = "breast"\nimage_size = 96\n[coordinator]\nhost = "coordinator.example.org"\n'
    path.write_text(head + '[[site]]\nname = "hospital-1"\n[[site]]\nname = "hospital-2"  # far away\n')
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "kits"


@pytest.fixture
def make(federation: Path, root: Path) -> Callable[..., Outcome]:
    return lambda **options: provision(federation, root, **options)


Make = Callable[..., Outcome]


def files(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def public_key(root: Path, name: str) -> bytes:
    return (root / "coordinator" / "sites" / f"{name}.pub").read_bytes()


def test_the_kits_are_complete(make: Make, root: Path) -> None:
    make()
    expected = {f"coordinator/{name}" for name in COORDINATOR}
    expected |= {f"{site}/{name}" for site in ("hospital-1", "hospital-2") for name in SITE}
    expected |= {f"authority/{name}" for name in ("README.md", "ca.key", "ca.crt", "coordinator.pub", "made.json")}
    assert set(files(root)) == expected


def test_private_keys_are_in_their_own_kit_for_its_owner_alone(make: Make, root: Path) -> None:
    make()
    assert {name for name, content in files(root).items() if b"PRIVATE KEY" in content} == SECRETS
    assert {(root / name).stat().st_mode & 0o777 for name in SECRETS} == {0o600}
    assert {folder.stat().st_mode & 0o777 for folder in [root, *root.iterdir()]} == {0o700}


def test_a_private_key_is_closed_from_its_first_byte(make: Make, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is made by os.open alone, exclusively, and a key's with mode 0600; nothing is opened to be closed later."""
    opened: dict[str, tuple[int, int]] = {}
    real = os.open

    def spy(path: Path, flags: int, mode: int = 0o777) -> int:
        opened[Path(path).name] = (flags, mode)
        return real(path, flags, mode)

    monkeypatch.setattr(made.os, "open", spy)
    make()
    for name in SECRETS:
        flags, mode = opened[f".{Path(name).name}.part"]
        assert flags & os.O_EXCL
        assert mode == 0o600


def test_the_same_command_again_changes_no_byte(make: Make, root: Path) -> None:
    make()
    before = files(root)
    outcome = make()
    assert files(root) == before
    assert (outcome.new, outcome.renewed, outcome.kept) == ([], [], [])


def test_files_that_the_user_changed_are_kept(make: Make, root: Path) -> None:
    make()
    for name in ("hospital-1/site.toml", "coordinator/nginx.conf", "hospital-2/site.pub"):
        (root / name).write_text("mine")
    before = files(root)
    assert sorted(make().kept) == ["coordinator/nginx.conf", "hospital-1/site.toml", "hospital-2/site.pub"]
    assert files(root) == before


def test_files_follow_the_federation_file_where_nobody_changed_them(make: Make, root: Path, federation: Path) -> None:
    make()
    (root / "hospital-1" / "site.toml").write_text("mine")
    federation.write_text(federation.read_text().replace("[[site]]", "port = 443\n[[site]]", 1))
    outcome = make()
    assert "coordinator.example.org:443" in (root / "hospital-2" / "site.toml").read_text()
    assert "listen 443 ssl" in (root / "coordinator" / "nginx.conf").read_text()
    assert (root / "coordinator" / "federation.toml").read_text() == federation.read_text()
    assert (outcome.new, outcome.kept) == ([], ["hospital-1/site.toml"])


def test_flower_reads_a_sites_keys(make: Make, root: Path) -> None:
    """With the same calls as flwr 1.41's `flower-supernode` and `flwr supernode register`."""
    make()
    private = load_ssh_private_key((root / "hospital-1" / "site.key").read_bytes(), None)
    public = load_ssh_public_key(public_key(root, "hospital-1"))
    assert isinstance(private, ec.EllipticCurvePrivateKey)
    assert isinstance(private.curve, ec.SECP384R1)
    assert private.public_key() == public
    assert public_key(root, "hospital-1") == (root / "hospital-1" / "site.pub").read_bytes()
    assert public_key(root, "hospital-1") != public_key(root, "hospital-2")


def test_sites_believe_the_coordinators_orders(make: Make, root: Path) -> None:
    make()
    sign = signer(root / "coordinator" / "coordinator.key", "run-1")
    order = verified(dict(sign("hospital-2", Request("hello"))), root / "hospital-2" / "coordinator.pub")
    assert order
    assert (order["kind"], order["site"], order["run"]) == ("hello", "hospital-2", "run-1")


def test_an_added_site_makes_its_kit_and_nothing_else(make: Make, root: Path, federation: Path) -> None:
    make()
    before = files(root)
    outcome = make(add=("hospital-3",))
    assert set(outcome.new) == {f"hospital-3/{name}" for name in SITE} | {"coordinator/sites/hospital-3.pub"}
    assert outcome.renewed == ["coordinator/federation.toml"]
    after = files(root)
    assert {name for name in before if after[name] != before[name]} == {
        *("coordinator/federation.toml", "authority/made.json"),
    }
    assert federation.read_text().startswith("# ours\n")
    assert load_federation(federation).site_names[2:] == ["hospital-3"]


def test_a_site_joins_after_all_kits_were_given_away(make: Make, root: Path) -> None:
    """Only the authority is left. No key is made a second time, and the new kit fits the old ones."""
    make()
    old = files(root)
    for kit in ("coordinator", "hospital-1", "hospital-2"):
        for path in sorted((root / kit).rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        (root / kit).rmdir()
    outcome = make(add=("hospital-3",))
    assert outcome.given_away == ["coordinator", "hospital-1", "hospital-2"]
    now = files(root)
    assert {name for name in now if not name.startswith(("authority/", "hospital-3/"))} == {
        "coordinator/sites/hospital-3.pub"
    }
    assert now["hospital-3/ca.crt"] == old["hospital-1/ca.crt"]
    assert now["hospital-3/coordinator.pub"] == old["coordinator/coordinator.pub"]
    assert make().new == []


def test_a_revoked_site_is_out(make: Make, root: Path, federation: Path) -> None:
    make()
    key = public_key(root, "hospital-2")
    make(revoke=("hospital-2",))
    assert not (root / "coordinator" / "sites" / "hospital-2.pub").exists()
    assert (root / "coordinator" / "revoked" / "hospital-2.pub").read_bytes() == key
    assert load_federation(federation).site_names == ["hospital-1"]
    assert (root / "coordinator" / "federation.toml").read_text() == federation.read_text()
    make(revoke=("hospital-2",))
    assert (make().new, make().kept) == ([], [])


def test_a_revoked_key_never_comes_back(make: Make, root: Path, federation: Path) -> None:
    """And the refusal leaves no half of a step behind, on which every other one would stop."""
    make()
    key = public_key(root, "hospital-2")
    make(revoke=("hospital-2",))
    before = federation.read_bytes()
    with pytest.raises(ProvisionError, match="holds a key that was revoked; delete that folder"):
        make(add=("hospital-2",))
    assert federation.read_bytes() == before
    make(renew=True)
    for path in (root / "hospital-2").iterdir():
        path.unlink()
    (root / "hospital-2").rmdir()
    assert "hospital-2/site.key" in make(add=("hospital-2",)).new
    assert public_key(root, "hospital-2") != key
    make(revoke=("hospital-2",))
    assert len(list((root / "coordinator" / "revoked").iterdir())) == 2


@pytest.mark.parametrize("name", ["hospital-9", "coordinator", "../coordinator/server", "", "hospital"])
def test_nobody_can_be_revoked_who_was_never_in(make: Make, root: Path, name: str) -> None:
    make()
    before = files(root)
    with pytest.raises(ProvisionError, match="nothing to revoke; sites: hospital-1, hospital-2"):
        make(revoke=(name,))
    assert files(root) == before


def test_a_renewed_certificate_is_of_the_same_authority_and_key(make: Make, root: Path, federation: Path) -> None:
    make(days=30)
    before = files(root)
    federation.write_text(federation.read_text().replace("coordinator.example.org", "new.example.org"))
    assert not make().names_host
    outcome = make(renew=True, days=90)
    assert outcome.names_host
    old, new = (
        read_certificate(pem, "") for pem in (before["coordinator/server.crt"], files(root)["coordinator/server.crt"])
    )
    assert (new.not_valid_after_utc - old.not_valid_after_utc).days in (59, 60)
    assert old.public_key() == new.public_key()
    assert hosts_of(new) == ["new.example.org", "localhost", "127.0.0.1"]
    new.verify_directly_issued_by(read_certificate(before["hospital-1/ca.crt"], ""))
    assert {name: files(root)[name] for name in SECRETS} == {name: before[name] for name in SECRETS}


def test_renewing_needs_no_secret_of_the_coordinators(make: Make, root: Path) -> None:
    make()
    before = read_certificate((root / "coordinator" / "server.crt").read_bytes(), "")
    for name in ("server.key", "coordinator.key"):
        (root / "coordinator" / name).unlink()
    make(renew=True)
    after = read_certificate((root / "coordinator" / "server.crt").read_bytes(), "")
    assert after.public_key() == before.public_key()
    assert after.serial_number != before.serial_number


def test_a_server_certificate_ends_with_its_authority(make: Make, root: Path) -> None:
    outcome = make(days=AUTHORITY_DAYS + 400)
    authority = read_certificate((root / "authority" / "ca.crt").read_bytes(), "")
    assert outcome.certificate_ends == authority.not_valid_after_utc


def test_the_authoritys_key_may_be_locked_away(make: Make, root: Path) -> None:
    make()
    (root / "authority" / "ca.key").unlink()
    before = files(root)
    make()
    assert files(root) == before
    assert "hospital-3/site.key" in make(add=("hospital-3",)).new
    with pytest.raises(ProvisionError, match=r"authority/ca\.key is not in the kits folder any more; put it back"):
        make(renew=True)


def test_no_second_authority_is_made(make: Make, root: Path) -> None:
    make()
    (root / "authority").rename(root.parent / "safe")
    with pytest.raises(ProvisionError, match="put the folder authority back"):
        make()
    (root.parent / "safe").rename(root / "authority")
    (root / "authority" / "made.json").write_text("[")
    with pytest.raises(ProvisionError, match=r"made\.json is damaged"):
        make()


@pytest.mark.parametrize("name", ["hospital-1/site.key", "coordinator/server.key"])
def test_a_damaged_key_is_named(make: Make, root: Path, name: str) -> None:
    make()
    (root / name).write_bytes(b"damaged")
    with pytest.raises(KeyFileError, match="put the right one back"):
        make(renew=True)
    assert (root / name).read_bytes() == b"damaged"


@pytest.mark.parametrize("stop", [1, 2, 3, 4, 6, 9, 16, 27, 32, 33, 34, 35, 36, 53, 54, 55])
def test_a_run_that_was_stopped_anywhere_can_be_repeated(
    make: Make, root: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    """Killed just before or after one of its writes: the same command completes the kits, keeping each key that was whole."""
    real, writes = Path.replace, 0

    def counted(self: Path, target: Path) -> Path:
        nonlocal writes
        writes += 1
        if writes == stop and stop % 2:
            raise KeyboardInterrupt
        done = real(self, target)
        if writes == stop:
            raise KeyboardInterrupt
        return done

    monkeypatch.setattr(Path, "replace", counted)
    with pytest.raises(KeyboardInterrupt):
        make()
    monkeypatch.setattr(Path, "replace", real)
    found = {name: text for name, text in files(root).items() if name in SECRETS}
    assert make().kept == []
    now = files(root)
    assert {name: now[name] for name in found} == found
    assert not [name for name in now if name.endswith(".part")]
    assert make().new == []
    assert load_ssh_private_key(now["hospital-1/site.key"], None).public_key() == load_ssh_public_key(
        now["coordinator/sites/hospital-1.pub"]
    )


def test_a_run_that_was_stopped_while_revoking_can_be_repeated(
    make: Make, root: Path, federation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()

    def stopped(path: Path, name: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(revoke, "remove_site", stopped)
    with pytest.raises(KeyboardInterrupt):
        make(revoke=("hospital-2",))
    monkeypatch.setattr(revoke, "remove_site", remove_site)
    assert not (root / "coordinator" / "sites" / "hospital-2.pub").exists()
    make(revoke=("hospital-2",))
    assert load_federation(federation).site_names == ["hospital-1"]


def test_two_at_once_are_refused(make: Make, root: Path) -> None:
    with made.alone(root), pytest.raises(ProvisionError, match="worked on by another process"):
        make()


def test_the_coordinator_takes_the_kit(make: Make, root: Path) -> None:
    from server.kit import load_kit

    make()
    kit = load_kit(root / "coordinator")
    assert sorted(kit.public_keys().values()) == ["hospital-1", "hospital-2"]
    with pytest.raises(RunError, match="is no coordinator's kit"):
        load_kit(root / "hospital-1")


def test_the_record_tells_nothing_of_a_key(make: Make, root: Path) -> None:
    make()
    record = json.loads((root / "authority" / "made.json").read_text())
    assert {name for name, content in record.items() if content == "secret"} == SECRETS


def test_every_template_is_used() -> None:
    used = {*kits.AUTHORITY.values(), *kits.COORDINATOR.values(), *kits.SITE.values(), "hardening.j2"}
    assert used == {path.name for path in (Path(kits.__file__).parent / "templates").iterdir()}


def test_no_torch_is_loaded(federation: Path) -> None:
    code = f"import sys; from pathlib import Path; from nakt_fed.provision.kits import provision; \
provision(Path({str(federation)!r}), Path({str(federation.parent / 'k')!r})); print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
