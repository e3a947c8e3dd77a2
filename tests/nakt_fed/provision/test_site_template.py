"""The site file that a hospital starts from, and the systemd units."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from pydantic import BaseModel

from nakt_fed.app_folder import app_sha256
from nakt_fed.errors import StudyError
from nakt_fed.provision.kits import provision
from nakt_fed.site.policy import Policy
from nakt_fed.site.site_file import CoordinatorSpec, PrivateSpec, SiteFile, SiteSection, load_site


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("federation")
    (folder / "federation.toml").write_text(
        '[federation]\nname = "breast"\nimage_size = 96\n[coordinator]\nhost = "10.1.2.3"\n[[site]]\nname = "hospital-1"\n'
    )
    provision(folder / "federation.toml", folder / "kits")
    return folder / "kits"


@pytest.fixture(scope="module")
def text(kits: Path) -> str:
    return (kits / "hospital-1" / "site.toml").read_text()


def loaded(kits: Path, text: str) -> SiteFile:
    path = kits / "hospital-1" / "filled.toml"
    path.write_text(text)
    try:
        return load_site(path)
    finally:
        path.unlink()


def test_what_has_to_be_filled_in_is_said(kits: Path, text: str) -> None:
    with pytest.raises(StudyError, match=r"teacher\.checkpoint is missing; train one with `nakt train`"):
        loaded(kits, text)


def test_it_loads_once_the_checkpoint_is_filled_in(kits: Path, text: str) -> None:
    file = loaded(kits, text.replace("# checkpoint =", "checkpoint ="))
    home = (kits / "hospital-1").resolve()
    assert (file.site.name, file.site.image_size, file.coordinator.address) == ("hospital-1", 96, "10.1.2.3:28000")
    assert file.teacher.checkpoint == home / "teacher.safetensors"
    for path in (file.coordinator.root_certificates, file.coordinator.public_key, file.coordinator.site_key):
        assert path.is_file()
        assert path.parent == home
    assert file.policy == Policy(apps=(app_sha256(),))


def test_it_loads_with_every_setting_in_use(kits: Path, text: str) -> None:
    file = loaded(kits, re.sub(r"^# (?=\[private\]$|\w+ = )", "", text, flags=re.MULTILINE))
    assert file.private
    assert file.policy.expires
    assert file.teacher.binary
    assert str(file.socket) == "/run/nakt/teacher.sock"


@pytest.mark.parametrize("model", [SiteSection, CoordinatorSpec, Policy, PrivateSpec])
def test_every_setting_is_in_it_below_its_explanation(text: str, model: type[BaseModel]) -> None:
    for key in model.model_fields:
        assert re.search(rf"^(# )?{key} = ", text, re.MULTILINE), key
    for before, line in zip(text.splitlines(), text.splitlines()[1:], strict=False):
        if re.match(r"(# )?\w+ = ", line):
            assert before.startswith(("# ", "[")) or re.match(r"\w+ = ", before), line


def unit(path: Path) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, comment_prefixes=("#",), delimiters=("=",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(path.read_text().replace("\\\n", ""))
    return parser


def test_units_are_hardened(kits: Path) -> None:
    units = {path.name: unit(path)["Service"] for path in kits.rglob("*.service")}
    assert len(units) == 5
    for name, service in units.items():
        assert service["User"] not in ("root", ""), name
        for key, value in {"NoNewPrivileges": "true", "ProtectSystem": "strict", "PrivateTmp": "true"}.items():
            assert service[key] == value, name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd on this machine")
def test_systemd_understands_the_units(kits: Path, tmp_path: Path) -> None:
    """And counts each as little exposed: 0 is nothing, 10 everything."""
    for path in kits.rglob("*.service"):
        unit = tmp_path / path.name
        unit.write_text(re.sub("/opt/nakt/bin/nakt|/usr/sbin/nginx", "/bin/true", path.read_text()))
        done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
        assert (done.returncode, done.stdout + done.stderr) == (0, ""), path.name
        words = ["systemd-analyze", "security", "--offline=true", "--threshold=40", unit]
        exposed = subprocess.run(words, capture_output=True, text=True)
        assert exposed.returncode == 0, exposed.stdout


def test_flowers_programs_find_each_other(kits: Path) -> None:
    """It starts flower-superexec by its name."""
    for path in kits.rglob("*.service"):
        if "/opt/nakt/bin/" in unit(path)["Service"]["ExecStart"]:
            assert "Environment=PATH=/opt/nakt/bin:" in path.read_text(), path.name


def test_the_teacher_has_no_network_and_the_supernode_nothing_private(kits: Path) -> None:
    teacher, supernode = (
        unit(kits / "hospital-1" / f"nakt-{name}.service")["Service"] for name in ("site", "supernode")
    )
    assert teacher["PrivateNetwork"] == "true"
    assert teacher["ExecStart"].endswith("nakt site serve /srv/nakt/site.toml")
    assert teacher["User"] != supernode["User"]
    assert teacher["Group"] == supernode["Group"] == "nakt"
    assert "/srv/nakt/state" in supernode["InaccessiblePaths"]
    assert "nakt site supernode /run/nakt/teacher.sock" in supernode["ExecStart"]
    assert "--superlink 10.1.2.3:28000" in supernode["ExecStart"]
    assert int(supernode["RestartSec"]) >= 65


def test_readmes_are_a_page_and_name_the_secrets(kits: Path) -> None:
    for kit, secrets in {
        "hospital-1": ["site.key"],
        "coordinator": ["server.key", "coordinator.key"],
        "authority": ["ca.key"],
    }.items():
        readme = (kits / kit / "README.md").read_text()
        assert len(readme.splitlines()) < 80
        for secret in secrets:
            assert f"| `{secret}` | **secret**" in readme
    for command in ("nakt site check site.toml", "nakt site start site.toml"):
        assert command in (kits / "hospital-1" / "README.md").read_text()
    for command in ("nakt coordinator start .", "nakt run STUDY.toml --federation .", "nakt status"):
        assert command in (kits / "coordinator" / "README.md").read_text()
