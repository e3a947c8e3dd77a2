"""Networks: parameter counts from DESIGN §4, shapes, names, and what is refused."""

import socket
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nakt_fed.errors import StudyError
from nakt_fed.networks import NETWORKS, build_network, describe, resolve
from nakt_fed.networks.attunet import AttentionGate
from nakt_fed.networks.sdunet import RATES, StackedDilation, shares
from nakt_fed.networks.unet import PlainSkip, UNet
from nakt_fed.recipe import NetworkSpec
from nakt_fed.study.learners import TeacherSpec

SMP = ("unetplusplus", "manet", "linknet", "pspnet", "deeplabv3", "upernet", "segformer", "smp:unet")
SMALL = [NetworkSpec(network=name, width=8) for name in ("unet", "attunet", "sdunet")]
SMALL += [NetworkSpec(network=name) for name in ("deeplabv3plus", "panoptic_fpn", *SMP, "dpt")]


def parameters(module: nn.Module) -> int:
    return sum(tensor.numel() for tensor in module.parameters())


def conv3(before: int, after: int) -> int:
    """3×3 weights and bias, and the two vectors of batch normalisation."""
    return 9 * before * after + after + 2 * after


def unet_count(operation, up, head: int = 64 + 1) -> int:  # type: ignore[no-untyped-def]
    """The construction of DESIGN §4 added up by hand: five operations down, four up, 1×1 head."""
    channels = [64, 128, 256, 512, 1024]
    down = sum(operation(before, after) for before, after in pairwise([1, *channels]))
    return down + sum(up(2 * n, n) + operation(2 * n, n) for n in channels[:-1]) + head


def double(before: int, after: int) -> int:
    return conv3(before, after) + conv3(after, after)


def stacked(before: int, n: int) -> int:
    parts = [n // 2, n // 4, n // 8, n // 16, n // 16]
    return sum(conv3(a, b) for a, b in pairwise([before, *parts]))


def transposed(before: int, after: int) -> int:
    return 4 * before * after + after


GATES = sum(2 * (n * n // 2 + n // 2 + n) + (n // 2 + 1 + 2) for n in (64, 128, 256, 512))


@pytest.mark.parametrize(
    ("name", "millions", "exact"),
    [
        ("unet", 31.04, unet_count(double, transposed)),
        ("attunet", 34.88, unet_count(double, conv3) + GATES),
        ("sdunet", 11.70, unet_count(stacked, transposed)),
        ("deeplabv3plus", 12.32, None),
        ("panoptic_fpn", 13.04, None),
    ],
)
def test_parameter_counts(name: str, millions: float, exact: int | None) -> None:
    count = parameters(build_network(NetworkSpec(network=name)))
    assert round(count / 1e6, 2) == millions
    assert exact in (None, count)


def test_gates_are_a_hundredth_of_the_attention_unet() -> None:
    gates = parameters(build_network(NetworkSpec(network="attunet")).gate)  # type: ignore[arg-type]
    assert gates == GATES
    assert round(gates / 1e6, 2) == 0.35


@pytest.mark.slow
@pytest.mark.parametrize("spec", SMALL, ids=describe)
def test_logits_have_the_size_of_the_pictures(spec: NetworkSpec) -> None:
    torch.manual_seed(0)
    model = build_network(spec)
    for size in (32, 96):
        with torch.no_grad():
            assert model.train()(torch.rand(2, 1, size, size)).shape == (2, 1, size, size)
            logits = model.eval()(torch.rand(1, 1, size, size))
        assert logits.shape == (1, 1, size, size)
        assert torch.isfinite(logits).all()


def test_pan_needs_128_pixels() -> None:
    model = build_network(NetworkSpec(network="pan")).eval()
    with torch.no_grad():
        assert model(torch.rand(1, 1, 128, 128)).shape == (1, 1, 128, 128)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_makes_several_classes_and_learns_in_all_parts(name: str) -> None:
    torch.manual_seed(0)
    model = NETWORKS[name](in_channels=1, classes=3, **({"width": 8} if name in ("unet", "attunet", "sdunet") else {}))
    logits = model(torch.rand(2, 1, 64, 64))
    assert logits.shape == (2, 3, 64, 64)
    logits.square().mean().backward()
    assert [key for key, tensor in model.named_parameters() if tensor.grad is None] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_same_seed_same_weights(name: str) -> None:
    states = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        states.append(build_network(NetworkSpec(network=name)).state_dict())
    assert all(torch.equal(tensor, states[1][key]) for key, tensor in states[0].items())
    assert any(not torch.equal(tensor, states[2][key]) for key, tensor in states[0].items())


def test_logits_do_not_depend_on_the_rest_of_the_batch() -> None:
    torch.manual_seed(0)
    pictures = torch.rand(3, 1, 32, 32)
    for spec in SMALL[:3]:
        model = build_network(spec).eval()
        with torch.no_grad():
            torch.testing.assert_close(model(pictures)[1:2], model(pictures[1:2]), rtol=1e-4, atol=1e-5)


def test_nothing_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"network access: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    for spec in (*SMALL, NetworkSpec(network="fpn", encoder="tu-resnet18")):
        build_network(spec)


@given(st.integers(8, 300))
def test_shares_sum_to_the_operations_channels(channels: int) -> None:
    assert sum(shares(channels)) == channels
    assert min(shares(channels)) >= 1


def test_shares_are_the_papers() -> None:
    assert shares(64) == [32, 16, 8, 4, 4]


def test_dilations_reach_31_pixels() -> None:
    """Radius of the last output: 1 + 3 + 6 + 9 + 12 = 31, so pixel 31 away counts and pixel 32 away does not."""
    torch.manual_seed(0)
    operation = StackedDilation(1, 16).eval()
    picture = torch.zeros(1, 1, 1, 80, requires_grad=True)
    for conv in operation.convs:
        nn.init.ones_(conv[0].weight)  # type: ignore[index]
        nn.init.ones_(conv[0].bias)  # type: ignore[index]
    operation(picture)[0, -1, 0, 40].backward()
    assert picture.grad is not None
    reached = picture.grad[0, 0, 0].nonzero().flatten()
    assert (int(reached.min()), int(reached.max())) == (40 - sum(RATES), 40 + sum(RATES))


def test_gate_scales_every_pixel_by_one_number_between_0_and_1() -> None:
    torch.manual_seed(0)
    gate, skipped = AttentionGate(8).eval(), torch.rand(2, 8, 5, 5) + 0.1
    alpha = gate(torch.rand(2, 8, 5, 5), skipped) / skipped
    torch.testing.assert_close(alpha, alpha[:, :1].expand_as(alpha))
    assert ((alpha > 0) & (alpha < 1)).all()


def test_an_open_gate_is_a_plain_skip() -> None:
    """With ψ's bias so high that σ = 1, the gated network equals the same network without gates."""
    torch.manual_seed(0)
    gated = UNet(width=8, gate=AttentionGate).eval()
    plain = UNet(width=8).eval()
    plain.load_state_dict({key: value for key, value in gated.state_dict().items() if not key.startswith("gate")})
    assert isinstance(plain.gate[0], PlainSkip)
    for gate in gated.gate:
        nn.init.constant_(gate.psi[1].bias, 100.0)  # type: ignore[union-attr,index]
    picture = torch.rand(1, 1, 32, 32)
    assert torch.equal(gated(picture), plain(picture))


@pytest.mark.parametrize(
    ("given_spec", "resolved"),
    [
        ({"network": "UNet"}, {"network": "unet", "width": 64}),
        ({"network": "smp:Unet"}, {"network": "smp:unet", "encoder": "resnet18"}),
        ({"network": "FPN"}, {"network": "panoptic_fpn", "encoder": "resnet18"}),
        ({"network": "smp:FPN"}, {"network": "panoptic_fpn", "encoder": "resnet18"}),
        ({"network": "DeepLabV3Plus"}, {"network": "deeplabv3plus", "encoder": "resnet18"}),
        ({"network": "smp:segformer", "encoder": "mit_b0"}, {"network": "segformer", "encoder": "mit_b0"}),
        ({"network": "dpt"}, {"network": "dpt", "encoder": "tu-vit_tiny_patch16_224"}),
        ({"network": "not.Imported:Here", "width": 3}, {"network": "not.Imported:Here", "width": 3}),
    ],
)
def test_resolve_writes_defaults_out(given_spec: dict[str, object], resolved: dict[str, object]) -> None:
    expected = NetworkSpec.model_validate(resolved)
    assert resolve(NetworkSpec.model_validate(given_spec)) == expected
    assert resolve(TeacherSpec.model_validate(given_spec)) == expected
    assert resolve(expected) == expected


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"network": "unett"}, "'unet'"),
        ({"network": "deeplab"}, "'deeplabv3'"),
        ({"network": "zzz"}, "known here: .*panoptic_fpn"),
        ({"network": "smp:zzz"}, "module:factory"),
        ({"network": "unet", "encoder": "resnet18"}, "has no encoder.*'resnet18'; remove it"),
        ({"network": "deeplabv3plus", "width": 16}, "width = 16; remove width"),
        ({"network": "sdunet", "width": 4}, "width = 8 or more, got 4"),
        ({"network": "panoptic_fpn", "encoder": "resnet81"}, "'resnet81'; near it: .*resnet18"),
        ({"network": "panoptic_fpn", "encoder": "timm-regnetx_002"}, "tu-regnetx_002"),
        ({"network": "panoptic_fpn", "encoder": "tu-hf_hub:someone/resnet18"}, "unknown encoder"),
        ({"network": "panoptic_fpn", "encoder": "%"}, "near it: resnet18"),
    ],
)
def test_resolve_refuses_with_a_remedy(spec: dict[str, object], told: str) -> None:
    with pytest.raises(StudyError, match=told):
        resolve(NetworkSpec.model_validate(spec))


@pytest.mark.parametrize(
    ("network", "encoder"), [("deeplabv3plus", "vgg11"), ("unetplusplus", "mit_b0"), ("dpt", "resnet18")]
)
def test_an_encoder_that_does_not_fit_is_refused(network: str, encoder: str) -> None:
    with pytest.raises(StudyError, match=f"'{network}' cannot use encoder '{encoder}'.*another encoder"):
        build_network(NetworkSpec(network=network, encoder=encoder))


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = "nakt_test_own_networks"
    (tmp_path / f"{name}.py").write_text(
        "from torch import nn\n"
        "def thin(in_channels, classes, width=4):\n"
        "    return nn.Sequential(nn.Conv2d(in_channels, width, 1), nn.Conv2d(width, classes, 1))\n"
        "def text(in_channels, classes):\n"
        "    return 'no network'\n"
        "def raises(in_channels, classes):\n"
        "    raise KeyError('depth')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_a_users_own_factory(own_module: str) -> None:
    assert parameters(build_network(NetworkSpec(network=f"{own_module}:thin"))) == 4 + 4 + 4 + 1
    assert parameters(build_network(NetworkSpec(network=f"{own_module}:thin", width=2))) == 2 + 2 + 2 + 1


@pytest.mark.parametrize(
    ("attribute", "settings", "told"),
    [
        ("thin", {"encoder": "resnet18"}, r"thin\(.*encoder='resnet18'\) cannot be called .*'encoder'"),
        ("raises", {}, r"failed: KeyError: 'depth' \(nakt_test_own_networks.py, line 7\); mend it there"),
        ("text", {}, "made a str; let the factory return"),
        ("thick", {}, "no attribute 'thick'; write 'module:name'"),
        ("", {}, "write 'module:name'"),
    ],
)
def test_a_factory_that_does_not_fit_is_refused(
    own_module: str, attribute: str, settings: dict[str, object], told: str
) -> None:
    with pytest.raises(StudyError, match=told):
        build_network(NetworkSpec.model_validate({"network": f"{own_module}:{attribute}", **settings}))


def test_a_module_that_fails_on_import_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nakt_test_broken.py").write_text("width = \n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(StudyError, match=r"SyntaxError: invalid syntax \(nakt_test_broken.py, line 1\); mend it there"):
        build_network(NetworkSpec(network="nakt_test_broken:net"))


@pytest.mark.parametrize("network", ["no_such_module_of_mine:net", ":net"])
def test_a_module_that_is_not_there_is_refused(network: str) -> None:
    with pytest.raises(StudyError, match=r"cannot be imported.*PYTHONPATH"):
        build_network(NetworkSpec(network=network))


def test_describe() -> None:
    assert describe(NetworkSpec(network="unet", width=16)) == "unet (width 16)"
    assert describe(NetworkSpec(network="a:b")) == "a:b"
