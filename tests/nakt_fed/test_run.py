import hashlib
import json
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zarr

from nakt_fed import annotation as annotation_module
from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.data.folders import load_pictures
from nakt_fed.errors import FilterError, RunError
from nakt_fed.events import EventLog
from nakt_fed.exchange import Reply, Request
from nakt_fed.filtering import entropy, levels, read_filter, target_pixels
from nakt_fed.fusion import sharpen
from nakt_fed.run import Run, run_study
from nakt_fed.store import PseudoSet, open_group
from nakt_fed.student import StudentJob, pseudo_sets, train_student
from nakt_fed.study import Study
from simulation.oracle import run_in_process
from tests.reference.fusion import integer_mean
from tests.tiny import SITES, UNET, Hospitals, hospitals, megabytes, tiny_study, whole_study


def stack(run: Path, name: str) -> np.ndarray:
    """An array of masks.zarr, or of another group as "group:array"."""
    group, _, array = name.rpartition(":")
    return np.asarray(open_group(run / (group or "masks.zarr"))[array][:])  # type: ignore[index]


def test_pseudo_masks_are_the_mean_of_the_answers(whole: Path) -> None:
    answers = {site: stack(whole, f"masks/{site}") for site in SITES}
    np.testing.assert_array_equal(stack(whole, "pseudo"), integer_mean(answers, {"ann": 32768, "bob": 32768}))


def test_filter_file_judges_the_pseudo_masks(whole: Path) -> None:
    verdicts, counts = read_filter(whole / "filter.csv"), levels(stack(whole, "pseudo"))
    assert [verdict.id for verdict in verdicts] == [
        row["id"] for row in json.loads((whole / "manifest.json").read_text())["pictures"]
    ]
    assert [verdict.N for verdict in verdicts] == target_pixels(counts).tolist()
    assert [verdict.E for verdict in verdicts] == pytest.approx(entropy(counts).tolist(), abs=1e-6)


def test_files_of_a_finished_run(whole: Path) -> None:
    """DESIGN §6, and no half-written file. study.toml is written by whoever starts the run."""
    files = {path.name for path in whole.iterdir()}
    assert files >= {
        "manifest.json",
        "masks.zarr",
        "ledger.jsonl",
        "filter.csv",
        "student.safetensors",
        "student.json",
        "history.csv",
    }
    assert files >= {"results.json", "report.html", "events.jsonl", "fine_tune", "sites", "tests"}
    assert {path.name for path in (whole / "fine_tune").iterdir()} >= {
        "student.safetensors",
        "student.json",
        "history.csv",
    }
    assert not list(whole.rglob("*.part"))


def outcome(run: Path) -> dict[str, Any]:
    """All that must not depend on interruptions: everything but seconds, and bytes of what was asked twice."""
    results = json.loads((run / "results.json").read_text())
    files = [
        "filter.csv",
        "manifest.json",
        *(f"{place}student.{end}" for place in ("", "fine_tune/") for end in ("safetensors", "json")),
    ]
    files += [f"sites/{site}/teacher.{end}" for site in SITES for end in ("safetensors", "json")]
    arrays = ["pseudo", "masks/ann", "masks/bob", "pseudo.zarr:images", "pseudo.zarr:masks"]
    arrays += [
        f"tests/outside/masks.zarr:masks/{name}" for name in ("ann", "bob", "ensemble", "student", "student+fine_tune")
    ]
    return {
        **{key: value for key, value in results.items() if key not in ("bytes", "seconds")},
        **{name: hashlib.sha256((run / name).read_bytes()).hexdigest() for name in files if (run / name).exists()},
        **{name: hashlib.sha256(stack(run, name).tobytes()).hexdigest() for name in arrays},
    }


class Killed(BaseException):
    """Not an Exception, as a signal is none: nothing may catch it."""


@contextmanager
def killed_once_at_each_moment(run: Path, seen: set[object]) -> Iterator[None]:
    """Raise Killed at the first moment that is not in `seen`: before each kind of event, after each file that is put in place."""
    emit, replace = EventLog.emit, Path.replace

    def moment(key: object) -> None:
        if key not in seen:
            seen.add(key)
            raise Killed

    def emitting(self: EventLog, kind: str, **fields: Any) -> None:
        about = {
            name: fields[name]
            for name in ("name", "state", "who", "epoch", "site", "set", "request", "chunks")
            if name in fields
        }
        moment((kind, *about.items()))
        emit(self, kind, **fields)

    def replacing(self: Path, target: Path) -> Path:
        done = replace(self, target)
        if Path(target).name in FILES:
            moment(Path(target).relative_to(run))
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(EventLog, "emit", emitting)
        patch.setattr(Path, "replace", replacing)
        yield


FILES = {"manifest.json", "filter.csv", "results.json", "last.pt", "best.pt"} | {
    f"{role}.{end}" for role in ("teacher", "student") for end in ("safetensors", "json")
}


@pytest.mark.slow
@pytest.mark.usefixtures("plain_report")
def test_killed_at_every_moment_it_ends_as_if_undisturbed(
    folders: Path, whole: Path, tmp_path: Path, forget: Callable[[], None]
) -> None:
    """One run folder, killed at each moment in turn and started again in a new process every time."""
    study, seen = whole_study(folders), set[object]()
    for _ in range(100):
        forget()
        try:
            with killed_once_at_each_moment(tmp_path, seen):
                run_in_process(study, tmp_path)
            break
        except Killed:
            continue
    stages = {key[1][1] for key in seen if isinstance(key, tuple) and key[0] == "stage"}
    assert stages == {"teachers", "pictures", "masks", "fusion", "student", "fine_tune", "evaluation", "report"}
    assert {key[0] for key in seen if isinstance(key, tuple)} == {"start", "stage", "epoch", "site", "done"}
    assert {str(key) for key in seen if isinstance(key, Path)} >= {
        "manifest.json",
        "filter.csv",
        "results.json",
        "fine_tune/student.json",
    }
    assert outcome(tmp_path) == outcome(whole)


def one_epoch(job: StudentJob) -> None:
    """The student of these tests: which one does not matter."""
    train_student(job.model_copy(update={"recipe": job.recipe.model_copy(update={"epochs": 1})}))


def finish(study: Study, run: Path, sites: Hospitals | None = None) -> dict[str, Any]:
    run.mkdir(exist_ok=True)
    run_study(study, run, sites or hospitals(study, run), one_epoch)
    return dict(json.loads((run / "results.json").read_text()))


@pytest.mark.usefixtures("plain_report")
class TestStudies:
    def test_filter_off_keeps_every_picture(self, folders: Path, tmp_path: Path) -> None:
        """Although no picture has a target and fewer than `min_kept` are there."""
        study = tiny_study(
            folders, filter={"enabled": False, "min_target_pixels": 99999, "max_entropy": 0.0, "min_kept": 99}
        )
        results = finish(study, tmp_path / "run")
        assert results["transferal"] == {
            "images": 21,
            "originals": 7,
            "views": 14,
            "kept": 21,
            "excluded": {"few_targets": 0, "high_entropy": 0},
        }
        assert all(verdict.E for verdict in read_filter(tmp_path / "run" / "filter.csv"))

    def test_only_what_is_kept_reaches_the_student(self, folders: Path, tmp_path: Path) -> None:
        """Here ann alone counts, so the pseudo mask is the picture; pictures with fewer than 320 pixels over 127 go."""
        study = tiny_study(
            folders,
            filter={"min_target_pixels": 320 * 144},
            fusion={"weighting": "fixed", "weights": {"ann": 1, "bob": 0}},
            round={"chunk_mb": megabytes(4)},
            student={**UNET, "temperature": 1.0},
        )
        results = finish(study, tmp_path / "run")
        members = stack(tmp_path / "run", "pictures.zarr:images")
        kept = [row for row, picture in enumerate(members) if (picture > 127).sum() >= 320]
        assert 5 < len(kept) < 16, "some stay, some go"
        assert results["transferal"]["kept"] == len(kept)
        assert results["transferal"]["excluded"] == {"few_targets": 21 - len(kept), "high_entropy": 0}
        np.testing.assert_array_equal(stack(tmp_path / "run", "pseudo.zarr:images"), members[kept])
        np.testing.assert_array_equal(stack(tmp_path / "run", "pseudo.zarr:masks"), members[kept])

    @pytest.mark.parametrize(
        ("fusion", "weights"),
        [
            ({"weighting": "n_images"}, {"ann": 0.25, "bob": 0.75}),
            ({"weighting": "validation"}, {"ann": 0.75, "bob": 0.25}),
        ],
    )
    def test_weighting_reaches_pseudo_masks_and_ensemble(
        self, folders: Path, tmp_path: Path, fusion: dict[str, Any], weights: dict[str, float]
    ) -> None:
        study = tiny_study(folders, fusion=fusion, transferal={"views": 0})
        cards = {"ann": {"n_images": 5, "validation_dice": 0.9}, "bob": {"n_images": 15, "validation_dice": 0.3}}
        run = tmp_path / "run"
        run.mkdir()
        sites = hospitals(study, run, tamper=with_cards(cards))
        assert finish(study, run, sites)["weights"] == weights
        fixed = {site: int(weight * 65536) for site, weight in weights.items()}
        for place, name in (("masks.zarr", "pseudo"), ("tests/outside/masks.zarr", "masks/ensemble")):
            answers = {site: stack(run, f"{place}:masks/{site}") for site in SITES}
            np.testing.assert_array_equal(stack(run, f"{place}:{name}"), integer_mean(answers, fixed))

    def test_binary_teachers_are_not_judged_by_entropy(self, folders: Path, tmp_path: Path) -> None:
        sites = [
            {
                "name": name,
                "images": f"{name}/images",
                "masks": f"{name}/masks",
                "teacher": {"network": "unet", "binary": True},
            }
            for name in SITES
        ]
        study = tiny_study(folders, site=sites, filter={"max_entropy": 0.0, "min_kept": 21})
        run = tmp_path / "run"
        run.mkdir()
        results = finish(
            study, run, hospitals(study, run, tamper=with_cards({name: {"binary": True} for name in SITES}))
        )
        assert results["transferal"]["kept"] == 21
        assert {verdict.E for verdict in read_filter(run / "filter.csv")} == {None}

    def test_one_soft_teacher_is_enough_for_entropy(self, folders: Path, tmp_path: Path) -> None:
        study = tiny_study(folders, filter={"max_entropy": 0.0})
        run = tmp_path / "run"
        run.mkdir()
        with pytest.raises(FilterError, match="21 with an entropy over max_entropy = 0 bits"):
            finish(study, run, hospitals(study, run, tamper=with_cards({"ann": {"binary": True}})))

    def test_a_site_that_is_set_aside_counts_nowhere(self, folders: Path, tmp_path: Path) -> None:
        study = tiny_study(folders, round={"min_sites": 1})
        run = tmp_path / "run"
        run.mkdir()
        results = finish(study, run, hospitals(study, run, {"bob": lambda pictures: pictures * np.nan}))
        assert [site["name"] for site in results["sites"]] == ["ann"]
        assert results["weights"] == {"ann": 1.0}
        assert "teacher:bob" not in results["dice"]
        assert "bad_answer" in results["set_aside"]["bob"]
        np.testing.assert_array_equal(stack(run, "pseudo"), stack(run, "masks/ann"))

    def test_when_all_have_answered_nobody_is_asked_again(self, folders: Path, tmp_path: Path) -> None:
        """Neither a site that is gone meanwhile nor one that has come back changes what the student has learned from."""
        study = tiny_study(folders, round={"min_sites": 1}, transferal={"views": 0})
        run = tmp_path / "run"
        run.mkdir()
        first = finish(study, run, hospitals(study, run, {"bob": lambda pictures: pictures * np.nan}))
        (run / "student.safetensors").unlink()  # as if killed before the student was saved
        recovered = hospitals(study, run)
        again = finish(study, run, recovered)
        assert recovered.asked == []
        for key in ("sites", "weights", "set_aside", "overlaps", "transferal", "dice"):
            assert again[key] == first[key]

    def test_everything_filtered_out_can_be_mended(self, folders: Path, tmp_path: Path) -> None:
        """The answers are kept: with a mended filter nobody is asked again."""
        run = tmp_path / "run"
        run.mkdir()
        with pytest.raises(FilterError, match="only 0 of 21 transferal pictures have a salient target"):
            finish(tiny_study(folders, filter={"max_entropy": 0.5}), run)
        mended = tiny_study(folders, filter={"max_entropy": 8.0})
        sites = hospitals(mended, run)
        assert finish(mended, run, sites)["transferal"]["kept"] == 21
        assert sites.asked == []

    def test_mended_weights_fuse_again(self, folders: Path, tmp_path: Path) -> None:
        """Killed before the student: with other weights the pseudo masks are others. The student learns them sharpened."""
        run = tmp_path / "run"
        run.mkdir()
        study = tiny_study(folders)

        def killed(job: StudentJob) -> None:
            raise Killed

        with pytest.raises(Killed):
            run_study(study, run, hospitals(study, run), killed)
        finish(tiny_study(folders, fusion={"weighting": "fixed", "weights": {"ann": 0, "bob": 1}}), run)
        np.testing.assert_array_equal(stack(run, "pseudo"), stack(run, "masks/bob"))
        np.testing.assert_array_equal(stack(run, "pseudo.zarr:masks"), sharpen(stack(run, "masks/bob"), 0.5))

    def test_a_student_that_leaves_no_weights(self, folders: Path, tmp_path: Path) -> None:
        study = tiny_study(folders)
        with pytest.raises(RunError, match=r"training of the student left no weights .* go on with --resume"):
            run_study(study, tmp_path, hospitals(study, tmp_path), lambda job: None)

    def test_overlaps_are_counted_for_each_site(self, folders: Path, tmp_path: Path) -> None:
        """Transferal pictures are bob's own."""
        study = tiny_study(folders, transferal={"images": [str(folders / "bob" / "images")], "views": 1})
        results = finish(study, tmp_path / "run")
        assert results["overlaps"] == {"ann": 0, "bob": len(load_pictures([folders / "bob" / "images"], 32))}

    def test_memory_does_not_grow_with_the_sites_answers(
        self, folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Fusion sees a chunk at a time."""
        seen: list[int] = []
        real = annotation_module.pseudo_annotate

        def watched(T: Any, D: Any, *rest: Any) -> None:
            def teachers(x: Any) -> Any:
                answer = T(x)
                seen.extend(len(masks) for masks in answer.values())
                return answer

            teachers.soft = T.soft  # type: ignore[attr-defined]
            real(teachers, D, *rest)  # type: ignore[arg-type]

        monkeypatch.setattr(annotation_module, "pseudo_annotate", watched)
        study = tiny_study(folders, round={"chunk_mb": megabytes(4)})
        tmp_path.mkdir(exist_ok=True)
        acts = Run(study, tmp_path, hospitals(study, tmp_path), one_epoch)
        acts.predict()
        acts.fuse_and_filter()
        assert seen == [4] * 10 + [1] * 2


def with_cards(cards: dict[str, dict[str, Any]]) -> Callable[[str, Request, Reply], Reply]:
    """Sites whose teachers' cards say something else."""

    def tamper(site: str, request: Request, reply: Reply) -> Reply:
        return Reply(True, {**reply.meta, **cards.get(site, {})}) if request.kind == "prepare" else reply

    return tamper


def job_over(path: Path, tmp_path: Path, **recipe: Any) -> StudentJob:
    study = tiny_study(tmp_path)
    spec = study.student.recipe().model_copy(update=recipe)
    return StudentJob(
        who="student",
        pseudo=str(path),
        out=tmp_path,
        events=tmp_path / "e",
        network=study.student.spec(),
        recipe=spec,
        seed=3,
        threads=1,
    )


@pytest.mark.parametrize("in_memory", [True, False])
def test_held_out_pictures_are_not_learned_from_through_their_views(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    """7 pictures with a view each: a share of 0.3 holds 2 of them out. Also when read from disk."""
    if not in_memory:
        monkeypatch.setattr("nakt_fed.student.IN_MEMORY", 0)
    training, validation = pseudo_sets(job_over(whole / "pseudo.zarr", tmp_path, validation=0.3))
    assert (len(training), len(validation)) == (10, 2)
    assert not [name for name in training.ids if name.partition("~")[0] in validation.ids]
    group: Any = zarr.open_group(whole / "pseudo.zarr", mode="r")
    ids, images, masks = list(group.attrs["ids"]), group["images"][:], group["masks"][:]
    for part in (training, validation):
        rows = [ids.index(name) for name in part.ids]
        every = np.arange(len(rows))
        taken = (
            (part.images, part.masks)
            if isinstance(part.images, np.ndarray)
            else (part.images.oindex[every], part.masks.oindex[every])
        )
        np.testing.assert_array_equal(taken[0], images[rows])
        np.testing.assert_array_equal(taken[1], masks[rows])


def test_without_validation_every_picture_is_learned_from(whole: Path, tmp_path: Path) -> None:
    training, validation = pseudo_sets(job_over(whole / "pseudo.zarr", tmp_path, validation=0.0))
    assert (len(training), len(validation)) == (14, 0)


def test_what_workers_read_lies_in_the_storage(folders: Path, tmp_path: Path, plain_report: None) -> None:
    """A cluster's workers do not see the coordinator's disk: the pictures of the fine-tuning go there too."""
    storage, run, read = tmp_path / "storage", tmp_path / "run", []
    study = whole_study(folders, student={**UNET, "storage": storage.as_uri()})

    def fit_student(job: StudentJob) -> None:
        read.append(job.pseudo)
        train_student(job)

    run.mkdir()
    run_study(study, run, hospitals(study, run), fit_student)
    assert read == [f"{storage.as_uri()}/run/{name}" for name in ("pseudo.zarr", "fine_tune/annotated.zarr")]
    assert len(open_group(storage / "run" / "fine_tune" / "annotated.zarr").attrs["ids"]) == 4  # type: ignore[arg-type]


def test_a_calibrated_student_differs_in_one_bias(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the level that it says to have been cut at."""
    monkeypatch.setattr("nakt_fed.calibrate.FEWEST", 2)
    pictures = np.random.default_rng(0).integers(0, 256, (8, 32, 32), dtype=np.uint8)
    pseudo = PseudoSet(tmp_path / "pseudo.zarr", 32, 8, [f"p{i}" for i in range(8)])
    pseudo.add(pictures, np.where(pictures > 220, np.uint8(230), np.uint8(10)))
    pseudo.close("test")
    weights, cuts = [], []
    for calibrate in (False, True):
        out = tmp_path / str(calibrate)
        job = job_over(tmp_path / "pseudo.zarr", tmp_path, epochs=1)
        train_student(job.model_copy(update={"out": out, "calibrate": calibrate}))
        model, card = load_checkpoint(out / "student.safetensors")
        weights.append(model.state_dict())
        cuts.append(card["provenance"]["calibrated_from"])
    changed = [name for name in weights[0] if not torch.equal(weights[0][name], weights[1][name])]
    assert len(changed) == 1
    share = (cuts[1] + 0.5) / 255
    moved = (weights[1][changed[0]] - weights[0][changed[0]]).item()
    assert cuts[0] == 127 != cuts[1]
    assert moved == pytest.approx(-math.log(share / (1 - share)), abs=1e-5)


def personalising(study: Study, run: Path, least: int) -> Hospitals:
    engine = hospitals(study, run)
    for service in engine.services.values():
        service.min_evaluated = least
    return engine


def test_sites_fine_tune_the_student_and_tell_numbers(folders: Path, tmp_path: Path, plain_report: None) -> None:
    """Without annotated pictures of the coordinator's; a run that is resumed asks again and nothing is trained again."""
    sites = [
        {"name": name, "images": f"{name}/images", "masks": f"{name}/masks", "test_share": share, "teacher": UNET}
        for name, share in {"ann": 0.5, "bob": 0.0}.items()
    ]
    tuned = {"at_sites": True, "epochs": 1, "batch_size": 4}
    study = tiny_study(folders, site=sites, fine_tune=tuned, student={**UNET, "epochs": 1}, transferal={"views": 0})
    engine = personalising(study, tmp_path, 2)
    run_study(study, tmp_path, engine, train_student)
    told = json.loads((tmp_path / "results.json").read_text())
    assert told["personalised"]["ann"]["n"] == 4
    assert told["personalised"]["bob"] == {"refused": "too_few_images"}
    assert "student+fine_tune" not in told["dice"]
    assert not (tmp_path / "fine_tune").exists()
    sent = (tmp_path / "student.safetensors").read_bytes()
    assert [request.blob for name, request in engine.asked if request.kind == "personalise"] == [b"", sent, b"", b""]
    again = personalising(study, tmp_path, 2)
    run_study(study, tmp_path, again, train_student)
    assert json.loads((tmp_path / "results.json").read_text())["personalised"] == told["personalised"]
    assert not any(request.blob for name, request in again.asked if request.kind == "personalise")
