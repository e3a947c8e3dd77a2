"""The site file: one hospital's part of a deployment (DESIGN §5). It never leaves the hospital."""

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from nakt_fed.classes import names_in, refuse_masks, refuse_outputs, with_outputs, written
from nakt_fed.site.policy import Policy
from nakt_fed.study.learners import TeacherSpec
from nakt_fed.study.pictures import MaskFolders, SiteSpec
from nakt_fed.study.tables import StudySpec
from nakt_fed.toml_file import in_words, parse, read_toml
from nakt_fed.toml_types import Name, Names, Part, Place, Share


def _with_port(address: str) -> str:
    if not 1 <= int(address.rpartition(":")[2]) <= 65535:
        raise ValueError
    return address


Address = Annotated[
    str,
    StringConstraints(pattern=r"^[^\s:/]+:[0-9]{1,5}$"),
    AfterValidator(_with_port),
    in_words(
        'an address is a name and a port from 1 to 65535, such as "coordinator.example.org:28000", without "https://"'
    ),
]


class SiteSection(Part):
    """Who and where. `folder` is the service's own: pictures it was sent, its answers, receipts, errors, approvals.

    `classes` are what the teacher knows, in a study whose sites know different ones.
    """

    name: Name
    classes: Names = ()
    image_size: int = Field(ge=32, le=2048)
    folder: Place = Path("state")
    socket: Place | None = None
    threads: int = Field(default=2, ge=1)


class PrivateSpec(Part):
    """Private test pictures with masks: they count a transferal set's overlap and judge a student. None of them leaves.

    With a `test_share` a student is judged on that share alone, and may be fine-tuned on the others.
    """

    images: Place
    masks: MaskFolders
    test_share: Share = 0.0


class CoordinatorSpec(Part):
    """Whom the site dials and whom it believes.

    `public_key` (Ed25519, PEM) signs what is asked; `site_key` (ECDSA P-384) shows the coordinator who the site is.
    """

    address: Address
    root_certificates: Place
    public_key: Place
    site_key: Place


class SiteFile(Part):
    """A site's whole file. All paths are absolute after loading."""

    site: SiteSection
    teacher: TeacherSpec
    private: PrivateSpec | None = None
    coordinator: CoordinatorSpec
    policy: Policy = Policy()

    @model_validator(mode="before")
    @classmethod
    def _outputs(cls, raw: Any) -> Any:
        site = raw.get("site") if isinstance(raw, dict) else None
        if not isinstance(site, dict):
            return raw
        site = written(site)
        return with_outputs({**raw, "site": site}, "teacher", names_in(site))

    @model_validator(mode="after")
    def _answers_something(self) -> Self:
        StudySpec(name=self.site.name, image_size=self.site.image_size)
        classes = self.site.classes
        refuse_masks("[private]", self.private and self.private.masks, classes)
        refuse_outputs("site.classes names", "teacher", self.teacher.classes, classes)
        if self.policy.personalise_student and len(classes) > 1:
            raise ValueError(
                f"policy.personalise_student works with one class, site.classes are {list(classes)}; set it to false"
            )
        if self.teacher.checkpoint is None:
            raise ValueError(
                "teacher.checkpoint is missing; train one with `nakt train` and name its .safetensors file"
            )
        if self.policy.evaluate_student and self.private is None:
            raise ValueError("policy.evaluate_student needs [private] images and masks to evaluate on; add them")
        if self.policy.personalise_student and not (self.private and self.private.test_share):
            raise ValueError(
                "policy.personalise_student needs [private] images and masks with a test_share: what a student is "
                "measured on is never learned from; add them, such as test_share = 0.5"
            )
        return self

    @property
    def socket(self) -> Path:
        """Where the teacher service listens."""
        return self.site.socket or self.site.folder / "teacher.sock"

    def spec(self) -> SiteSpec:
        """The site as the teacher service knows it; it answers as softly as its policy allows."""
        private = self.private
        teacher = self.teacher.model_copy(update={"binary": self.teacher.binary or self.policy.answers == "binary"})
        return SiteSpec(
            name=self.site.name,
            images=private.images if private else None,
            masks=private.masks if private else None,
            test_share=private.test_share if private else 0.0,
            classes=self.site.classes,
            teacher=teacher,
        )


def load_site(path: Path) -> SiteFile:
    """Read, validate and make every path absolute.

    Raises:
        StudyError: the file is missing, not TOML, has an unknown key (the nearest known one is named) or an impossible value.
    """
    path, raw = read_toml(path, "site file")
    return parse(SiteFile, raw, path.parent, str(path))
