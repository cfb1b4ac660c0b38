"""CDMamba: the published sizes and checkpoints, the paper's symmetries, and that it learns."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from earthgen.errors import InvalidRequestError, WeightsError
from perception.cdmamba import (
    AdaptiveFusion,
    CDMamba,
    CDMambaConfig,
    ConvMamba,
    GlobalGuidedMamba,
    LocalGuidedMamba,
    Schedule,
    SRCMLayer,
    change_loss,
    load,
    published,
    small,
    to_public,
)
from perception.checkpoint import save_network
from perception.errors import ClassListError
from perception.mamba import Direction
from perception.pair import Pair
from perception.registry import load as load_model
from perception.scan import selective_scan

TINY = CDMambaConfig(channels=8, blocks=(1, 1, 1, 1), states=4)


@pytest.fixture
def net() -> CDMamba:
    torch.manual_seed(0)
    return CDMamba(TINY).eval()


def pairs(count: int = 1, height: int = 16, width: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 2, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# --- As published ---


@pytest.fixture(scope="module")
def full() -> CDMamba:
    return CDMamba(published())


def test_the_published_configuration_has_the_published_number_of_parameters(full: CDMamba) -> None:
    assert sum(parameter.numel() for parameter in full.parameters()) == 11_909_205
    idle = full.idle_parameters()
    assert sum(value.numel() for name, value in full.named_parameters() if name not in idle) == 10_341_325


def public_layout(c: int) -> dict[str, tuple[int, ...]]:
    """Names and shapes in a public checkpoint, written from the authors' layout and not from our names."""

    def scan(width: int, letters: str) -> dict[str, tuple[int, ...]]:
        e, rank = 2 * width, -(-width // 16)
        found: dict[str, tuple[int, ...]] = {"in_proj.weight": (2 * e, width), "out_proj.weight": (width, e)}
        for letter in letters:
            tail = "" if letter == "f" else f"_{letter}"
            found |= {
                f"conv1d{tail}.weight": (e, 1, 4),
                f"conv1d{tail}.bias": (e,),
                f"x_proj{tail}.weight": (rank + 32, e),
                f"dt_proj{tail}.weight": (e, rank),
                f"dt_proj{tail}.bias": (e,),
                f"A{tail}_log": (e, 16),
                f"D{tail}": (e,),
            }
        if "g" in letters:
            found["in_proj_global.weight"] = (2 * e, width)
        return found

    def full_local(width: int, name: str) -> dict[str, tuple[int, ...]]:
        e = 2 * width
        return {
            f"{name}.0.weight": (e, width, 3, 3),
            f"{name}.0.bias": (e,),
            f"{name}.2.weight": (e, e, 3, 3),
            f"{name}.2.bias": (e,),
        }

    def light_local(width: int, name: str) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for index, outputs in ((0, width), (2, 2 * width)):
            found |= {
                f"{name}.{index}.depthwise_conv.weight": (width, 1, 3, 3),
                f"{name}.{index}.depthwise_conv.bias": (width,),
                f"{name}.{index}.pointwise_conv.weight": (outputs, width, 1, 1),
                f"{name}.{index}.pointwise_conv.bias": (outputs,),
            }
        return found

    def under(prefix: str, inside: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        return {f"{prefix}.{name}": shape for name, shape in inside.items()}

    def layer(inputs: int, outputs: int, light: bool = False) -> dict[str, tuple[int, ...]]:
        local = (light_local if light else full_local)(inputs, "local_relation")
        return {
            "norm.weight": (inputs,),
            "norm.bias": (inputs,),
            "skip_scale": (1,),
            "proj.weight": (outputs, inputs),
            "proj.bias": (outputs,),
            **under("convmamba", scan(inputs, "fb") | local),
        }

    def block(width: int, light: bool = False) -> dict[str, tuple[int, ...]]:
        found: dict[str, tuple[int, ...]] = {}
        for index in (1, 2):
            found |= {f"norm{index}.weight": (width,), f"norm{index}.bias": (width,)}
            found |= under(f"conv{index}", layer(width, width, light))
        return found

    keys: dict[str, tuple[int, ...]] = {"convInit.conv.weight": (c, 3, 3, 3)}
    for level, blocks in enumerate((1, 2, 2, 4)):
        width = c * 2**level
        if level:
            keys |= under(f"srcm_encoder_layers.{level}.0.0", layer(width // 2, width))
        for index in range(blocks):
            keys |= under(f"srcm_encoder_layers.{level}.{1 + index}", block(width))
        fusion = {"skip_scale": (1,), **{f"norm{i}.{part}": (width,) for i in (1, 2) for part in ("weight", "bias")}}
        local = scan(width, "fb") | full_local(width, "lcoal_relation")
        for name in (f"l_gf{level + 1}", f"l_gf.{level}"):
            keys |= under(name, fusion | under("fusionencoder", local))
        for name in (f"g_gf{level + 1}", f"g_gf.{level}"):
            keys |= under(name, fusion | under("fusionencoder", scan(width, "fbg")))
        for name in (f"ag{level + 1}", f"ag.{level}"):
            keys[f"{name}.gate.weight"] = (2, 2 * width)
    for index in range(3):
        width = c * 2 ** (2 - index)
        keys |= under(f"srcm_decoder_layers.{index}.0", block(width, light=True))
        keys[f"up_samples.{index}.0.conv.weight"] = (width, 2 * width, 1, 1)
    keys |= {"conv_final.0.weight": (c,), "conv_final.0.bias": (c,)}
    return keys | {"conv_final.2.conv.weight": (2, c, 1, 1), "conv_final.2.conv.bias": (2,)}


def public_state(c: int) -> dict[str, torch.Tensor]:
    random = torch.Generator().manual_seed(1)
    state = {name: torch.randn(shape, generator=random) * 0.1 for name, shape in public_layout(c).items()}
    for name in state:
        # The second set of names is for the same tensors.
        for kind in ("l_gf", "g_gf", "ag"):
            if name.startswith(f"{kind}."):
                index, _, rest = name.removeprefix(f"{kind}.").partition(".")
                state[name] = state[f"{kind}{int(index) + 1}.{rest}"]
    return state


def test_the_public_layout_is_ours_under_other_names(full: CDMamba) -> None:
    ours = {name: tuple(tensor.shape) for name, tensor in to_public(full).items()}
    assert ours == public_layout(16)


def test_a_public_checkpoint_loads_and_every_tensor_arrives(tmp_path: Path) -> None:
    state = public_state(8)
    torch.save({f"module.{name}": tensor for name, tensor in state.items()}, tmp_path / "best_cd_model_gen.pth")
    net = load(tmp_path / "best_cd_model_gen.pth")
    assert net.config == CDMambaConfig(channels=8, keep_idle=True)
    back = to_public(net)
    assert back.keys() == state.keys()
    assert all(torch.equal(back[name], state[name]) for name in state)


def without(state: dict[str, torch.Tensor], *names: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in state.items() if name not in names}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: without(s, "convInit.conv.weight"), "no checkpoint of CDMamba"),
        (lambda s: without(s, "conv_final.0.bias"), "1 tensors missing or unknown, first norm.bias"),
        (lambda s: {**s, "head.extra": torch.zeros(1)}, "1 tensors missing or unknown, first head.extra"),
        (lambda s: {**s, "conv_final.0.bias": torch.zeros(9)}, "has shape"),
        (lambda s: {**s, "ag.1.gate.weight": torch.zeros(2, 32)}, "two different tensors for ag2"),
        (lambda s: {**s, "convInit.conv.weight": torch.zeros(12, 3, 3, 3)}, "12 channels"),
    ],
)
def test_checkpoints_of_another_layout_are_named(tmp_path: Path, change: object, words: str) -> None:
    torch.save(change(public_state(8)), tmp_path / "a.pth")  # type: ignore[operator]
    with pytest.raises(WeightsError, match=words):
        load(tmp_path / "a.pth")


def test_either_set_of_names_is_enough(tmp_path: Path) -> None:
    state = public_state(8)
    torch.save(
        {name: tensor for name, tensor in state.items() if name[:4] not in ("l_gf", "g_gf") or name[4] == "."},
        tmp_path / "a.pth",
    )
    assert torch.equal(load(tmp_path / "a.pth").state_dict()["fusion.0.gate.weight"], state["ag1.gate.weight"])


# --- The parts, against the formulas written out ---


def plain_direction(one: Direction, xz: torch.Tensor) -> torch.Tensor:
    """Mamba's inner function with everything in its own step, (b, 2e, l) to (b, e, l), gated."""
    x, z = xz.chunk(2, dim=1)
    x = F.silu(F.conv1d(x, one.conv1d.weight, one.conv1d.bias, padding=3, groups=x.shape[1])[..., : x.shape[-1]])
    rank, states = one.dt_proj.in_features, one.A_log.shape[1]
    dt, B, C = torch.einsum("rd,bdl->brl", one.x_proj.weight, x).split([rank, states, states], dim=1)
    delta = torch.einsum("dr,brl->bdl", one.dt_proj.weight, dt)
    return selective_scan(
        x, delta, -one.A_log.exp(), B, C, one.D, z=z, delta_bias=one.dt_proj.bias, implementation="loop"
    )


def plain_both(mamba: ConvMamba | LocalGuidedMamba | GlobalGuidedMamba, tokens: torch.Tensor) -> torch.Tensor:
    xz = mamba.in_proj(tokens).transpose(1, 2)
    return plain_direction(mamba.forwards, xz) + plain_direction(mamba.backwards, xz.flip(-1)).flip(-1)


def tokens(seed: int, channels: int = 8) -> torch.Tensor:
    return torch.randn(2, 4 * 6, channels, generator=torch.Generator().manual_seed(seed))


def as_map(x: torch.Tensor) -> torch.Tensor:
    return x.transpose(1, 2).reshape(2, -1, 4, 6)


@pytest.mark.parametrize("separable", [False, True])
@torch.no_grad()
def test_conv_mamba_adds_both_scans_and_the_local_branch(separable: bool) -> None:
    torch.manual_seed(0)
    mamba, x = ConvMamba(8, TINY, separable), tokens(1)
    local = mamba.local_relation(as_map(x)).flatten(2)
    expected = mamba.out_proj((plain_both(mamba, x) + local).transpose(1, 2))
    assert torch.allclose(mamba(x, 4), expected, atol=1e-5)


@torch.no_grad()
def test_guided_fusion_multiplies_one_date_by_the_other() -> None:
    torch.manual_seed(0)
    by_local, by_global, x, other = LocalGuidedMamba(8, TINY), GlobalGuidedMamba(8, TINY), tokens(1), tokens(2)
    gate = by_local.local_relation(as_map(other)).flatten(2).relu()
    expected = by_local.out_proj((plain_both(by_local, x) * gate).transpose(1, 2))
    assert torch.allclose(by_local(x, other, 4), expected, atol=1e-5)

    gate = plain_direction(by_global.across, by_global.in_proj_global(other).transpose(1, 2)).relu()
    expected = by_global.out_proj((plain_both(by_global, x) * gate).transpose(1, 2))
    assert torch.allclose(by_global(x, other, 4), expected, atol=1e-5)


@torch.no_grad()
def test_the_same_norm_serves_both_places_of_an_srcm_layer() -> None:
    torch.manual_seed(0)
    layer = SRCMLayer(8, 16, TINY)
    nn.init.normal_(layer.norm.weight)
    nn.init.constant_(layer.skip_scale, 0.7)
    x = tokens(1)
    mixed = layer.convmamba(layer.norm(x), 4) + 0.7 * x
    expected = as_map(layer.proj(layer.norm(mixed)))
    assert torch.allclose(layer(as_map(x)), expected, atol=1e-5)


@torch.no_grad()
def test_swapped_directions_on_a_turned_sequence_turn_the_output() -> None:
    torch.manual_seed(0)
    mamba, x = ConvMamba(8, TINY, False), tokens(1)
    plain = mamba.scanned(x)
    mamba.forwards, mamba.backwards = mamba.backwards, mamba.forwards
    assert torch.allclose(mamba.scanned(x.flip(1)).flip(-1), plain, atol=1e-6)


def test_a_fresh_direction_starts_with_steps_between_a_thousandth_and_a_tenth() -> None:
    torch.manual_seed(0)
    one = Direction(64, 16, 2, 4)
    steps = F.softplus(one.dt_proj.bias)
    assert 1e-3 <= steps.min() < 3e-3
    assert 3e-2 < steps.max() <= 1e-1
    assert torch.allclose(-one.A_log.exp()[3], -torch.arange(1.0, 17))


# --- The network ---


@torch.no_grad()
def test_a_pair_of_one_image_has_no_differences(net: CDMamba) -> None:
    pair = pairs()
    pair[:, 1] = pair[:, 0]
    differences = net.differences(pair)
    assert [tuple(one.shape[1:]) for one in differences] == [(8, 16, 24), (16, 8, 12), (32, 4, 6), (64, 2, 3)]
    assert max(float(one.max()) for one in differences) < 1e-6
    assert min(float(one.max()) for one in net.differences(pairs())) > 1e-3


@torch.no_grad()
def test_it_does_not_matter_which_date_comes_first(net: CDMamba) -> None:
    # Fusion normalises each place in the pair by weights of its own; with equal ones, order must vanish.
    for fusion in net.fusion:
        assert isinstance(fusion, AdaptiveFusion)
        for guided in (fusion.local_fusion, fusion.global_fusion):
            guided.norm2.load_state_dict(guided.norm1.state_dict())
    pair = pairs()
    assert torch.allclose(net(pair), net(pair.flip(1)), atol=1e-5)


@torch.no_grad()
def test_a_batch_of_two_is_two_batches_of_one(net: CDMamba) -> None:
    both = net(pairs(2))
    for index in range(2):
        assert torch.allclose(both[index : index + 1], net(pairs(2)[index : index + 1]), atol=1e-5)


def test_gradients_reach_every_parameter_that_is_not_idle() -> None:
    torch.manual_seed(0)
    net = CDMamba(CDMambaConfig(channels=8, blocks=(1, 1, 1, 1), states=4, keep_idle=True))
    change_loss(net(pairs(2, 32, 32)), torch.rand(2, 32, 32) < 0.4).backward()
    silent = {name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()}
    assert silent == net.idle_parameters()
    assert any(name.startswith("fusion.3.") for name in silent)
    small_net = CDMamba(small())
    assert small_net.idle_parameters() == set()


def test_saved_and_loaded_it_is_the_same(net: CDMamba, tmp_path: Path) -> None:
    save_network(tmp_path, "cdmamba", TINY, net)
    with torch.no_grad():
        assert torch.equal(load(tmp_path)(pairs()), net(pairs()))


def test_sizes_it_cannot_halve_are_refused(net: CDMamba) -> None:
    with pytest.raises(InvalidRequestError, match="multiples of 8"):
        net(pairs(1, 20, 24))


def test_it_can_learn_a_handful_of_pairs() -> None:
    torch.manual_seed(0)
    net = CDMamba(CDMambaConfig(channels=8, blocks=(1, 0, 0, 0), states=4))
    pair = pairs(2, 16, 16) * 0.3
    pair[:, 1] = pair[:, 0] + 0.05 * pairs(2, 16, 16, seed=3)[:, 0]
    change = torch.zeros(2, 16, 16, dtype=torch.bool)
    change[0, 2:9, 3:12] = change[1, 8:, :6] = True
    pair[:, 1] += change[:, None] * 0.6
    optimiser = Schedule(rate=1e-2).optimiser(net)
    for _ in range(20):
        optimiser.zero_grad()
        loss = change_loss(net(pair), change)
        loss.backward()
        optimiser.step()
    found = net.eval()(pair).argmax(dim=1).bool()
    iou = (found & change).sum() / (found | change).sum()
    assert iou > 0.75


# --- The loss ---


def test_the_loss_is_half_entropy_and_half_dice() -> None:
    logits = torch.randn(2, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    change = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    likely = logits.softmax(dim=1)
    dice = []
    for sample in range(2):
        for code in (0, 1):
            true = (change[sample] == bool(code)).float()
            both = likely[sample, code].sum() + true.sum()
            dice.append(1 - 2 * (likely[sample, code] * true).sum() / both)
    expected = 0.5 * F.cross_entropy(logits, change.long()) + 0.5 * torch.stack(dice).mean()
    assert torch.allclose(change_loss(logits, change), expected, atol=1e-6)


def test_unknown_pixels_do_not_weigh() -> None:
    logits = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    change = torch.rand(1, 3, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    known = torch.ones_like(change)
    known[..., 2:] = False
    cut = change_loss(logits[..., :2], change[..., :2])
    assert torch.allclose(change_loss(logits, change, known), cut, atol=1e-6)


# --- The detector ---


def colours(height: int, width: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_any_size_is_detected_on_the_grid_of_the_pair(net: CDMamba, tmp_path: Path) -> None:
    save_network(tmp_path, "cdmamba", TINY, net)
    model = load_model("cdmamba", tmp_path)
    valid = np.ones((37, 50), bool)
    valid[:5] = False
    found = model.detect(Pair(colours(37, 50, 1), colours(37, 50, 2), valid=valid), tile=32, overlap=8)
    assert found.mask.shape == (37, 50)
    assert found.logits.shape == (2, 37, 50)
    assert found.classes == ()
    assert found.model == "cdmamba"
    assert np.array_equal(found.mask, (found.logits[1] > found.logits[0]) & valid)
    whole = Pair(colours(24, 16, 1), colours(24, 16, 2))
    with torch.no_grad():
        assert np.allclose(model.detect(whole).logits, net(whole.tensor()[None])[0].numpy(), atol=1e-5)
    with pytest.raises(ClassListError, match="leave the classes out"):
        model.detect(whole, classes=["building"])
