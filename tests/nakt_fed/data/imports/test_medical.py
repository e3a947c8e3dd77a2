"""DICOM and NIfTI: the pixels come out as a viewer shows them, and nothing of the patient does."""

import sys
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

from nakt_fed.data.imports.manifest import DatasetManifest, read_manifest
from nakt_fed.data.imports.private import _refuse_closed
from nakt_fed.data.imports.run import import_set
from nakt_fed.data.imports.source import Options
from nakt_fed.errors import DataError
from tests.command import nakt

SECRET = "Zacharias^Quintessa"
RAMP = np.arange(32 * 40, dtype=np.uint16).reshape(32, 40)


def write(
    path: Path, pixels: np.ndarray, patient: str = "P-4711", photometric: str = "MONOCHROME2", **more: Any
) -> Path:
    """A file as a scanner writes it, with a planted name."""
    ds = Dataset()
    ds.PatientName, ds.PatientID, ds.PatientBirthDate = SECRET, patient, "19501224"
    ds.AccessionNumber, ds.InstitutionName, ds.StudyDescription = "ACC-991", "Hospital of Zacharias", f"seen {SECRET}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID = generate_uid(), generate_uid(), generate_uid()
    ds.SOPClassUID, ds.Manufacturer, ds.ManufacturerModelName = SecondaryCaptureImageStorage, "GE", "LOGIQ E9"
    ds.PhotometricInterpretation = photometric
    ds.SamplesPerPixel = 3 if photometric == "RGB" else 1
    planes = pixels.ndim - (photometric == "RGB")
    if planes == 3:
        ds.NumberOfFrames = len(pixels)
    if photometric == "RGB":
        ds.PlanarConfiguration = 0
    ds.Rows, ds.Columns = pixels.shape[planes - 2], pixels.shape[planes - 1]
    ds.BitsAllocated = ds.BitsStored = 8 * pixels.itemsize
    ds.HighBit, ds.PixelRepresentation = ds.BitsStored - 1, int(pixels.dtype.kind == "i")
    ds.PixelData = pixels.tobytes()
    for key, value in more.items():
        setattr(ds, key, value)
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID, ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    path.parent.mkdir(parents=True, exist_ok=True)
    pydicom.dcmwrite(path, ds, enforce_file_format=True)
    return path


def pictures(src: Path, target: Path, kind: str = "dicom", **choices: Any) -> tuple[list[np.ndarray], DatasetManifest]:
    manifest = import_set(kind, src, target, test_share=0, options=Options(**choices))
    return [np.asarray(Image.open(target / entry.image)) for entry in manifest.pictures], manifest


def shown(tmp_path: Path, pixels: np.ndarray, window: tuple[float, float] | None = None, **more: Any) -> np.ndarray:
    write(tmp_path / "src/a.dcm", pixels, **more)
    [gray], _ = pictures(tmp_path / "src", tmp_path / "dst", window=window)
    return gray


def test_rescale_and_window_show_what_the_standard_says(tmp_path: Path) -> None:
    """v·2 − 1000 with centre 100 and width 201: below −0.5 black, above 199.5 white, between linear (PS3.3 C.11.2.1.2.1)."""
    gray = shown(tmp_path, RAMP, RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=100, WindowWidth=201)
    units = 2.0 * RAMP - 1000
    np.testing.assert_allclose(gray, np.clip(((units - 99.5) / 200 + 0.5) * 255, 0, 255), atol=0.51)
    assert gray.min() == 0
    assert gray.max() == 255


def test_a_window_of_ones_own_replaces_the_files(tmp_path: Path) -> None:
    gray = shown(tmp_path, RAMP, window=(600, 200), WindowCenter=1, WindowWidth=2)
    np.testing.assert_allclose(gray, np.clip((RAMP - 500.0) / 200 * 255, 0, 255), atol=0.51)


def test_monochrome_1_is_turned_over(tmp_path: Path) -> None:
    eight = (RAMP // 6).astype(np.uint8)
    np.testing.assert_array_equal(shown(tmp_path / "2", eight), eight)
    np.testing.assert_array_equal(shown(tmp_path / "1", eight, photometric="MONOCHROME1"), 255 - eight)


def test_without_a_window_sixteen_bits_are_stretched(tmp_path: Path) -> None:
    signed = RAMP.astype(np.int16) - 300
    np.testing.assert_allclose(shown(tmp_path, signed), RAMP / RAMP.max() * 255, atol=0.51)


def test_colour_becomes_luma(tmp_path: Path) -> None:
    red = np.zeros((32, 40, 3), np.uint8)
    red[..., 0] = 200
    assert set(shown(tmp_path, red, photometric="RGB").ravel()) == {60}  # 0.299 · 200


def test_every_frame_is_a_picture_and_enhanced_files_have_a_window_each(tmp_path: Path) -> None:
    groups = []
    for centre in (200, 800):
        window, frame = Dataset(), Dataset()
        window.WindowCenter, window.WindowWidth = centre, 101
        frame.FrameVOILUTSequence = [window]
        groups.append(frame)
    write(tmp_path / "src/a.dcm", np.stack([RAMP, RAMP]), PerFrameFunctionalGroupsSequence=groups)
    grays, manifest = pictures(tmp_path / "src", tmp_path / "dst")
    assert [entry.name for entry in manifest.pictures] == ["patient_0001_0001_f0001", "patient_0001_0001_f0002"]
    for gray, centre in zip(grays, (200, 800), strict=True):
        assert RAMP[gray < 128].max() == pytest.approx(centre, abs=1)


def test_nothing_of_the_patient_leaves_the_header(tmp_path: Path) -> None:
    """Names, numbers, dates and file names: in no file's name or bytes, in no message."""
    src = tmp_path / "src"
    for number, patient in enumerate(["4711-Zacharias", "4711-Zacharias", "0815-Balthasar"]):
        write(src / f"{SECRET}/IM{number}.dcm", (RAMP // (number + 5)).astype(np.uint8), patient, InstanceNumber=number)
    (src / f"{SECRET}.dcm").write_bytes(bytes(128) + b"DICM" + SECRET.encode() * 20)  # damaged
    burned = write(src / f"{SECRET}/burned.dcm", RAMP, BurnedInAnnotation="YES")
    outcome = nakt("data", "import", "dicom", src, tmp_path / "dst")
    assert outcome.code == 1 or (tmp_path / "dst").is_dir()
    said = outcome.out + outcome.err
    (src / f"{SECRET}.dcm").unlink()
    write(src / f"{SECRET}/cut.dcm", RAMP)
    cut = src / f"{SECRET}/cut.dcm"
    cut.write_bytes(cut.read_bytes()[:-500])
    outcome = nakt("data", "import", "dicom", src, tmp_path / "dst2", "--skip-damaged", "--test-share", "0.5")
    said += outcome.out + outcome.err
    assert outcome.code == 0, said
    assert "burned-in text" in said
    files = [path for path in (tmp_path / "dst2").rglob("*") if path.is_file()]
    assert len([path for path in files if path.suffix == ".png"]) == 3
    text = said + "".join(f"{path.relative_to(tmp_path)}\n{path.read_bytes().decode('latin-1')}" for path in files)
    for word in ("Zacharias", "Quintessa", "Balthasar", "4711", "0815", "1950", "ACC-991", burned.name, "IM0"):
        assert word.lower() not in text.lower(), word
    manifest = read_manifest(tmp_path / "dst2")
    assert manifest
    assert len({entry.group for entry in manifest.pictures}) == 2
    assert [fault.source for fault in manifest.faults] == ["file 5"]
    assert "GE LOGIQ E9" in text


@pytest.mark.parametrize("kind", ["dicom", "nifti"])
def test_a_file_that_cannot_be_opened_is_not_named(tmp_path: Path, kind: str) -> None:
    lost = tmp_path / "src" / SECRET / "lost.dcm"
    lost.parent.mkdir(parents=True)
    lost.symlink_to(tmp_path / SECRET / "gone.dcm")
    done = nakt("data", "import", kind, tmp_path / "src", tmp_path / "out")
    assert done.code == 1
    assert "1 of 1 entries below the folder cannot be opened as files, such as links that lead nowhere" in done.err
    assert SECRET not in done.err


def test_a_folder_or_file_that_may_not_be_read_is_not_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / SECRET / "a.dcm", RAMP)
    real = Path.open

    def closed(self: Path, *arguments: Any, **more: Any) -> Any:
        if self == path:
            raise PermissionError(13, "Permission denied", str(path))
        return real(self, *arguments, **more)

    monkeypatch.setattr(Path, "open", closed)
    with pytest.raises(DataError, match=r"^file 1 cannot be read as a file \(PermissionError\)") as told:
        import_set("dicom", tmp_path, tmp_path.parent / "out")
    assert SECRET not in str(told.value)
    with pytest.raises(DataError, match=r"^a folder below may not be read \(Permission denied\); change"):
        _refuse_closed(PermissionError(13, "Permission denied", str(path)))


def test_dicom_masks_lie_beside_under_the_same_path(tmp_path: Path) -> None:
    src = tmp_path / "src"
    box = np.zeros((32, 40), np.uint8)
    box[4:20, 8:24] = 1
    write(src / "images/a/1.dcm", RAMP)
    write(src / "masks/a/1.dcm", box)
    write(src / "images/b.dcm", np.flipud(RAMP), "other")
    (src / "masks/b.png").write_bytes(b"")
    Image.fromarray(255 * box).save(src / "masks/b.png")
    _, manifest = pictures(src, tmp_path / "dst")
    assert [entry.foreground for entry in manifest.pictures] == [0.2, 0.2]  # 16 · 16 of 32 · 40


def volume(path: Path, data: np.ndarray, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(data, np.eye(4) if affine is None else affine), path)


def body(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(100, 30, (24, 16, 3)).astype(np.float32)


def test_nifti_slices_are_upright_and_masks_follow(tmp_path: Path) -> None:
    """Right-anterior-superior: the patient's right front corner comes to the upper left."""
    data, mask = body(1), np.zeros((24, 16, 3), np.uint8)
    mask[20:, 12:, 1] = 1  # right, anterior, middle slice
    volume(tmp_path / "src/imagesTr/case_0001.nii.gz", data)
    volume(tmp_path / "src/labelsTr/case_0001.nii.gz", mask)
    volume(tmp_path / "src/imagesTr/case_0002.nii.gz", body(2))
    volume(tmp_path / "src/labelsTr/case_0002.nii.gz", mask)
    grays, manifest = pictures(tmp_path / "src", tmp_path / "dst", "nifti", window=(100, 200))
    assert [gray.shape for gray in grays] == [(16, 24)] * 6
    assert {entry.group for entry in manifest.pictures} == {"patient 1", "patient 2"}
    truth = np.asarray(Image.open(tmp_path / "dst" / str(manifest.pictures[1].mask)))
    assert truth[:4, :4].min() == 255
    assert truth.mean() == pytest.approx(255 * 16 / (16 * 24))
    assert "case" not in manifest.model_dump_json()


def test_nnunet_channels_and_masks_beside_are_known(tmp_path: Path) -> None:
    mask = np.ones((24, 16, 3), np.uint8)
    volume(tmp_path / "src/imagesTr/liver_0000.nii.gz", body(1))
    volume(tmp_path / "src/imagesTr/liver_0001.nii.gz", body(2))
    volume(tmp_path / "src/labelsTr/liver.nii.gz", mask)
    volume(tmp_path / "src/sub-07/x.nii", body(3))
    volume(tmp_path / "src/sub-07/x_seg.nii", mask)
    _, manifest = pictures(tmp_path / "src", tmp_path / "dst", "nifti")
    assert len(manifest.pictures) == 6
    assert [(part.why, part.count) for part in manifest.left_out] == [("that are further channels of a volume", 1)]


def test_a_label_map_needs_a_choice(tmp_path: Path) -> None:
    mask = np.zeros((24, 16, 3), np.uint8)
    mask[:12], mask[12:18] = 1, 2
    volume(tmp_path / "src/a.nii", body(1))
    volume(tmp_path / "src/a_seg.nii", mask)
    with pytest.raises(DataError, match=r"file 1 holds the labels 1, 2; .*--label"):
        pictures(tmp_path / "src", tmp_path / "dst", "nifti")
    _, manifest = pictures(tmp_path / "src", tmp_path / "dst", "nifti", labels=(2,))
    assert {entry.foreground for entry in manifest.pictures} == {0.25}


@pytest.mark.parametrize(("kind", "package"), [("dicom", "pydicom"), ("nifti", "nibabel")])
def test_a_missing_package_is_named_with_its_remedy(
    kind: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "src/a.dcm", RAMP)
    volume(tmp_path / "src/a.nii", body(1))
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(DataError, match=rf"{package}; install it: pip install 'nakt-fed\[medical\]'"):
        pictures(tmp_path / "src", tmp_path / "dst", kind)
