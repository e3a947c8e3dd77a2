"""Mixed precision: products in 16 bits where the hardware multiplies them faster, weights and losses in 32."""

import torch


def half_type(precision: str, device: torch.device) -> torch.dtype | None:
    """The 16-bit type that a training computes its products in; None for 32 bits throughout.

    Args:
        precision: "auto" (on a GPU only), "mixed" (also on a CPU that has bfloat16), or "float32".
    """
    if precision == "float32":
        return None
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if precision == "mixed" and cpu_has_bfloat16() else None


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 itself (AMX, AVX512-BF16); on any other it would be slower than float32."""
    probes = (getattr(torch.cpu, name, None) for name in ("_is_amx_tile_supported", "_is_avx512_bf16_supported"))
    return any(probe() for probe in probes if probe)


def layout(device: torch.device, half: torch.dtype | None) -> torch.memory_format:
    """The order of a tensor's elements that convolutions are fastest in."""
    return torch.channels_last if half or device.type == "cuda" else torch.contiguous_format
