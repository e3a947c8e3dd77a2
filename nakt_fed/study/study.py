"""The whole study (DESIGN §5): its tables together, what follows from them, what does not go together."""

import math
from typing import Any, Self

from pydantic import Field, model_validator

from nakt_fed.classes import ONE, names_in, refuse_label_sets, refuse_outputs, union, with_outputs, written
from nakt_fed.study.learners import FineTuneSpec, StudentSpec
from nakt_fed.study.pictures import RemoteSite, SiteSpec, TestSpec, TransferalSpec
from nakt_fed.study.rules import refuse_missing_weights, refuse_not_at_sites, refuse_reserved, refuse_twins
from nakt_fed.study.tables import FilterSpec, FusionSpec, ResourcesSpec, RoundSpec, StudySpec
from nakt_fed.toml_types import Part

LEAST_CHUNKS, LEAST_CHUNK, MOST_CHUNK = 8, 16, 4096  # chunks in a set; pictures in a chunk


class Study(Part):
    """A whole run. All paths are absolute after loading."""

    study: StudySpec
    site: list[SiteSpec] = Field(min_length=1)
    transferal: TransferalSpec
    fusion: FusionSpec = FusionSpec()
    filter: FilterSpec = FilterSpec()
    round: RoundSpec = RoundSpec()
    student: StudentSpec
    fine_tune: FineTuneSpec | None = None
    test: list[TestSpec] = Field(default_factory=list)
    resources: ResourcesSpec = Field(default_factory=ResourcesSpec)

    @property
    def site_names(self) -> list[str]:
        return [site.name for site in self.site]

    @property
    def classes(self) -> tuple[str, ...]:
        """What the student learns; ("",) in a study with one class (`nakt_fed.classes`)."""
        return union(site.classes for site in self.site)

    def knowing(self, label: str) -> list[str]:
        """The sites whose teachers know a class."""
        return [site.name for site in self.site if not label or label in site.classes]

    def of_class(self, label: str) -> "Study":
        """The study of one class: the sites and test sets that know it, for whoever looks at what they have answered."""
        if not label:
            return self
        sites = [site.model_copy(update={"classes": (label,)}) for site in self.site if label in site.classes]
        tests = [test.model_copy(update={"classes": (label,)}) for test in self.test if label in test.classes]
        fusion = self.fusion.model_copy(
            update={"weights": {k: v for k, v in self.fusion.weights.items() if k in self.knowing(label)}}
        )
        student = self.student.model_copy(update={"classes": 1})
        return self.model_copy(update={"site": sites, "test": tests, "fusion": fusion, "student": student})

    def judged(self, test: "SiteSpec | TestSpec") -> tuple[str, ...]:
        """The classes that a test set, or a site's held-out share, has masks of."""
        return test.classes if self.classes != ONE else ONE

    @property
    def asked(self) -> dict[str, tuple[str, ...]]:
        """The classes that each site answers; empty in a study with one class."""
        return {site.name: site.classes for site in self.site} if self.classes != ONE else {}

    def chunk(self, count: int) -> int:
        """Pictures in a chunk of a set of `count` pictures: what `round.chunk_mb` (10⁶ bytes, before coding) holds.

        At most an eighth of the set, so that small pictures too show progress and a kill loses little, unless that is
        less than LEAST_CHUNK.
        """
        fits = max(1, round(self.round.chunk_mb * 1e6) // self.study.image_size**2)
        return min(fits, max(LEAST_CHUNK, math.ceil(count / LEAST_CHUNKS)), MOST_CHUNK)

    @property
    def min_sites(self) -> int:
        """Without a number, every site must stay."""
        return self.round.min_sites or len(self.site)

    @property
    def tunes_here(self) -> bool:
        """Whether the student is fine-tuned on pictures of the coordinator's."""
        return self.fine_tune is not None and self.fine_tune.images is not None

    @property
    def tunes_at_sites(self) -> bool:
        """Whether the sites are asked to fine-tune the student on theirs."""
        return self.fine_tune is not None and self.fine_tune.at_sites

    @property
    def test_names(self) -> list[str]:
        """The sites' held-out shares first, then the coordinator's own test sets."""
        return [site.name for site in self.site if site.test_share] + [test.name for test in self.test]

    @model_validator(mode="before")
    @classmethod
    def _outputs(cls, raw: Any) -> Any:
        sites = raw.get("site") if isinstance(raw, dict) else None
        each = sites if isinstance(sites, list) else []
        return with_outputs(raw, "student", union(names_in(written(site)) for site in each))

    @model_validator(mode="after")
    def _label_sets(self) -> Self:
        refuse_label_sets(self.site, self.test)
        refuse_outputs("the sites together know", "student", self.student.classes, self.classes)
        if self.classes != ONE and self.fine_tune:
            raise ValueError(f"fine_tune works with one class, but the sites know {list(self.classes)}; leave it out")
        return self

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        refuse_twins("site", self.site_names)
        refuse_twins("test set", self.test_names)
        refuse_reserved(self.site_names)
        if self.min_sites > len(self.site):
            raise ValueError(f"round.min_sites is {self.min_sites}, but the study has {len(self.site)} sites; lower it")
        refuse_missing_weights(self.fusion, self.site_names)
        if self.tunes_at_sites:
            refuse_not_at_sites(self)
        return self


class FederatedStudy(Study):
    """A study as the coordinator of a deployment knows it: sites by name."""

    site: list[RemoteSite] = Field(min_length=1)  # type: ignore[assignment]
