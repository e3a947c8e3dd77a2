import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from nakt_fed.app_folder import app_sha256
from nakt_fed.cli.site import check
from nakt_fed.errors import RunError, StudyError
from nakt_fed.site import check_line as line_module
from nakt_fed.site.check import Finding, check_site
from nakt_fed.site.check_keys import check_authority
from nakt_fed.site.check_line import check_line
from nakt_fed.site.site_file import load_site
from tests.nakt_fed.site.hospital import write_key
from tests.nakt_fed.site.kit import write_keys, write_site

OTHER_KEY = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    write_site(tmp_path)
    return tmp_path


def findings(kit: Path) -> dict[str, Finding]:
    return {finding.name: finding for finding in check_site(load_site(kit / "site.toml"), offline=True)}


def test_a_good_kit(kit: Path) -> None:
    found = findings(kit)
    assert [finding for finding in found.values() if not finding.ok] == []
    assert list(found) == ["authority", "site key", "orders", "app", "teacher", "pictures", "disk", "socket", "policy"]
    assert "fits its public half" in found["site key"].text
    assert found["teacher"].text.startswith("unet, 0.03 million parameters, ")
    assert "ms per picture of 32×32" in found["teacher"].text
    assert found["pictures"].text == "4 private pictures with masks; a target in 4"


def other_size(kit: Path) -> None:
    text = (kit / "site.toml").read_text()
    (kit / "site.toml").write_text(text.replace("image_size = 32", "image_size = 64"))


def remove(name: str) -> Callable[[Path], object]:
    return lambda kit: (kit / name).unlink()


def write(name: str, data: bytes) -> Callable[[Path], object]:
    return lambda kit: (kit / name).write_bytes(data)


FAULTS = {
    "no certificate": (remove("ca.crt"), "authority", "check the path"),
    "garbage for a certificate": (write("ca.crt", b"x"), "authority", "take ca.crt from the kit"),
    "no site key": (remove("site.key"), "site key", "check the path"),
    "garbage for a site key": (write("site.key", b"x"), "site key", "take site.key from the kit"),
    "another curve": (write("site.key", OTHER_KEY), "site key", "ECDSA P-384 is expected"),
    "an open site key": (lambda kit: (kit / "site.key").chmod(0o644), "site key", "chmod 600"),
    "the public half of another": (
        write("site.pub", b"ecdsa-sha2-nistp384 AAAA ann"),
        "site key",
        "not the other half",
    ),
    "no key for orders": (remove("coordinator.pub"), "orders", "take the one from the kit"),
    "another kind of key for orders": (write("coordinator.pub", b"x"), "orders", "take the one from the kit"),
    "no teacher": (remove("teacher.safetensors"), "teacher", "check the path"),
    "a damaged teacher": (write("teacher.safetensors", b"x" * 99), "teacher", "copy it again"),
    "a mask that is missing": (lambda kit: next((kit / "private/masks").iterdir()).unlink(), "pictures", "mask"),
}


@pytest.mark.parametrize(("harm", "name", "words"), FAULTS.values(), ids=list(FAULTS))
def test_what_is_wrong_is_named_with_its_remedy(
    kit: Path, harm: Callable[[Path], object], name: str, words: str
) -> None:
    harm(kit)
    found = findings(kit)
    assert [finding.name for finding in found.values() if not finding.ok] == [name]
    assert words in found[name].text


@pytest.mark.parametrize("apps", [[], ["0" * 64]])
def test_an_app_that_is_not_approved(tmp_path: Path, apps: list[str]) -> None:
    write_site(tmp_path, policy={"apps": apps})
    found = findings(tmp_path)["app"]
    assert not found.ok
    assert ("policy.apps is empty, so none runs" in found.text) == (not apps)
    assert found.text.endswith(f'set policy.apps = ["{app_sha256()}"]')


def test_a_site_that_answers_no_more(tmp_path: Path) -> None:
    write_site(tmp_path, policy={"expires": date(2020, 1, 1)})
    last = findings(tmp_path)["policy"]
    assert (last.ok, last.text) == (
        False,
        "policy.expires was 2020-01-01, so every request is refused; set a later day",
    )


def test_a_teacher_of_another_size_is_worth_a_note(kit: Path) -> None:
    other_size(kit)
    assert "it was trained at 32 pixels" in findings(kit)["teacher"].text


def test_a_disk_that_is_too_small(tmp_path: Path) -> None:
    write_site(tmp_path, policy={"pictures_per_set": 10**12})
    assert "lower policy.pictures_per_set" in findings(tmp_path)["disk"].text


def test_a_file_where_the_sites_own_folder_should_be(tmp_path: Path) -> None:
    write_site(tmp_path, site={"folder": "ca.crt"})
    finding = findings(tmp_path)["disk"]
    assert not finding.ok
    assert finding.text.endswith("ca.crt cannot be the site's folder; name another in site.folder")


def test_a_socket_in_a_folder_of_the_systems(tmp_path: Path) -> None:
    """Whoever obeyed `chmod o-rwx /tmp` would lock everybody out."""
    write_site(tmp_path, site={"socket": "/tmp/teacher.sock"})
    finding = findings(tmp_path)["socket"]
    assert not finding.ok
    assert "give it a folder of its own: [site] socket" in finding.text
    assert "chmod o-rwx /" not in finding.text


def test_a_test_share_is_counted_and_judged_alone(tmp_path: Path) -> None:
    site = write_site(tmp_path, private={"test_share": 0.5}, policy={"personalise_student": True})
    found = list(check_site(load_site(site), offline=True))
    texts = [finding.text for finding in found if finding.name in ("pictures", "policy")]
    assert texts[0] == "4 private pictures with masks, 2 of them the test share; a target in 2"
    assert any("measured on 2 private pictures of the test share" in text for text in texts)
    assert any(text.startswith("but every fine-tuning will be refused: at least 10 pictures") for text in texts)


def test_a_socket_path_that_is_too_long(tmp_path: Path) -> None:
    write_site(tmp_path, site={"socket": "x" * 108})
    assert "at most 107" in findings(tmp_path)["socket"].text


def test_a_certificate_that_has_ended(monkeypatch: pytest.MonkeyPatch, kit: Path) -> None:
    from nakt_fed.site import check_keys

    class Later(check_keys.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Later":
            return cls(2100, 1, 1, tzinfo=tz)

    monkeypatch.setattr(check_keys, "datetime", Later)
    with pytest.raises(RunError, match="was valid until"):
        check_authority(kit / "ca.crt")


Talk = Callable[[socket.socket], object]


@contextmanager
def listener(talk: Talk, host: str = "127.0.0.1") -> Iterator[str]:
    """A server on this machine that talks to whoever connects; gives its address."""
    with socket.create_server((host, 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                sock, _ = server.accept()
                with sock, suppress(OSError):
                    sock.settimeout(5)
                    talk(sock)

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"{host}:{server.getsockname()[1]}"
        thread.join(10)


def over_tls(kit: Path) -> Talk:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(kit / "server.crt", kit / "server.key")
    return lambda sock: context.wrap_socket(sock, server_side=True).close()


def test_a_coordinator_that_answers(kit: Path) -> None:
    with listener(over_tls(kit)) as address:
        assert "answers over TLSv1.3" in check_line(address, kit / "ca.crt")


def test_a_certificate_of_another_authority(kit: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_keys(tmp_path / "other")
    with listener(over_tls(tmp_path / "other")) as address, pytest.raises(RunError, match="wrong certificate"):
        check_line(address, kit / "ca.crt")


def test_a_certificate_for_another_name(kit: Path) -> None:
    """It names the loopback of the coordinator's machine, but not this address."""
    with listener(over_tls(kit), "127.0.0.2") as address, pytest.raises(RunError, match=r"wrong certificate.*mismatch"):
        check_line(address, kit / "ca.crt")


@pytest.mark.parametrize("words", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b""])
def test_plain_text(kit: Path, words: bytes) -> None:
    talk = listener(lambda sock: (sock.recv(9999), sock.sendall(words)))
    with talk as address, pytest.raises(RunError, match=r"plain text|speaks no TLS"):
        check_line(address, kit / "ca.crt")


def test_silence(kit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_module, "SECONDS", 0.3)
    talk = listener(lambda sock: [sock.recv(9999), sock.recv(9999)])
    with talk as address, pytest.raises(RunError, match="speaks no TLS"):
        check_line(address, kit / "ca.crt")


def test_no_such_name(kit: Path) -> None:
    with pytest.raises(RunError, match="is not known here"):
        check_line("coordinator.invalid:9092", kit / "ca.crt")


def test_nobody_listens(kit: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(RunError, match="no connection"):
        check_line(f"127.0.0.1:{port}", kit / "ca.crt")


def test_the_command_says_it_line_by_line(kit: Path) -> None:
    done = CliRunner().invoke(check, [str(kit / "site.toml"), "--offline"])
    assert done.exit_code == 0
    assert "coordinator  " not in done.output
    assert "ok      policy" in done.output
    assert "can be started" in done.output
    (kit / "site.key").unlink()
    (kit / "site.pub").unlink()
    done = CliRunner().invoke(check, [str(kit / "site.toml")])
    assert isinstance(done.exception, RunError)
    assert "2 of the checks failed" in str(done.exception)
    assert "failed  coordinator" in done.output


def test_keys_of_another_kind_are_not_taken_for_the_coordinators(kit: Path) -> None:
    write_key(kit, "other")
    (kit / "coordinator.pub").write_bytes((kit / "other.key").read_bytes())
    assert not findings(kit)["orders"].ok


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            {"policy": {"apps": ["abc"]}},
            "policy.apps[0]: a SHA-256 has 64 digits of 0 to 9 and a to f; `nakt coordinator",
        ),
        ({"coordinator": {"address": "https://a.b:1"}}, 'such as "coordinator.example.org:28000", without "https://"'),
        (
            {"coordinator": {"address": "a.b:99999"}},
            "coordinator.address: an address is a name and a port from 1 to 65535",
        ),
        ({"coordinator": {"address": "a.b:0"}}, "a port from 1 to 65535"),
        ({"policy": {"expires": "31.12.2027"}}, "policy.expires: a day is written 2027-12-31"),
        ({"policy": {"expires": "2027-12-31"}}, "year, month and day, without quotes or a time"),
        (
            {"policy": {"evaluate_student": "yes"}},
            "policy.evaluate_student: Input should be true or false, without quotes",
        ),
        (
            {"policy": {"pictures_per_day": 2e4}},
            "policy.pictures_per_day: Input should be a whole number, without quotes",
        ),
        ({"policy": {"min_pictures": True}}, "policy.min_pictures: Input should be a whole number, without quotes"),
        ({"site": {"name": "a b"}}, "site.name: a name has at most 64 letters"),
    ],
)
def test_a_value_of_another_form_is_told_in_words(tmp_path: Path, table: dict[str, Any], words: str) -> None:
    with pytest.raises(StudyError) as told:
        load_site(write_site(tmp_path, **table))
    assert words in str(told.value)
    assert "pattern" not in str(told.value)
