"""A student judged at a site, and what no request, however malformed, gets out of one."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load, save
from torch import nn

from nakt_fed.checkpoint import is_saved
from nakt_fed.data.folders import load_annotated
from nakt_fed.data.synthetic import synthetic_set
from nakt_fed.errors import AnswerError
from nakt_fed.exchange import Reply, Request
from nakt_fed.networks import build_network
from nakt_fed.predict import normalise, soft_masks, to_input
from nakt_fed.recipe import NetworkSpec
from nakt_fed.service import TeacherService
from nakt_fed.site.gate import Gate
from nakt_fed.site.receipts import verify
from nakt_fed.site.sent_student import student
from tests.nakt_fed.site.hospital import SECRET, Coordinator, service_of, site_file, write_key, write_private
from tests.tiny import SIZE, dark

COUNT = 12
UNET = {"network": "unet", "width": 2}
Ward = tuple[Gate, list[Request], Coordinator]


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve annotated pictures whose files are called after a patient."""
    return write_private(tmp_path_factory.mktemp("ward"), COUNT)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    write_key(tmp_path)
    return tmp_path


def weights(seed: int = 1, spec: dict[str, Any] = UNET) -> bytes:
    """A student that answers neither all nor nothing: without a bias, and used to pictures."""
    model = random_network(seed, spec).train()
    pictures = normalise(to_input(synthetic_set(8, SIZE, 0).images))
    with torch.no_grad():
        list(model.parameters())[-1].zero_()
        for _ in range(20):
            model(pictures)
    return save(model.state_dict())


def random_network(seed: int, spec: dict[str, Any]) -> nn.Module:
    torch.manual_seed(seed)
    return build_network(NetworkSpec(**spec))


def gate_of(home: Path, private: Path, **policy: Any) -> Gate:
    """Its teacher takes what is dark for a target."""
    file = site_file(home, private, **{"evaluate_student": True, **policy})
    return Gate(file, service_of(file, dark))


def outcome(reply: Reply) -> str:
    return "ok" if reply.ok else str(reply.meta["reason"])


def reference_dice(masks: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """By sets of pixels. Both empty: 1."""
    pairs = [(set(np.flatnonzero(m > 127)), set(np.flatnonzero(t > 127))) for m, t in zip(masks, truth, strict=True)]
    return np.array([2 * len(p & t) / (len(p) + len(t)) if p or t else 1.0 for p, t in pairs])


def test_mean_spread_and_number_leave_and_no_more(home: Path, private: Path) -> None:
    blob = weights()
    reply = gate_of(home, private).handle(Coordinator(home).judge(blob, UNET))
    pictures = load_annotated(private / "images", private / "masks", SIZE)
    model = build_network(NetworkSpec(**UNET))
    model.load_state_dict(load(blob))
    answers = {"student": soft_masks(model, pictures.images), "teacher": 255 - pictures.images}
    assert reply.ok, reply.meta
    assert reply.blob == b""
    assert reply.meta.keys() == {"n", "student", "teacher"}
    assert reply.meta["n"] == COUNT
    for name, masks in answers.items():
        scores = reference_dice(masks, pictures.masks)
        assert reply.meta[name] == {"mean": round(scores.mean(), 4), "std": round(scores.std(), 4)}
        assert 0 < reply.meta[name]["mean"] < 1


def test_too_few_pictures_say_no_number(home: Path, private: Path) -> None:
    enough = gate_of(home, private, min_evaluated=COUNT)
    assert outcome(enough.handle(Coordinator(home).judge(weights(5), UNET))) == "ok"
    few = gate_of(home, private, min_evaluated=COUNT + 1).handle(Coordinator(home).judge(weights(2), UNET))
    assert outcome(few) == "too_few_images"
    assert not any(letter.isdigit() for letter in few.meta["message"])


def test_pictures_without_a_target_do_not_count_for_the_minimum(home: Path, tmp_path: Path) -> None:
    """A mean over many empty pictures says much of the few others."""
    ward = write_private(tmp_path / "ward", COUNT)
    for mask in sorted((ward / "masks").iterdir())[:3]:
        Image.new("L", (SIZE, SIZE)).save(mask)
    few = gate_of(home, ward, min_evaluated=COUNT - 2).handle(Coordinator(home).judge(weights(), UNET))
    assert outcome(few) == "too_few_images"
    enough = gate_of(home, ward, min_evaluated=COUNT - 3).handle(Coordinator(home).judge(weights(2), UNET))
    assert enough.meta["n"] == COUNT


def test_the_gate_holds_the_minimum_itself(home: Path, private: Path) -> None:
    """A service that was started with another minimum."""
    file = site_file(home, private, evaluate_student=True, min_evaluated=COUNT + 1)
    service = TeacherService(file.spec(), file.site.folder, image_size=SIZE, seed=0, threads=1, min_evaluated=2)
    service.__dict__["teacher"] = lambda pictures: pictures / 255
    assert outcome(Gate(file, service).handle(Coordinator(home).judge(weights(), UNET))) == "too_few_images"


def test_a_site_without_annotated_pictures(home: Path) -> None:
    file = site_file(home)
    assert outcome(service_of(file).handle(Request("evaluate", {"network": UNET}, weights()))) == "too_few_images"


def test_policy_and_order_come_first(home: Path, private: Path) -> None:
    coordinator, blob = Coordinator(home), weights()
    good = coordinator.judge(blob, UNET)
    assert outcome(gate_of(home, private, evaluate_student=False).handle(good)) == "no_evaluation"
    gate = gate_of(home, private)
    assert outcome(gate.handle(Request("evaluate", {"network": UNET}, blob))) == "not_signed"
    assert outcome(gate.handle(Request("evaluate", good.meta, weights(5)))) == "wrong_order"
    other = coordinator.signed(Request("offer", {}, blob))
    assert outcome(gate.handle(Request("evaluate", other.meta, blob))) == "wrong_order"
    assert outcome(gate_of(home, private, approval="by hand").handle(good)) == "not_approved"


def test_students_a_day(home: Path, private: Path) -> None:
    """One a day: another is refused, the same is answered from what is known, also after a restart."""
    coordinator, first = Coordinator(home), weights()
    told = gate_of(home, private, evaluations_per_day=1).handle(coordinator.judge(first, UNET))
    assert outcome(gate_of(home, private, evaluations_per_day=1).handle(coordinator.judge(weights(5), UNET))) == "quota"
    file = site_file(home, private, evaluate_student=True, evaluations_per_day=1)
    again = Gate(file, service_of(file, lambda pictures: 1 / 0)).handle(coordinator.judge(first, UNET))
    assert again == told


@pytest.mark.parametrize(
    ("network", "blob", "told"),
    [
        ({"network": "os:getcwd"}, None, "which no site imports"),
        ({"network": "antigravity:fly"}, None, "which no site imports"),
        ({"network": "no_such_network"}, None, "cannot be built here"),
        ({"network": "unet", "width": 4}, None, "do not fit unet"),
        ({"network": "unet", "width": 10**6}, None, "do not fit unet"),
        ({"network": "unet", "width": 10**15}, None, "no network of width"),
        ({"network": "attunet", "width": 2}, None, "do not fit attunet"),
        ({"network": "unet", "width": 2, "classes": 2}, None, "classes"),
        ({"network": 7}, None, "network cannot be read"),
        (None, None, "network cannot be read"),
        (UNET, b"", "no safetensors"),
        (UNET, b"\x80\x04K\x01.", "no safetensors"),
        (UNET, b"\xff" * 64, "no safetensors"),
    ],
)
def test_students_that_are_none(network: Any, blob: bytes | None, told: str) -> None:
    with pytest.raises(AnswerError, match=told):
        student(weights() if blob is None else blob, network)


def test_a_huge_width_takes_no_memory() -> None:
    """A U-Net of width 3,000 has 68 billion weights."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(AnswerError, match="do not fit"):
        student(weights(), {"network": "unet", "width": 3000})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize(
    "spec", [{"network": "smp:unet", "encoder": "resnet18"}, {"network": "segformer", "encoder": "mit_b0"}]
)
def test_networks_with_an_encoder_are_judged_too(spec: dict[str, Any]) -> None:
    """SegFormer's computes while it is built, so it has no outline without memory."""
    model = random_network(1, spec)
    assert torch.equal(next(student(save(model.state_dict()), spec).parameters()), next(model.parameters()))


def test_a_student_that_answers_nan_is_refused(home: Path, private: Path) -> None:
    tensors = {name: t * float("nan") if t.is_floating_point() else t for name, t in load(weights()).items()}
    assert outcome(gate_of(home, private).handle(Coordinator(home).judge(save(tensors), UNET))) == "bad_answer"


def test_torchs_random_numbers_are_left_alone() -> None:
    blob = weights()
    torch.manual_seed(4)
    expected = torch.rand(3)
    torch.manual_seed(4)
    student(blob, UNET)
    assert torch.equal(torch.rand(3), expected)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.just(10**4000) | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)
kinds = st.sampled_from(["hello", "prepare", "offer", "pictures", "masks", "evaluate", "personalise", "app"]) | st.text(
    max_size=8
)
keys = [
    "set",
    "manifest",
    "chunk",
    "range",
    "near",
    "order",
    "signature",
    "network",
    "classes",
    "run",
    "student",
    "recipe",
]


@pytest.fixture(scope="module")
def ward(private: Path, tmp_path_factory: pytest.TempPathFactory) -> Ward:
    """A gate that has accepted an offer, and requests that are right. Its teacher fails with a patient's name."""
    home = tmp_path_factory.mktemp("home")
    write_key(home)
    policy = {"evaluate_student": True, "evaluations_per_day": 9999, "personalisations_per_day": 9999}
    file = site_file(home, private, 0.5, **policy, personalise_student=True, min_evaluated=2)
    coordinator = Coordinator(home)

    def teacher(pictures: Any) -> Any:
        raise OSError(f"{private}/images/{SECRET}-01.png")

    gate = Gate(file, service_of(file, teacher))
    tuned = [coordinator.personalise(weights(), UNET, {"epochs": 1}, send) for send in (True, False)]
    requests = [*coordinator.everything(), coordinator.judge(weights(), UNET), *tuned]
    for request in requests[:4]:
        assert gate.handle(request).ok
    return gate, [coordinator.hello(), *requests], coordinator


def malformed(data: st.DataObject, right: list[Request], coordinator: Coordinator) -> Request:
    """A right request of which some parts are garbage, or garbage altogether; spoilt before or after it was signed."""
    base, before = data.draw(st.sampled_from(right)), data.draw(st.booleans())
    meta = json.loads(base.meta["order"])["meta"] if before else base.meta
    meta = {**meta, **data.draw(st.dictionaries(st.sampled_from(keys), json_values, max_size=3))}
    for key in data.draw(st.sets(st.sampled_from(keys), max_size=2)):
        meta.pop(key, None)
    kind, blob = data.draw(st.just(base.kind) | kinds), data.draw(st.just(base.blob) | st.binary(max_size=64))
    spoilt = Request(kind, meta, blob)  # type: ignore[arg-type]
    with suppress(ValueError):  # a number that is none cannot be signed
        return coordinator.signed(spoilt) if before else spoilt
    return spoilt


def nothing_leaks(ward: Ward, private: Path, data: st.DataObject) -> None:
    """Without waiting for the disk a thousand times."""
    gate, right, coordinator = ward
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("os.fsync", lambda file: None)
        reply = gate.handle(malformed(data, right, coordinator))
    crossing = json.dumps([reply.ok, reply.meta]).encode() + reply.blob
    for word in (SECRET, "Erika", str(private), str(gate.folder), ".png", "Error", "Traceback", "site.toml", ".pub"):
        assert word.encode() not in crossing
    if not reply.ok:
        assert reply.meta.keys() in ({"reason", "message"}, {"reason", "reference"})


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_malformed_requests_get_nothing(ward: Ward, private: Path, data: st.DataObject) -> None:
    nothing_leaks(ward, private, data)


@pytest.mark.slow
@settings(max_examples=1000, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_a_thousand_of_them_get_nothing(ward: Ward, private: Path, data: st.DataObject) -> None:
    nothing_leaks(ward, private, data)


def test_after_all_that_the_receipts_hold(ward: Ward) -> None:
    gate, right, _ = ward
    log = gate.folder / "receipts.jsonl"
    assert verify(log) == []
    assert SECRET.encode() not in log.read_bytes()
    assert [outcome(gate.handle(request)) for request in right[-4:]] == ["internal", "internal", "ok", "internal"]
    assert is_saved(next((gate.folder / "personalised").iterdir()) / "student.safetensors")
    assert SECRET in (gate.folder / "errors.jsonl").read_text()
