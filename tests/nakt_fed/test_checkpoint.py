"""Checkpoints: what is saved comes back, and everything else is refused with the file's name and a remedy."""

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from nakt_fed import weights, whole_file
from nakt_fed.checkpoint import load_checkpoint, save_checkpoint
from nakt_fed.data.pictures import PREPROCESSING
from nakt_fed.errors import CheckpointError, StudyError
from nakt_fed.networks import NETWORKS, build_network
from nakt_fed.recipe import NetworkSpec

SPEC = NetworkSpec(network="unet", width=2)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A good checkpoint, for a test to damage."""
    torch.manual_seed(0)
    path = tmp_path / "teacher.safetensors"
    save_checkpoint(path, build_network(SPEC), SPEC, site="north")
    return path


def edit_card(path: Path, **changes: Any) -> None:
    card = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(card | changes))


def edit_weights(path: Path, edit: Any) -> None:
    """Change tensors and make the hash right again."""
    weights = load_file(path)
    edit(weights)
    save_file(weights, path)
    edit_card(path, weights_sha256=hashlib.sha256(path.read_bytes()).hexdigest())


def refused(path: Path, told: str, expect: NetworkSpec | None = None) -> None:
    """The message names the file and says what is asked for."""
    with pytest.raises(CheckpointError, match=told) as error:
        load_checkpoint(path, expect)
    assert str(path) in str(error.value) or str(path.with_suffix(".json")) in str(error.value)


@pytest.mark.parametrize("name", [*NETWORKS, "smp:unet"])
def test_round_trip(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    spec = NetworkSpec(network=name, width=8 if name in ("unet", "attunet", "sdunet") else None)
    model, pictures = build_network(spec), torch.rand(2, 1, 32, 32)
    with torch.no_grad():
        model.train()(pictures)  # moves the running statistics, which are part of the state
        save_checkpoint(tmp_path / "net.safetensors", model, spec)
        again, _ = load_checkpoint(tmp_path / "net.safetensors", spec)
        assert not again.training
        assert torch.equal(again(pictures), model.eval()(pictures))


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), width=st.integers(2, 5), note=st.text(max_size=8), count=st.integers())
def test_any_weights_and_provenance_come_back(
    tmp_path_factory: pytest.TempPathFactory, seed: int, width: int, note: str, count: int
) -> None:
    torch.manual_seed(seed)
    path, spec = tmp_path_factory.mktemp("any") / "net.safetensors", NetworkSpec(network="attunet", width=width)
    model = build_network(spec)
    save_checkpoint(path, model, spec, note=note, count=count)
    again, info = load_checkpoint(path)
    assert info["provenance"] == {"note": note, "count": count}
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items())


def test_the_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "student.safetensors"
    spec = NetworkSpec(network="Panoptic_FPN")
    save_checkpoint(path, build_network(spec), spec, sites=["a", "b"], dice=np.float64(0.5), torch=torch.__version__)
    card = json.loads(path.with_suffix(".json").read_text())
    assert card == {
        "version": 1,
        "network": {"network": "panoptic_fpn", "width": None, "encoder": "resnet18", "classes": 1},
        "preprocessing": PREPROCESSING,
        "weights_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "provenance": {"sites": ["a", "b"], "dice": 0.5, "torch": str(torch.__version__)},
    }
    assert load_checkpoint(path)[1] == card
    assert sorted(file.name for file in path.parent.iterdir()) == ["student.json", "student.safetensors"]


def test_same_weights_same_bytes(tmp_path: Path) -> None:
    model = build_network(SPEC)
    for name in ("a", "b"):
        save_checkpoint(tmp_path / f"{name}.safetensors", model, SPEC)
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_loading_leaves_the_random_generator_alone(saved: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_checkpoint(saved)
    assert torch.equal(torch.rand(3), expected)


def test_defaults_written_or_not_are_one_architecture(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_checkpoint(path, build_network(NetworkSpec(network="fpn")), NetworkSpec(network="fpn"))
    load_checkpoint(path, NetworkSpec(network="panoptic_fpn", encoder="resnet18"))


def test_tied_and_strided_tensors_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nakt_test_tied.py").write_text(
        "from torch import nn\n"
        "def tied(in_channels, classes):\n"
        "    first, second = nn.Conv2d(1, 1, (1, 3)), nn.Conv2d(1, 1, (1, 3))\n"
        "    second.weight = first.weight\n"
        "    return nn.Sequential(first, second)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    spec, path = NetworkSpec(network="nakt_test_tied:tied"), tmp_path / "net.safetensors"
    model = build_network(spec)
    assert isinstance(model, nn.Sequential)
    model[0].weight.data = torch.rand(1, 1, 3, 2)[..., :1].transpose(2, 3)  # not contiguous
    save_checkpoint(path, model, spec)
    again, _ = load_checkpoint(path, spec)
    assert torch.equal(again(torch.ones(1, 1, 1, 8)), model(torch.ones(1, 1, 1, 8)))


def test_saving_refuses_another_ending(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"got .*net\.pt; change its ending"):
        save_checkpoint(tmp_path / "net.pt", build_network(SPEC), SPEC)


def test_saving_refuses_diverged_weights_and_keeps_the_old_file(saved: Path) -> None:
    before, model = saved.read_bytes(), build_network(SPEC)
    nn.init.constant_(model.head.bias, float("nan"))  # type: ignore[union-attr,arg-type]
    with pytest.raises(CheckpointError, match=r"head\.bias.*lower learning_rate"):
        save_checkpoint(saved, model, SPEC)
    assert saved.read_bytes() == before


def test_a_failed_write_leaves_the_old_file_and_no_draft(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    before = saved.read_bytes()
    monkeypatch.setattr(whole_file.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(saved, build_network(SPEC), SPEC)
    assert saved.read_bytes() == before
    assert sorted(file.name for file in saved.parent.iterdir()) == ["teacher.json", "teacher.safetensors"]
    load_checkpoint(saved)


def test_missing_files(saved: Path) -> None:
    refused(saved.with_name("other.safetensors"), "cannot be read .*check the path")
    refused(saved.parent, "cannot be read .*check the path")
    saved.with_suffix(".json").unlink()
    refused(saved, "teacher.json cannot be read .*copy it together with")


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00", "[" * 100_000, '{"version": 1}'])
def test_malformed_json(saved: Path, text: str) -> None:
    saved.with_suffix(".json").write_text(text)
    refused(saved, "does not describe a checkpoint.*save it anew")


def test_json_that_is_not_text(saved: Path) -> None:
    saved.with_suffix(".json").write_bytes(b'{"version": "\xff"}')
    refused(saved, "does not describe a checkpoint")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2}, "version 2, this nakt-fed reads 1; update"),
        ({"version": None}, "version None"),
        ({"extra": 1}, "extra: .*save it anew"),
        ({"network": {"network": "unet", "width": -1}}, "network.width"),
        ({"network": {"network": "unett"}}, "cannot be built: unknown network 'unett'; did you mean 'unet'"),
        ({"network": {"network": "deeplabv3plus", "encoder": "vgg11"}}, "cannot be built.*take another encoder"),
        ({"preprocessing": "color/9"}, f"'color/9', here .*{PREPROCESSING}"),
        ({"weights_sha256": "0" * 64}, "its JSON says 000000000000….*copy both again"),
    ],
)
def test_json_that_does_not_fit(saved: Path, changes: dict[str, Any], told: str) -> None:
    edit_card(saved, **changes)
    refused(saved, told)


def test_another_architecture_than_expected(saved: Path) -> None:
    told = r"holds unet \(width 2\), expected attunet \(width 64\); change"
    refused(saved, told, NetworkSpec(network="attunet"))
    refused(saved, r"expected unet \(width 4\)", NetworkSpec(network="unet", width=4))
    with pytest.raises(StudyError, match="unknown network"):  # that one is the study's fault
        load_checkpoint(saved, NetworkSpec(network="unett"))


@settings(max_examples=30, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_truncated_anywhere(tmp_path_factory: pytest.TempPathFactory, share: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "net.safetensors"
    save_checkpoint(path, build_network(SPEC), SPEC)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    refused(path, "cut off or no .safetensors file|is a pickle")


def test_a_number_type_that_torch_lacks(saved: Path) -> None:
    header = json.dumps({"a": {"dtype": "F8_E8M0", "shape": [8], "data_offsets": [0, 8]}}).encode()
    saved.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    refused(saved, "F8_E8M0.*copy it again")


@settings(max_examples=30, deadline=None)
@given(position=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_no_changed_byte_passes(tmp_path_factory: pytest.TempPathFactory, position: float, flip: int) -> None:
    path = tmp_path_factory.mktemp("flip") / "net.safetensors"
    save_checkpoint(path, build_network(SPEC), SPEC)
    data = bytearray(path.read_bytes())
    data[int(position * len(data))] ^= flip
    path.write_bytes(bytes(data))
    refused(path, "sha256|cut off|is a pickle")


@pytest.mark.parametrize("name", ["net.pt", "net.pth", "net.safetensors", "net"])
@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_unopened(tmp_path: Path, name: str, zipped: bool) -> None:
    torch.save(build_network(SPEC).state_dict(), tmp_path / name, _use_new_zipfile_serialization=zipped)
    refused(tmp_path / name, "is a pickle.*convert it.*docs/networks.md")


def test_a_header_that_begins_like_a_pickle_is_no_pickle() -> None:
    """A safetensors file opens with its header's length: 640 = 0x0280 is written 80 02, as pickle's protocol 2."""
    assert not weights._is_pickle((640).to_bytes(8, "little") + b"{")
    assert weights._is_pickle(b"\x80\x02}q\x00X\x01\x00\x00")


@pytest.mark.slow
def test_the_documented_conversion_works(tmp_path: Path) -> None:
    torch.manual_seed(1)
    spec = NetworkSpec(network="unet", width=16)
    model = build_network(spec).eval()
    torch.save(model.state_dict(), tmp_path / "teacher.pt")
    root = Path(__file__).parents[2]
    snippet = re.findall(r"```python\n(.*?)```", (root / "docs/networks.md").read_text(encoding="utf-8"), re.DOTALL)
    script = f"import sys; sys.path.insert(0, {str(root)!r})\n" + snippet[-1]
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True)
    again, info = load_checkpoint(tmp_path / "teacher.safetensors", spec)
    assert info["provenance"] == {"converted_from": "teacher.pt"}
    assert all(torch.equal(tensor, again.state_dict()[key]) for key, tensor in model.state_dict().items())


def drop_four(weights: dict[str, torch.Tensor]) -> None:
    for name in sorted(weights)[:4]:
        del weights[name]


@pytest.mark.parametrize(
    ("edit", "told"),
    [
        (drop_four, r"4 missing: decode\.0\.\S+, decode\.0\.\S+, decode\.0\.\S+, …;"),
        (lambda weights: weights.update(stray=torch.zeros(1)), "1 unexpected: stray; correct"),
        (
            lambda weights: weights.update({"head.bias": torch.zeros(2)}),
            r"head.bias \(expected float32 \(1,\), got float32 \(2,\)\)",
        ),
        (
            lambda weights: weights.update({"head.bias": torch.zeros(1, dtype=torch.float8_e5m2)}),
            r"head.bias \(expected float32 \(1,\), got float8_e5m2 \(1,\)\)",
        ),
        (lambda weights: weights["head.bias"].fill_(float("nan")), "NaN or infinite weights in head.bias; train"),
        (lambda weights: weights["head.bias"].fill_(float("-inf")), "NaN or infinite weights in head.bias"),
    ],
)
def test_tensors_that_do_not_fit(saved: Path, edit: Any, told: str) -> None:
    edit_weights(saved, edit)
    refused(saved, told)


def test_a_strangers_module_is_not_imported(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nakt_test_trap.py").write_text("raise AssertionError('imported')\n")
    monkeypatch.syspath_prepend(tmp_path)
    edit_card(saved, network={"network": "nakt_test_trap:net"})
    refused(saved, "not run at its word; if you trust that code")
    refused(saved, "not run at its word", SPEC)
    refused(saved, "not run at its word", NetworkSpec(network="nakt_test_trap:other"))
    with pytest.raises(CheckpointError, match="AssertionError: imported"):
        load_checkpoint(saved, NetworkSpec(network="nakt_test_trap:net"))
