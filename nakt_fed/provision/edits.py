"""A site more or less in a federation file, which keeps its comments, its order and its line ends."""

import re
import tomllib
from pathlib import Path
from typing import Any

from nakt_fed.errors import StudyError
from nakt_fed.provision.federation_file import FederationFile, load_federation
from nakt_fed.toml_file import parse, read_toml


def add_site(path: Path, name: str) -> None:
    """Append `name` to the federation file; a file that has it already stays as it is. Raises StudyError: impossible name."""
    path, raw = read_toml(path, "federation file")
    if name in load_federation(path).site_names:
        return
    after = {**raw, "site": [*raw.get("site", []), {"name": name}]}
    parse(FederationFile, after, path.parent, f"{path} with site {name!r}")
    text = _text(path)
    end = "\r\n" if "\r\n" in text else "\n"
    start = "" if not text or text.endswith("\n") else end
    _replace(path, f'{text}{start}{end}[[site]]{end}name = "{name}"{end}', after, f"add [[site]] {name!r}")


def remove_site(path: Path, name: str) -> None:
    """Take `name` out of the federation file, which keeps all else as it was written. No such entry: nothing happens."""
    path, raw = read_toml(path, "federation file")
    if name not in load_federation(path).site_names:
        return
    after = {**raw, "site": [site for site in raw["site"] if site["name"] != name]}
    _replace(path, _without(_text(path), name), after, f"remove [[site]] {name!r}")


def _text(path: Path) -> str:
    return path.read_bytes().decode()  # line ends as they are


def _without(text: str, name: str) -> str:
    """Cut the table from its header to its last key: a comment below it may be about what follows."""
    lines = text.split("\n")
    headers = [number for number, line in enumerate(lines) if line.lstrip().startswith("[")]
    for start, stop in zip(headers, [*headers[1:], len(lines)], strict=True):
        if re.match(r"\s*\[\[\s*site\s*\]\]", lines[start]) and _is_about(lines[start:stop], name):
            while not lines[stop - 1].strip() or lines[stop - 1].lstrip().startswith("#"):
                stop -= 1
            return "\n".join(lines[:start] + lines[stop:])
    return text


def _is_about(lines: list[str], name: str) -> bool:
    try:
        return bool(tomllib.loads("\n".join(lines) + "\n")["site"][0].get("name") == name)
    except tomllib.TOMLDecodeError:
        return False


def _replace(path: Path, text: str, after: dict[str, Any], what: str) -> None:
    """Whole or not at all, and only if the new text says what it should. Raises StudyError: it cannot be edited line by line."""
    try:
        right = _sites(tomllib.loads(text)) == _sites(after)
    except tomllib.TOMLDecodeError:
        right = False
    if not right:
        raise StudyError(f"{path} is written in a way that is not understood line by line; {what} by hand, then go on")
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(text.encode())
    part.chmod(path.stat().st_mode & 0o777)
    part.replace(path)


def _sites(raw: dict[str, Any]) -> dict[str, Any]:
    """An empty list of sites is the same as none."""
    return {key: value for key, value in raw.items() if key != "site" or value}
