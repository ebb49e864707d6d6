"""Linear layers: when they lie in oneDNN's own layout, which are one product, and that they compute the same so."""

import weakref
from collections.abc import Sequence
from types import SimpleNamespace

import pytest
import torch

from services.lm.adapters import Adapter
from services.lm.linear_product import can_pack, product
from services.lm.lora_linear import Active, LoraLinear, install

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
            product([base], packed=True)
        return
    for rows, tokens in ((1, 1), (3, 1), (2, 7)):
        x = torch.randn(rows, tokens, 96, dtype=torch.bfloat16)
        assert torch.equal(product([base], packed=True)(x), product([base], packed=False)(x))


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
    packed = product([base], packed=True)
    whole = packed(x)
    torch.testing.assert_close(whole, base(x))
    # Of more than 32 rows in bf16, oneDNN on AMX rounds the last bit of some otherwise.
    if dtype == torch.bfloat16:
        whole = torch.cat([packed(x[:, at : at + 32]) for at in range(0, 160, 32)], dim=1)
    for rows in (1, 2, 3, 7, 8, 31, *((33, 100) if dtype == torch.float32 else (32,))):
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


class Attention(torch.nn.Module):
    """Three layers that read one input, and one that reads what they made."""

    def __init__(self, *, bias: bool, key_bias: bool) -> None:
        super().__init__()
        self.q_proj = torch.nn.Linear(32, 64, bias=bias)
        self.k_proj = torch.nn.Linear(32, 16, bias=key_bias)
        self.v_proj = torch.nn.Linear(32, 16, bias=bias)
        self.o_proj = torch.nn.Linear(96, 32, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Takes and gives (rows, tokens, 32)."""
        return self.o_proj(torch.cat([self.q_proj(x), self.k_proj(x), self.v_proj(x)], dim=-1))


def computed(modules: Sequence[torch.nn.Module]) -> int:
    """How many products the layers make."""
    return len({id(module.joint) for module in modules if isinstance(module, LoraLinear)})


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("bias", "key_bias", "products"), [(True, True, 2), (False, False, 2), (True, False, 4)], ids=str
)
def test_layers_that_read_one_input_are_one_product(packed: bool, bias: bool, key_bias: bool, products: int) -> None:
    torch.manual_seed(0)
    model, active = Attention(bias=bias, key_bias=key_bias), Active()
    x = torch.randn(1, 5, 32)
    with torch.no_grad():
        before = model(x)
        shapes = install(model, active, packed=packed and can_pack(torch.float32, CPU))
        torch.testing.assert_close(model(x), before)
    assert shapes == {"q_proj": (64, 32), "k_proj": (16, 32), "v_proj": (16, 32), "o_proj": (32, 96)}
    assert computed(list(model.modules())) == products


def test_an_adapter_of_some_of_them_adds_to_those_alone() -> None:
    torch.manual_seed(0)
    model, active = Attention(bias=False, key_bias=False), Active()
    x = torch.randn(1, 3, 32)
    a, b = torch.randn(4, 32), torch.randn(16, 4)
    with torch.no_grad():
        q, k, v = (layer(x) for layer in (model.q_proj, model.k_proj, model.v_proj))
        install(model, active, packed=can_pack(torch.float32, CPU))
        active.use([None, Adapter("of keys", {"k_proj": (a, b)}), None])
        k[0, 1] += b @ (a @ x[0, 1])
        for layer, wanted in ((model.q_proj, q), (model.k_proj, k), (model.v_proj, v)):
            torch.testing.assert_close(layer(x), wanted)


def random_adapter(layers: dict[str, tuple[int, int]], rank: int) -> Adapter:
    """An adapter of those layers (out, in)."""
    return Adapter(
        f"of {rank}", {name: (torch.randn(rank, n), torch.randn(m, rank)) for name, (m, n) in layers.items()}
    )


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
@pytest.mark.parametrize("kinds", [1, 4])
def test_rows_of_any_mixture_have_their_own_adapters(count: int, kinds: int, follow: bool) -> None:
    torch.manual_seed(0)
    model, active = Attention(bias=False, key_bias=False), Active()
    some = [
        random_adapter({"q_proj": (64, 32), "v_proj": (16, 32)}, 4),
        random_adapter({"k_proj": (16, 32), "o_proj": (32, 96)}, 3),
        random_adapter({"q_proj": (64, 32)}, 8),
        Adapter("of none", {}),
    ][:kinds]
    rows = [some[i % kinds] if follow or i % 3 else None for i in range(count)]
    x = torch.randn(1, count, 32)
    with torch.no_grad():
        q, k, v = (layer(x) for layer in (model.q_proj, model.k_proj, model.v_proj))
        out = model.o_proj.weight.clone()
        install(model, active, packed=can_pack(torch.float32, CPU))
        active.use(rows)
        made = model(x)
        for i, row in enumerate(rows):
            parts = [
                y[0, i] + (pair[1] @ (pair[0] @ x[0, i]) if (pair := row and row.pairs.get(name)) else 0)
                for name, y in (("q_proj", q), ("k_proj", k), ("v_proj", v))
            ]
            joined = torch.cat(parts)
            last = row and row.pairs.get("o_proj")
            wanted = out @ joined + (last[1] @ (last[0] @ joined) if last else 0)
            torch.testing.assert_close(made[0, i], wanted, rtol=1e-4, atol=1e-4)
            active.use([row])
            if can_pack(torch.float32, CPU) and kinds == 1:  # beside base rows and its own kind, to the last bit
                assert torch.equal(model(x[:, i : i + 1])[0, 0], made[0, i])


def test_each_layer_answers_for_its_own_input_whoever_is_asked_first() -> None:
    torch.manual_seed(0)
    model = Attention(bias=True, key_bias=True)
    x, other = torch.randn(1, 3, 32), torch.randn(1, 3, 32)
    with torch.no_grad():
        wanted = [model.v_proj(x), model.q_proj(other), model.q_proj(other), model.k_proj(x)]
        install(model, Active(), packed=can_pack(torch.float32, CPU))
        for made, right in zip(
            (model.v_proj(x), model.q_proj(other), model.q_proj(other), model.k_proj(x)), wanted, strict=True
        ):
            torch.testing.assert_close(made, right)


def test_a_pass_in_which_each_was_asked_leaves_nothing_in_memory() -> None:
    model = Attention(bias=True, key_bias=True)
    install(model, Active(), packed=can_pack(torch.float32, CPU))
    x = torch.randn(1, 3, 32)
    gone = weakref.ref(x)
    with torch.no_grad():
        model(x)
    del x
    assert gone() is None
