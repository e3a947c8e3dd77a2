"""Train a network on a folder of annotated pictures."""

from collections.abc import Callable
from pathlib import Path

from nakt_fed.checkpoint import save_checkpoint
from nakt_fed.data.folders import load_annotated
from nakt_fed.data.split import split_pictures
from nakt_fed.errors import StudyError
from nakt_fed.recipe import NetworkSpec, Recipe
from nakt_fed.seeds import draw
from nakt_fed.study.trainable import refuse_useless, try_network
from nakt_fed.teacher import fresh_network
from nakt_fed.train import fit
from nakt_fed.training_state import EpochLog


def train_network(
    images: Path | str,
    masks: Path | str,
    out: Path | str,
    network: NetworkSpec,
    recipe: Recipe,
    *,
    image_size: int = 384,
    seed: int = 0,
    on_epoch: Callable[[EpochLog], None] | None = None,
) -> list[EpochLog]:
    """Train on a folder of annotated pictures; leaves teacher.safetensors, teacher.json and history.csv in `out`.

    Called again after a kill it goes on with the next epoch.

    Args:
        images: the pictures; `masks` holds a mask for each (see docs/data.md for their names).
        image_size: side in pixels of the square that pictures are resized to, a multiple of 32.
        seed: of the weights, the order, the augmentation and the choice of the validation pictures.
        on_epoch: called after every epoch.

    Returns:
        One row per epoch.

    Raises:
        DataError: a picture or mask cannot be used, or nothing can be learned from them.
        StudyError: there is no such network, or it cannot work at this size.
        RunError: the loss is not finite, or `out` holds another training.
    """
    out = Path(out)
    if network.classes != 1:
        raise StudyError(
            f"network.classes is {network.classes}; a training on one folder of masks has 1 class, leave it out"
        )
    pictures = load_annotated(Path(images), Path(masks), image_size)
    rest, held_out = split_pictures(pictures, recipe.validation, draw(seed, "validation"))
    train, validation = pictures.subset(rest), pictures.subset(held_out)
    refuse_useless(train)
    try_network(fresh_network(network, seed), network, image_size, recipe)
    out.mkdir(parents=True, exist_ok=True)
    model = fresh_network(network, seed)
    history = fit(model, train, recipe, folder=out, seed=seed, validation=validation, on_epoch=on_epoch)
    facts = {"n_images": len(train), "image_size": image_size, "epochs": len(history), "seed": seed}
    save_checkpoint(out / "teacher.safetensors", model.cpu(), network, **facts)
    return history
