"""`nakt provision` as it is typed."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from nakt_fed.cli.provision import provision
from nakt_fed.errors import StudyError


@pytest.fixture
def federation(tmp_path: Path) -> Path:
    path = tmp_path / "federation.toml"
    path.write_text('[federation]\nname = "breast"\n[coordinator]\nhost = "127.0.0.1"\n[[site]]\nname = "hospital-1"\n')
    return path


def typed(*words: str | Path) -> Result:
    return CliRunner().invoke(provision, [str(word) for word in words], catch_exceptions=False)


def test_kits_lie_beside_the_federation_file(federation: Path) -> None:
    output = typed(federation).output
    assert "made: authority (4 files)" in output
    assert "made: hospital-1 (10 files)" in output
    assert "server certificate: valid until 20" in output
    assert (federation.parent / "kits" / "hospital-1" / "site.key").exists()


def test_the_same_again_says_so(federation: Path) -> None:
    typed(federation)
    assert "nothing to do: all kits are complete" in typed(federation).output


def test_kept_and_given_away_are_said(federation: Path, tmp_path: Path) -> None:
    typed(federation, "--out", tmp_path / "k", "--add", "hospital-2")
    (tmp_path / "k" / "hospital-1" / "site.toml").write_text("mine")
    (tmp_path / "k" / "hospital-2" / "site.key").unlink()
    output = typed(federation, "--out", tmp_path / "k").output
    assert "kept as you changed it: hospital-1/site.toml" in output
    assert "given away before: hospital-2" in output


def test_a_revoked_site_is_said(federation: Path) -> None:
    typed(federation)
    output = typed(federation, "--revoke", "hospital-1").output
    assert "revoked: hospital-1" in output
    assert "remove sites/hospital-1.pub from its kit" in output
    assert "made:" not in output


def test_an_old_certificate_asks_to_be_renewed(federation: Path) -> None:
    assert "make a new one with --renew" in typed(federation, "--days", "20").output
    output = typed(federation, "--renew").output
    assert "brought up to date: coordinator/server.crt" in output
    assert "make a new one" not in output
    assert "next: copy coordinator/server.crt to the coordinator, and start it and its proxy again" in output


def test_adding_and_revoking_the_same_are_two_steps(federation: Path) -> None:
    result = typed(federation, "--add", "x", "--revoke", "x")
    assert result.exit_code == 2
    assert "revoke a site first" in result.output


def test_a_bad_file_makes_nothing(federation: Path) -> None:
    federation.write_text("[federation]\n")
    with pytest.raises(StudyError):
        typed(federation)
    assert not (federation.parent / "kits").exists()
