import pytest
import torch

from nakt_fed import precision
from nakt_fed.precision import half_type, layout

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("wish", "has_bfloat16", "on_cpu"),
    [("auto", True, None), ("mixed", True, torch.bfloat16), ("mixed", False, None), ("float32", True, None)],
)
def test_on_a_cpu_only_when_asked_and_able(
    monkeypatch: pytest.MonkeyPatch, wish: str, has_bfloat16: bool, on_cpu: torch.dtype | None
) -> None:
    monkeypatch.setattr(precision, "cpu_has_bfloat16", lambda: has_bfloat16)
    assert half_type(wish, CPU) is on_cpu


@pytest.mark.parametrize(("has_bfloat16", "half"), [(True, torch.bfloat16), (False, torch.float16)])
def test_on_a_gpu_unless_forbidden(monkeypatch: pytest.MonkeyPatch, has_bfloat16: bool, half: torch.dtype) -> None:
    """Only the choice: no GPU is here."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bfloat16)
    assert [half_type(wish, GPU) for wish in ("auto", "mixed", "float32")] == [half, half, None]


def test_layout() -> None:
    assert layout(CPU, None) is torch.contiguous_format
    assert layout(CPU, torch.bfloat16) is layout(GPU, None) is torch.channels_last


def test_a_torch_that_does_not_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert not precision.cpu_has_bfloat16()
