"""`nakt fuse`: the stored answers combined in another way, filtered, and measured where the truth is known."""

from pathlib import Path

from nakt_fed.annotation import Annotation
from nakt_fed.answered import sites_of_chunks
from nakt_fed.filtering import read_filter
from nakt_fed.replay.stored import Masks, StoredRun
from nakt_fed.shared_set import SharedSet
from nakt_fed.store import create_stack
from nakt_fed.study.tables import FusionSpec
from nakt_fed.weightings.check import refuse_combination
from nakt_fed.whole_file import write_json


def fuse_again(run: StoredRun, fusion: FusionSpec, out: Path) -> Annotation:
    """Leaves in `out` masks.zarr (pseudo; tests/<name>), filter.csv by the run's filter, and fusion.json with the Dice per picture.

    The annotated set of a weighting that learns from it is not measured: it has been seen.

    Raises:
        StudyError: the weighting does not go together with the run.
    """
    study = run.study.model_copy(update={"fusion": fusion})
    refuse_combination(study)
    combiners = run.combiners(fusion)
    sites = sites_of_chunks(run.transferal.masks, run.counted, combiners)
    out.mkdir(parents=True, exist_ok=True)
    annotation = Annotation(study, out, run.transferal, sites)
    annotation.annotate()
    combine = combiners.of(run.active)
    stacks = {
        name: create_stack(
            annotation.group, f"tests/{name}", len(shared.manifest), study.study.image_size, shared.chunk
        )
        for name, shared in run.tests.items()
    }

    def fused(shared: SharedSet, number: int) -> Masks:
        masks = combine({site: shared.masks.read(site, number) for site in run.active})
        rows = shared.masks.chunks[number]
        stacks[shared.name.removeprefix("test-")][rows.start : rows.stop] = masks
        return masks

    told = {
        "fusion": fusion.model_dump(mode="json"),
        "weights": {site: w / 65536 for site, w in combine.weights.items()} if combine.weights else None,
        "kept": sum(verdict.kept for verdict in read_filter(out / "filter.csv")),
        "per_image": run.measured(fused, fusion.annotated),
    }
    write_json(out / "fusion.json", told)
    return annotation
