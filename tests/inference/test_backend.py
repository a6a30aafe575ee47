"""Which backend runs, and what is said where one cannot."""

from __future__ import annotations

import pytest
import torch

from dsgcli.errors import UsageError
from dsgcli.inference import backend as choice
from dsgcli.inference.backend import AutoBackend, TorchBackend, choose, pick_backend
from dsgcli.inference.base import BySize, ExtrinsicStyle, LRUCache, one_by_one

CPU, GPU = torch.device("cpu"), torch.device("cuda")
FP32, BF16 = torch.float32, torch.bfloat16


@pytest.fixture
def no_openvino(monkeypatch):
    monkeypatch.setattr(choice, "openvino_version", lambda: None)


@pytest.fixture
def openvino(monkeypatch):
    monkeypatch.setattr(choice, "openvino_version", lambda: "2026.4")


class Fake(TorchBackend):
    """Counts what it binds."""

    name = "fake"

    def __init__(self):
        super().__init__()
        self.bound = []

    def bind(self, model, style, *, once=False):
        self.bound.append("generator")
        return torch.relu

    def bind_encoder(self, encoder, rows=None):
        self.bound.append("encoder")
        return torch.relu


# ── what auto takes ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.usefixtures("openvino")
def test_auto_takes_openvino_for_long_runs_in_bf16_on_a_cpu():
    assert choose(CPU, BF16).name == "openvino"
    assert [choose(*here).name for here in [(CPU, FP32), (GPU, BF16)]] == ["torch"] * 2


@pytest.mark.usefixtures("no_openvino")
def test_auto_says_what_is_not_installed():
    taken = choose(CPU, BF16)
    assert taken.name == "torch" and "dsgcli[openvino]" in taken.reason
    assert isinstance(pick_backend("auto", CPU, BF16), TorchBackend)


@pytest.mark.parametrize(
    ("expected", "bound"),
    [(1, []), (15, []), (16, ["generator"]), (1000, ["generator", "encoder"])],
)
def test_auto_makes_ready_what_repays_itself(tiny_generator, tiny_encoder, expected, bound):
    fast = Fake()
    backend = AutoBackend(TorchBackend(), lambda: fast)
    backend.expect(expected)
    style = ExtrinsicStyle(exstyle_ws=torch.randn(1, 8, 16), weights=[1.0] * 8)
    backend.bind(tiny_generator, style)
    backend.bind_encoder(tiny_encoder)
    assert fast.bound == bound
    assert backend.name == ("fake" if bound else "torch")


def test_auto_binds_anew_only_when_more_pictures_change_its_mind():
    backend = AutoBackend(TorchBackend(), Fake)
    assert [backend.expect(n) for n in (3, 15, 16, 20, 5, 1000, 2000)] == [
        *(False, False, True, False, False, True, False)
    ]


# ── what cannot be used ──────────────────────────────────────────────────────────────────────────


def test_unknown_backend_lists_those_there_are():
    with pytest.raises(UsageError, match="auto, torch, compile, openvino, got 'onnx'"):
        pick_backend("onnx", CPU, FP32)


@pytest.mark.usefixtures("no_openvino")
def test_openvino_that_is_not_installed_says_how_to_install_it():
    with pytest.raises(UsageError, match=r"pip install 'dsgcli\[openvino\]'"):
        pick_backend("openvino", CPU, BF16)


@pytest.mark.usefixtures("openvino")
def test_openvino_beside_a_gpu_asks_for_the_cpu():
    with pytest.raises(UsageError, match="--device cpu"):
        pick_backend("openvino", GPU, BF16)


def test_compiling_without_a_compiler_says_what_is_missing(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UsageError, match=r"needs a C\+\+ compiler"):
        pick_backend("compile", CPU, FP32)


# ── batches, and what is kept ────────────────────────────────────────────────────────────────────


def doubled(rows):
    return 2 * rows


def test_a_batch_runs_in_the_smallest_size_that_holds_it():
    prepared, ran = [], []

    def prepare(rows):
        prepared.append(len(rows))
        return lambda rows: ran.append(len(rows)) or doubled(rows)

    run = BySize(prepare)
    for count in (4, 3, 1, 4, 5, 2):
        rows = torch.randn(count, 3)
        assert run(rows).equal(doubled(rows))
    assert prepared == [4, 5]
    assert ran == [4, 4, 4, 4, 5, 4]


def test_no_more_sizes_are_kept_than_allowed():
    run = BySize(lambda rows: doubled, most=2)
    for count in range(1, 6):
        run(torch.zeros(count, 1))
    assert run.sizes == [4, 5]


def test_one_by_one_gives_each_row_its_answer():
    rows = torch.randn(3, 2)
    assert one_by_one(doubled)(rows).equal(doubled(rows))


def test_recent_lets_go_of_what_was_used_least_recently():
    made = []
    recent = LRUCache(2)
    for key in "abacb":
        recent.get(key, lambda key=key: made.append(key) or key)
    assert made == ["a", "b", "c", "b"]
    assert len(recent) == 2
