"""The federation file: the coordinator's address and the sites by name. Kits are made from it, runs take their sites from it."""

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, Strict, StringConstraints, ValidationError, field_validator, model_validator

from nakt_fed.study.tables import StudySpec
from nakt_fed.toml_file import in_words, parse, read_toml
from nakt_fed.toml_types import Part

PlainName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=64),
    in_words('a name has at most 64 of a to z, A to Z, 0 to 9, ".", "_" and "-", and begins with a letter or a digit'),
]
"""It names folders, key files and nodes on machines of all kinds, so it has no letter that one of them could spell otherwise."""

RESERVED = {
    "authority": "kits use that name",
    "coordinator": "kits use that name",
    "ensemble": "the results use that name",
    "student": "the results use that name",
}


class FederationSection(Part):
    """What the federation is called, and the side in pixels that its sites' teachers answer."""

    name: PlainName
    image_size: int = Field(default=384, ge=32, le=2048)

    @model_validator(mode="after")
    def _whole_strides(self) -> Self:
        StudySpec(name=self.name, image_size=self.image_size)
        return self


class CoordinatorSection(Part):
    """What sites dial and the certificate says. Behind the proxy on `port` the SuperLink listens on 127.0.0.1:`inner_port`."""

    host: str
    port: int = Field(default=28000, ge=1, le=65535)
    inner_port: int | None = Field(default=None, ge=1, le=65535)

    @field_validator("host")
    @classmethod
    def _can_be_dialled(cls, host: str) -> str:
        return checked_host(host)

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.inner == self.port or self.inner > 65535:
            raise ValueError(f"inner_port {self.inner} cannot be used beside port {self.port}; give inner_port another")
        return self

    @property
    def inner(self) -> int:
        """The SuperLink's port, next to the proxy's unless told otherwise."""
        return self.inner_port or self.port + 1

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


class SiteEntry(Part):
    """One hospital. The coordinator knows it by the public key in sites/<name>.pub, not by what it says of itself."""

    name: PlainName

    @field_validator("name")
    @classmethod
    def _is_free(cls, name: str) -> str:
        if name.casefold() in RESERVED:
            raise ValueError(f"a site cannot be called {name!r}: {RESERVED[name.casefold()]}; rename the site")
        return name


def is_site_name(name: str) -> bool:
    """Whether a site can be called so."""
    try:
        return bool(SiteEntry(name=name))
    except ValidationError:
        return False


class FederationFile(Part):
    """The whole file."""

    federation: FederationSection
    coordinator: CoordinatorSection
    site: Annotated[tuple[SiteEntry, ...], Strict(False)] = ()

    @model_validator(mode="after")
    def _no_twins(self) -> Self:
        seen: dict[str, str] = {}
        for name in self.site_names:
            if name.casefold() in seen:
                raise ValueError(
                    f"two sites are called {name!r}; give each its own name, large and small letters aside"
                )
            seen[name.casefold()] = name
        return self

    @property
    def site_names(self) -> list[str]:
        return [site.name for site in self.site]


def checked_host(host: str) -> str:
    """A DNS name or an IPv4 address, in small letters. Raises ValueError: it is neither, or nobody could dial it."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return _checked_name(host)
    if address.version == 6:
        raise ValueError("an IPv6 address is not understood here; give a name that DNS knows, or an IPv4 address")
    if address.is_unspecified or address.is_multicast:
        raise ValueError("no site could dial that; give the name or address of the coordinator's machine")
    return host


def _checked_name(host: str) -> str:
    labels = host.lower().split(".")
    plain = all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label) for label in labels)
    if not plain or len(host) > 253 or labels[-1].isdigit():
        raise ValueError(
            'must be a DNS name or an IPv4 address, without port or "https://", such as "coordinator.example.org"'
        )
    return host.lower()


def load_federation(path: Path) -> FederationFile:
    """Read and validate.

    Raises:
        StudyError: the file is missing, not TOML, has an unknown key, twins, a reserved name or a host that is none.
    """
    path, raw = read_toml(path, "federation file")
    return parse(FederationFile, raw, path.parent, str(path))
