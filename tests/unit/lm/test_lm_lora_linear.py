"""When linear layers lie in oneDNN's own layout, one test a condition, and that they compute the same there."""

from types import SimpleNamespace

import pytest
import torch

from services.lm.lora_linear import Active, can_pack, install, product

CPU = torch.device("cpu")
PACKING = "_reorder_linear_weight"
ASKED = "_is_mkldnn_bf16_supported"


@pytest.fixture
def able(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """What a torch offers that packs, on a CPU that can; a test takes something of it away."""
    offered = SimpleNamespace(**{PACKING: lambda *_: None, ASKED: lambda: True})
    monkeypatch.setattr(torch, "ops", SimpleNamespace(mkldnn=offered))
    return offered


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_these_precisions_are_packed_on_a_cpu(dtype: torch.dtype) -> None:
    assert can_pack(dtype, CPU)


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_no_other_precision_is_packed(dtype: torch.dtype) -> None:
    assert not can_pack(dtype, CPU)


@pytest.mark.usefixtures("able")
@pytest.mark.parametrize("device", ["cuda", "cuda:1", "meta"])
def test_no_other_device_is_packed(device: str) -> None:
    assert not can_pack(torch.bfloat16, torch.device(device))


@pytest.mark.parametrize("operation", [PACKING, ASKED])
def test_a_torch_without_the_operations_packs_nothing(able: SimpleNamespace, operation: str) -> None:
    delattr(able, operation)
    assert not can_pack(torch.bfloat16, CPU)
    assert can_pack(torch.float32, CPU) == (operation == ASKED)


def test_a_cpu_that_onednn_does_not_multiply_bfloat16_on_packs_nothing(able: SimpleNamespace) -> None:
    setattr(able, ASKED, lambda: False)
    assert not can_pack(torch.bfloat16, CPU)
    assert can_pack(torch.float32, CPU)


@pytest.mark.parametrize("bias", [True, False])
def test_it_is_packed_here_where_that_gives_the_same_numbers_and_only_there(bias: bool) -> None:
    torch.manual_seed(0)
    base = torch.nn.Linear(96, 64, bias=bias, dtype=torch.bfloat16)
    if not can_pack(torch.bfloat16, CPU):
        with pytest.raises(RuntimeError, match="cpu support"):
            product(base, packed=True)
        return
    for rows, tokens in ((1, 1), (3, 1), (2, 7)):
        x = torch.randn(rows, tokens, 96, dtype=torch.bfloat16)
        assert torch.equal(product(base, packed=True)(x), product(base, packed=False)(x))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
@pytest.mark.parametrize("shape", [(576, 576), (1536, 576), (576, 1536), (258, 64), (17, 33)])
def test_a_row_of_a_packed_product_does_not_depend_on_how_many_there_are(
    dtype: torch.dtype, shape: tuple[int, int]
) -> None:
    if not can_pack(dtype, CPU):
        pytest.skip(f"oneDNN does not pack {dtype} on this processor")
    torch.manual_seed(0)
    base = torch.nn.Linear(shape[1], shape[0], bias=False, dtype=dtype)
    x = torch.randn(1, 160, shape[1], dtype=dtype)
    packed = product(base, packed=True)
    whole = packed(x)
    torch.testing.assert_close(whole, base(x))
    for rows in (1, 2, 3, 7, 8, 31, 33, 100):
        assert torch.equal(packed(x[:, :rows]), whole[:, :rows])
        assert torch.equal(packed(x[:, -rows:]), whole[:, -rows:])


def test_a_bfloat16_model_answers_as_it_did() -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(32, 64), torch.nn.ReLU(), torch.nn.Linear(64, 16)).to(torch.bfloat16)
    x = torch.randn(2, 5, 32, dtype=torch.bfloat16)
    with torch.no_grad():
        before = model(x)
        shapes = install(model, Active(), packed=can_pack(torch.bfloat16, CPU))
        assert torch.equal(model(x), before)
    assert shapes == {"0": (64, 32), "2": (16, 64)}
