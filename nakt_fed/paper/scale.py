"""At which scale the experiments are made: the paper's exact recipe (A.3), or one for two cores."""

from dataclasses import dataclass
from typing import Any

from nakt_fed.study.file import PAPER_RECIPE

TEACHER = "deeplabv3plus"
STUDENTS = {"unet": "U-Net", "attunet": "AttU-Net", "sdunet": "SDU-Net", "panoptic_fpn": "Panoptic"}
NETWORKS = {**STUDENTS, TEACHER: "DeepLabv3+"}
"""As the paper's tables call them."""

FEW = 50
"""Annotated pictures for fine-tuning (section 5.2)."""


@dataclass(frozen=True)
class Scale:
    """Sizes and recipes; `epochs` of a student by transferal set, else `shown` divided by the number of pictures.

    Attributes:
        image_size: side in pixels.
        networks: settings of each network.
        recipe: of every training, without the epochs.
        teacher, weak, tuning: epochs of teachers, of the under-trained ones (section 5.3), and of fine-tuning and from scratch.
        max_entropy: β in bits; None: such that the teacher's answers to Baheya keep the share that they keep in the paper.
        says: what has to stand beside every number.
    """

    name: str
    image_size: int
    networks: dict[str, dict[str, Any]]
    recipe: dict[str, Any]
    teacher: int
    weak: int
    tuning: int
    epochs: dict[str, int]
    shown: int
    max_entropy: float | None
    says: str

    def network(self, name: str) -> dict[str, Any]:
        """A NetworkSpec as plain JSON."""
        return {"network": name, **self.networks.get(name, {})}

    def student_epochs(self, transferal: str, pictures: int) -> int:
        """Inversely proportional to the number of pictures (A.3)."""
        return self.epochs.get(transferal) or max(2, round(self.shown / pictures))


PAPER = Scale(
    name="paper",
    image_size=384,
    networks={},
    recipe={**PAPER_RECIPE, "validation": 0.0, "precision": "float32"},
    teacher=500,
    weak=10,
    tuning=50,
    epochs={"baheya": 500, "thyroid": 175, "nerve": 60, "skin": 30, "voc": 30},
    shown=0,
    max_entropy=2.5,
    says="the paper's recipe: 384×384, Adam 1e-4, batch 4, its epochs (VOC: not stated there, 30; weak teachers: 'a few', 10)",
)
SMALL = Scale(
    name="small",
    image_size=64,
    networks={
        **{name: {"width": 16} for name in ("unet", "attunet", "sdunet")},
        **{name: {"encoder": "resnet18"} for name in ("panoptic_fpn", TEACHER)},
    },
    recipe={
        "learning_rate": 1e-3,
        "batch_size": 4,
        "schedule": "cosine",
        "ema": 0.99,
        "augment": "paper",
        "validation": 0.0,
        "precision": "float32",
    },
    teacher=40,
    weak=5,
    tuning=20,
    epochs={},
    shown=2400,
    max_entropy=None,
    says="small scale: 64×64, narrow networks, Adam 1e-3 with a cosine, a few hundred steps; not the paper's recipe",
)
SCALES = {scale.name: scale for scale in (PAPER, SMALL)}
