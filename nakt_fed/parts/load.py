"""A checkpoint becomes a network that answers pictures."""

from pathlib import Path

from torch import Tensor, nn

from nakt_fed.checkpoint import load_checkpoint
from nakt_fed.errors import CheckpointError
from nakt_fed.recipe import NetworkSpec


class _Output(nn.Module):
    """One class of a network that knows several: (B, C, H, W) logits -> (B, 1, H, W)."""

    def __init__(self, model: nn.Module, number: int) -> None:
        super().__init__()
        self.model, self.number = model, number

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits[:, self.number : self.number + 1]


def load_predictor(
    checkpoint: Path | str, network: NetworkSpec | None = None, label: str = ""
) -> tuple[nn.Module, int]:
    """The network, and the side in pixels of the square pictures that it was trained on.

    Args:
        network: needed for a network of the user's own (`module:factory`): its code is run only when it is named here.
        label: of a network that knows several classes, the one that is wanted.

    Raises:
        CheckpointError: the checkpoint cannot be used, does not say its image_size, or does not know the class.
    """
    model, info = load_checkpoint(Path(checkpoint), expect=network)
    known = info["provenance"].get("classes", [""])
    if label not in known:
        told = f"knows {', '.join(known)}: name one of them" if known != [""] else "knows one class: leave the name out"
        raise CheckpointError(f"checkpoint {checkpoint} {told} (--class; in Python label=...)")
    if label:
        model = _Output(model, known.index(label))
    size = info["provenance"].get("image_size")
    if not isinstance(size, int):
        raise CheckpointError(
            f"checkpoint {checkpoint} does not say at which image_size it was trained; "
            "save it again with save_checkpoint(..., image_size=...)"
        )
    return model, size
