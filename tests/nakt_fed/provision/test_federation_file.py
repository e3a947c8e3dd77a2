import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nakt_fed.errors import StudyError
from nakt_fed.provision.edits import add_site, remove_site
from nakt_fed.provision.federation_file import RESERVED, FederationFile, load_federation

TEXT = """\
# Our federation.
[federation]
name = "breast"
image_size = 96

[coordinator]
host = "Coordinator.example.org"  # dialled by all

[[site]]
name = "hospital-1"  # the first

# The second one.
[[site]]
name = 'hospital-2'

# The third one.
[[ site ]]
name = "hospital-3"
"""

names = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z").filter(lambda name: name.casefold() not in RESERVED)
twins_apart = st.lists(names, max_size=6, unique_by=str.casefold)


def written(folder: Path, text: str = TEXT) -> Path:
    path = folder / "federation.toml"
    path.write_bytes(text.encode())
    return path


def changed(folder: Path, old: str, new: str) -> Path:
    assert old in TEXT
    return written(folder, TEXT.replace(old, new, 1))


def federation(sites: list[str]) -> str:
    head = '[federation]\nname = "f"\n[coordinator]\nhost = "h"\n'
    return head + "".join(f'[[site]]\nname = "{name}"\n' for name in sites)


def test_a_federation_file_is_read(tmp_path: Path) -> None:
    file = load_federation(written(tmp_path))
    assert file.site_names == ["hospital-1", "hospital-2", "hospital-3"]
    assert file.coordinator.address == "coordinator.example.org:28000"
    assert (file.coordinator.inner, file.federation.image_size) == (28001, 96)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("hospital-2", "hospital-1", "two sites are called 'hospital-1'"),
        ("hospital-2", "HOSPITAL-1", "two sites are called 'HOSPITAL-1'"),
        ("hospital-2", "Student", "the results use that name; rename the site"),
        ("hospital-2", "authority", "kits use that name; rename the site"),
        ("hospital-2", "../hospital", "site[1].name"),
        ("hospital-2", "klinik süd", "site[1].name"),
        ("hospital-2", "", "site[1].name"),
        ("Coordinator.example.org", "https://example.org", "must be a DNS name or an IPv4 address"),
        ("Coordinator.example.org", "example.org:28000", "must be a DNS name or an IPv4 address"),
        ("Coordinator.example.org", "10.0.0.256", "must be a DNS name or an IPv4 address"),
        ("Coordinator.example.org", "bad..name", "must be a DNS name or an IPv4 address"),
        ("Coordinator.example.org", "*.example.org", "must be a DNS name or an IPv4 address"),
        ("Coordinator.example.org", "0.0.0.0", "no site could dial that"),
        ("Coordinator.example.org", "::1", "an IPv6 address is not understood here"),
        ("[coordinator]", "[coordinator]\nport = 65535", "give inner_port another"),
        ("[coordinator]", "[coordinator]\ninner_port = 28000", "give inner_port another"),
        ("[coordinator]", "[coordinator]\nprot = 1", "coordinator.prot: unknown key; did you mean 'port'?"),
        (
            "[coordinator]",
            '[coordinator]\nport = "28000"',
            "coordinator.port: Input should be a whole number, without quotes",
        ),
        (
            "image_size = 96",
            "image_size = 96.0",
            "image_size: Input should be a whole number, without quotes or decimal",
        ),
        ("image_size = 96", "image_size = 100", "multiple of 32"),
        ('name = "breast"', "", "federation.name: missing"),
        ('name = "breast"', 'name = "br ust"', "a name has at most 64 of a to z, A to Z, 0 to 9, "),
    ],
)
def test_a_mistake_is_named_in_one_message(tmp_path: Path, old: str, new: str, told: str) -> None:
    with pytest.raises(StudyError) as error:
        load_federation(changed(tmp_path, old, new))
    assert told in str(error.value)
    assert str(error.value).count("\n") == 1


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"federation file .*nowhere\.toml is not there"):
        load_federation(tmp_path / "nowhere.toml")


def test_a_site_is_added_at_the_end(tmp_path: Path) -> None:
    path = written(tmp_path)
    add_site(path, "hospital-4")
    assert path.read_text() == TEXT + '\n[[site]]\nname = "hospital-4"\n'
    add_site(path, "hospital-4")
    assert load_federation(path).site_names[3:] == ["hospital-4"]


def test_a_removed_site_leaves_all_else_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path)
    remove_site(path, "hospital-2")
    assert path.read_text() == TEXT.replace("[[site]]\nname = 'hospital-2'\n", "")
    remove_site(path, "hospital-2")
    assert load_federation(path).site_names == ["hospital-1", "hospital-3"]


def test_line_ends_and_permissions_stay(tmp_path: Path) -> None:
    path = written(tmp_path, TEXT.replace("\n", "\r\n").rstrip())
    path.chmod(0o640)
    add_site(path, "hospital-4")
    remove_site(path, "hospital-1")
    assert path.read_bytes().count(b"\n") == path.read_bytes().count(b"\r\n") > 10
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("name", ["ensemble", "a/b", "", 'x"\n[evil]\ny="', "HOSPITAL-1"])
def test_a_name_that_cannot_be_is_not_added(tmp_path: Path, name: str) -> None:
    path = written(tmp_path)
    with pytest.raises(StudyError):
        add_site(path, name)
    assert path.read_text() == TEXT


def test_what_is_not_understood_line_by_line_is_left_alone(tmp_path: Path) -> None:
    text = federation([]).replace("[federation]", 'site = [{name = "a"}, {name = "b"}]\n[federation]')
    path = written(tmp_path, text)
    for edit in (lambda: add_site(path, "c"), lambda: remove_site(path, "a")):
        with pytest.raises(StudyError, match="by hand"):
            edit()
    assert path.read_text() == text


@settings(max_examples=50, deadline=None)
@given(twins_apart)
def test_any_plain_names_are_taken(sites: list[str]) -> None:
    assert FederationFile.model_validate(tomllib.loads(federation(sites))).site_names == sites


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(twins_apart.filter(bool), st.data())
def test_adding_and_removing_undo_each_other(
    tmp_path_factory: pytest.TempPathFactory, sites: list[str], data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(sites))
    path = written(tmp_path_factory.mktemp("edits"), federation(sites))
    remove_site(path, name)
    assert load_federation(path).site_names == [site for site in sites if site != name]
    add_site(path, name)
    assert load_federation(path).site_names == [*(site for site in sites if site != name), name]
