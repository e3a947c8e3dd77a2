"""Tiny replicas of the published layouts: the folder, file and column names of the archives, with pictures of our own."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

WIDTH, HEIGHT = 40, 32
BOX = (8, 6, 20, 18)
"""Left, top, right, bottom (behind the last) of what the masks mark."""


def scene(number: int) -> Image.Image:
    """Blobs that differ from number to number: never near-duplicates of each other."""
    noise = gaussian_filter(np.random.default_rng(number).standard_normal((HEIGHT, WIDTH)), 2)
    return Image.fromarray(np.uint8(np.clip(127 + 400 * noise, 0, 255)))


def box(
    left: int = BOX[0], top: int = BOX[1], right: int = BOX[2], bottom: int = BOX[3], value: int = 255
) -> Image.Image:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[top:bottom, left:right] = value
    return Image.fromarray(mask)


def save(picture: Image.Image, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)
    return path


def busi(src: Path) -> Path:
    """benign (2) has two masks; malignant (2) is benign (1) again, brighter; two normal pictures."""
    root = src / "Dataset_BUSI_with_GT"
    for number in range(1, 7):
        save(scene(number).convert("RGB"), root / f"benign/benign ({number}).png")
        save(box(), root / f"benign/benign ({number})_mask.png")
    save(box(30, 20, 36, 30), root / "benign/benign (2)_mask_1.png")
    for number in (1, 3, 4):
        save(scene(10 + number), root / f"malignant/malignant ({number}).png")
        save(box().convert("1"), root / f"malignant/malignant ({number})_mask.png")
    save(scene(1).point(lambda value: min(255, value + 20)), root / "malignant/malignant (2).png")
    save(box(), root / "malignant/malignant (2)_mask.png")
    for number in (1, 2):
        save(scene(20 + number), root / f"normal/normal ({number}).png")
        save(box(value=0), root / f"normal/normal ({number})_mask.png")
    return src


def nerve(src: Path) -> Path:
    for subject in (1, 2, 10):
        for number in (1, 2, 3):
            save(scene(10 * subject + number), src / f"train/{subject}_{number}.tif")
            save(box(value=255 * (number % 2)), src / f"train/{subject}_{number}_mask.tif")
    for number in (1, 2):
        save(scene(500 + number), src / f"test/{number}.tif")
    (src / "train_masks.csv").write_text("subject,img,pixels\n1,1,1 1\n")
    return src


def isic(src: Path, pictures: str, truth: str, first: int) -> None:
    for number in range(first, first + 3):
        save(scene(number).convert("RGB"), src / f"{pictures}/ISIC_{number:07d}.jpg")
        save(scene(900 + number), src / f"{pictures}/ISIC_{number:07d}_superpixels.png")
        save(box(), src / f"{truth}/ISIC_{number:07d}_segmentation.png")
    (src / f"{pictures}_metadata.csv").write_text("image_id,age_approximate,sex\n")


def isic2017(src: Path) -> Path:
    isic(src, "ISIC-2017_Training_Data", "ISIC-2017_Training_Part1_GroundTruth", 0)
    isic(src, "ISIC-2017_Validation_Data", "ISIC-2017_Validation_Part1_GroundTruth", 10)
    isic(src, "ISIC-2017_Test_v2_Data", "ISIC-2017_Test_v2_Part1_GroundTruth", 20)
    return src


def isic2018(src: Path) -> Path:
    isic(src, "ISIC2018_Task1-2_Training_Input", "ISIC2018_Task1_Training_GroundTruth", 0)
    isic(src, "ISIC2018_Task1-2_Validation_Input", "ISIC2018_Task1_Validation_GroundTruth", 10)
    return src


def isic2019(src: Path) -> Path:
    """The third has no lesion number, the fourth a name as the archive's made-smaller pictures have."""
    names = ["ISIC_0000000", "ISIC_0000001", "ISIC_0000002", "ISIC_0000022_downsampled"]
    for number, name in enumerate(names):
        save(scene(number).convert("RGB"), src / f"ISIC_2019_Training_Input/{name}.jpg")
    metadata = [f"{name},55,anterior torso,{'' if i == 2 else 'MSK4_0011169'},female" for i, name in enumerate(names)]
    head = "image,age_approx,anatom_site_general,lesion_id,sex"
    (src / "ISIC_2019_Training_Metadata.csv").write_text("\n".join([head, *metadata, ""]))
    truth = ["image,MEL,NV,BCC,AK,BKL,DF,VASC,SCC,UNK", *(f"{name},0.0,1.0,0,0,0,0,0,0,0" for name in names)]
    (src / "ISIC_2019_Training_GroundTruth.csv").write_text("\n".join(truth))
    return src


def voc2012(src: Path) -> Path:
    """Two of four pictures have a map: class 15 in a box, and index 255, the void border, at the picture's right side."""
    root = src / "VOCdevkit/VOC2012"
    for number in range(4):
        save(scene(number).convert("RGB"), root / f"JPEGImages/2007_00000{number}.jpg")
    for number in (0, 2):
        classes = np.asarray(box(value=15)).copy()
        classes[:, -3:] = 255
        picture = Image.fromarray(classes, "L").convert("P")
        picture.putdata(classes.ravel().tolist())
        picture.putpalette([value for index in range(256) for value in (index, 0, 255 - index)])
        save(picture, root / f"SegmentationClass/2007_00000{number}.png")
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000000\n")
    (lists / "val.txt").write_text("2007_000002\n")
    return src


def ddti(src: Path) -> Path:
    """Case 2 has two pictures; of case 3 the outline is cut off behind its last point, as in two published cases."""
    corners = [(8, 6), (19, 6), (19, 17), (8, 17)]
    outline = {"points": [{"x": x, "y": y} for x, y in corners], "annotation": {}, "regionType": "freehand"}
    whole = json.dumps([outline])
    cases = {"1": {"1": whole}, "2": {"1": whole, "2": whole}, "3": {"1": whole[:-20]}, "4": {"1": ""}}
    for case, marks in cases.items():
        text = "".join(f"<mark><image>{image}</image><svg>{svg}</svg></mark>" for image, svg in marks.items())
        (src / f"{case}.xml").write_text(f"<case><number>{case}</number><age>49</age><sex>F</sex>{text}</case>")
        for image in marks:
            save(scene(int(case) * 10 + int(image)).convert("RGB"), src / f"{case}_{image}.jpg")
    return src


def busbra(src: Path) -> Path:
    root, rows = src / "BUSBRA", ["ID,Case,Histology,Pathology,BIRADS,Device,Width,Height,Side,BBOX"]
    for case in range(1, 5):
        for side in "lr":
            save(scene(case * 10 + ord(side)), root / f"Images/bus_{case:04d}-{side}.png")
            save(box().convert("1"), root / f"Masks/mask_{case:04d}-{side}.png")
            rows.append(
                f'bus_{case:04d}-{side},{case},fibroadenoma,benign,4,GE Logiq 7 @10-14MHz,40,32,left,"[8,6,12,12]"'
            )
    (root / "bus_data.csv").write_text("\n".join(rows))
    return src


LAYOUTS: dict[str, Callable[[Path], Path]] = {
    make.__name__: make for make in (busi, nerve, isic2017, isic2018, isic2019, voc2012, ddti, busbra)
}
