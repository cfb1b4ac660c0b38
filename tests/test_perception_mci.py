"""MCI: the published sizes and checkpoints, its blocks against the formulas, its stages, and that it learns."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from earthgen.errors import InvalidRequestError, WeightsError
from perception.caption_decoders import padded, search
from perception.checkpoint import save_network
from perception.errors import ClassListError
from perception.mci import (
    MCI,
    InteractionBlock,
    InteractionNeck,
    MCIConfig,
    MCIInterpreter,
    Schedule,
    Stage,
    balanced,
    begin_stage,
    is_idle,
    load,
    loss,
    mask_loss,
    published,
    small,
    tuned_parameters,
)
from perception.mix_transformer import MixBlock, MixTransformer, MixTransformerConfig, ReducedAttention
from perception.pair import Pair
from perception.vocabulary import MARKS, Vocabulary

WORDS = (*MARKS, "a", "house", "road", "appears", "nothing", "changed")
TINY = MCIConfig(
    words=WORDS, image=64, widths=(8, 16, 16, 16), depths=(1, 1, 1, 1), backbone_heads=(1, 2, 2, 2), drop_path=0.0,
    layers=2, heads=2, grid=4, longest=8, dropout=0.0,
)  # fmt: skip


def pairs(count: int = 2, height: int = 64, width: int = 96, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 2, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def maps(seed: int, channels: int = 16) -> torch.Tensor:
    return torch.randn(2, channels, 3, 4, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def net() -> MCI:
    torch.manual_seed(0)
    return MCI(TINY).eval()


# --- As published ---


def public_layout(widths: tuple[int, ...], words: int, layers: int, grid: int) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes in a public checkpoint, written from the authors' layout and not from our names."""
    c = widths[-1]

    def linear(name: str, outputs: int, inputs: int) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}

    def norm(name: str, width: int = c) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (width,), f"{name}.bias": (width,)}

    def batch_norm(name: str, width: int = c) -> dict[str, tuple[int, ...]]:
        running = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,), f"{name}.num_batches_tracked": ()}
        return norm(name, width) | running

    def conv(name: str, outputs: int, inputs: int, high: int = 1, wide: int = 1) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (outputs, inputs, high, wide), f"{name}.bias": (outputs,)}

    backbone: dict[str, tuple[int, ...]] = {}
    inputs = 3
    for stage, (width, reduction) in enumerate(zip(widths, (8, 4, 2, 1), strict=True), start=1):
        side = 7 if stage == 1 else 3
        backbone |= conv(f"patch_embed{stage}.proj", width, inputs, side, side)
        backbone |= norm(f"patch_embed{stage}.norm", width) | norm(f"norm{stage}", width)
        for block in range(2):
            at = f"block{stage}.{block}"
            backbone |= norm(f"{at}.norm1", width) | norm(f"{at}.norm2", width)
            backbone |= linear(f"{at}.attn.q", width, width) | linear(f"{at}.attn.kv", 2 * width, width)
            backbone |= linear(f"{at}.attn.proj", width, width)
            if reduction > 1:
                backbone |= conv(f"{at}.attn.sr", width, width, reduction, reduction) | norm(f"{at}.attn.norm", width)
            backbone |= linear(f"{at}.mlp.fc1", 4 * width, width) | linear(f"{at}.mlp.fc2", width, 4 * width)
            backbone |= conv(f"{at}.mlp.dwconv.dwconv", 4 * width, 1, 3, 3)
        inputs = width

    def interaction(name: str) -> dict[str, tuple[int, ...]]:
        found = norm(f"{name}.norm1") | norm(f"{name}.norm2")
        for part in ("to_q", "to_k", "to_v", "to_out.0"):
            found |= linear(f"{name}.att.{part}", c, c)
        for part in ("Q_LN", "K_LN", "V_LN"):
            found |= norm(f"{name}.att.{part}")
        for part, inputs in (("fuse_conv", c), ("fuse_conv2", 2 * c)):
            found |= conv(f"{name}.att.{part}.0", c, inputs) | batch_norm(f"{name}.att.{part}.1")
        found |= linear(f"{name}.feedforward.net.0", 4 * c, c) | linear(f"{name}.feedforward.net.3", c, 4 * c)
        for part in ("Q_d_conv", "K_d_conv"):
            for shape, high, wide in (("3x3", 3, 3), ("1x5", 1, 5), ("5x1", 5, 1)):
                found |= conv(f"{name}.{part}.d_conv_{shape}", c, 1, high, wide)
            found |= batch_norm(f"{name}.{part}.BN", 3 * c) | conv(f"{name}.{part}.conv_1", c, 3 * c)
        found |= conv(f"{name}.PCM.0", c, 1, 3, 3) | batch_norm(f"{name}.PCM.1") | conv(f"{name}.PCM.3", c, c)
        return found

    head: dict[str, tuple[int, ...]] = {}
    for tail in ("", "_CD"):
        head |= {f"h_embedding{tail}.weight": (grid, c // 2), f"w_embedding{tail}.weight": (grid, c // 2)}
    for layer in range(layers):
        for block in range(2):
            head |= interaction(f"Dynamic_DIF_aware_TR.{layer}.{block}")
            head |= interaction(f"Transformer_aug_CD.{layer}.{block}")
        head |= linear(f"Dynamic_DIF_aware_TR.{layer}.2", c, 2 * c)
    for level, width in enumerate(widths):
        head |= conv(f"conv_dif.{level}.0", width, width) | batch_norm(f"conv_dif.{level}.1", width)
        head |= conv(f"conv_fuse.{level}.0", 2 * width, 3 * width, 3, 3)
        head |= batch_norm(f"conv_fuse.{level}.1", 2 * width) | conv(f"conv_fuse.{level}.3", 2 * width, 2 * width)
        head |= conv(f"to_fused.{level}.0", 2 * width, 2 * width) | batch_norm(f"to_fused.{level}.1", 2 * width)
        finer = 2 * widths[max(level - 1, 0)]
        # Transposed convolutions are (inputs, outputs).
        head |= {f"to_fused.{level}.3.weight": (2 * width, finer, 4, 4), f"to_fused.{level}.3.bias": (finer,)}
    head |= {"to_seg.0.weight": (2 * widths[0], widths[0], 4, 4), "to_seg.0.bias": (widths[0],)}
    head |= conv("to_seg.1", 3, widths[0])

    speech: dict[str, tuple[int, ...]] = {"vocab_embedding.weight": (words, c), **linear("wdc", words, c)}
    speech |= {"position_encoding.pe": (41, 1, c), "position_encoding.embedding_1D.weight": (52, c)}
    speech |= conv("Conv1", c, 2 * c) | conv("LN.left.0", c // 2, c) | conv("LN.left.3", c // 2, c // 2, 3, 3)
    speech |= conv("LN.left.6", c, c // 2)
    for place, width in ((1, c // 2), (4, c // 2), (7, c)):
        speech |= batch_norm(f"LN.left.{place}", width)
    at = "transformer.layers.0"
    for attention in ("self_attn", "multihead_attn"):
        speech |= {f"{at}.{attention}.in_proj_weight": (3 * c, c), f"{at}.{attention}.in_proj_bias": (3 * c,)}
        speech |= linear(f"{at}.{attention}.out_proj", c, c)
    speech |= linear(f"{at}.linear1", 4 * c, c) | linear(f"{at}.linear2", c, 4 * c)
    for index in (1, 2, 3):
        speech |= norm(f"{at}.norm{index}") | linear(f"{at}.fc_alpha{index}", c, 2 * c)
    return {
        "encoder_dict": {f"cnn.segformer.{name}": shape for name, shape in backbone.items()},
        "encoder_trans_dict": head,
        "decoder_dict": speech,
    }


def test_the_published_configuration_has_the_parameters_that_its_layout_shows() -> None:
    layout = public_layout((64, 128, 320, 512), 468, 3, 16)
    live = {
        part: sum(
            math.prod(shape)
            for name, shape in tensors.items()
            if not is_idle(f"{part}.{name}") and "running" not in name and "num_batches" not in name
        )
        for part, tensors in layout.items()
    }
    net = MCI(published((*MARKS, *(f"w{index}" for index in range(464)))))
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    # MiT-B1 without its classifier.
    assert counts["backbone"] == live["encoder_dict"] == 13_151_424
    assert sum(counts.values()) == sum(live.values()) == 117_754_903
    # With what is idle, about 0.13 billion.
    everything = sum(math.prod(shape) for tensors in layout.values() for shape in tensors.values())
    assert 128e6 < everything < 135e6


def random_checkpoint(folder: Path) -> tuple[Path, dict[str, dict[str, torch.Tensor]]]:
    random = torch.Generator().manual_seed(1)
    state = {
        part: {name: torch.rand(shape, generator=random) * 0.2 for name, shape in tensors.items()}
        for part, tensors in public_layout((8, 16, 40, 32), len(WORDS), 2, 4).items()
    }
    torch.save(state, folder / "MCI_model.pth")
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(WORDS)}))
    return folder / "MCI_model.pth", state


def test_a_public_checkpoint_loads_and_every_live_tensor_arrives(tmp_path: Path) -> None:
    path, public = random_checkpoint(tmp_path)
    net = load(path)
    assert net.config == replace(published(WORDS), widths=(8, 16, 40, 32), layers=2, grid=4)
    state = net.state_dict()
    head, speech = public["encoder_trans_dict"], public["decoder_dict"]
    expected = {
        "backbone.block2.1.attn.sr.weight": public["encoder_dict"]["cnn.segformer.block2.1.attn.sr.weight"],
        "detection.neck.positions.row.weight": head["w_embedding_CD.weight"],
        "captioning.neck.positions.column.weight": head["h_embedding.weight"],
        "detection.neck.layers.1.0.att.to_k.weight": head["Transformer_aug_CD.1.0.att.to_k.weight"],
        "captioning.neck.layers.0.1.feedforward.3.bias": head["Dynamic_DIF_aware_TR.0.1.feedforward.net.3.bias"],
        "captioning.neck.layers.1.1.Q_d_conv.BN.running_mean": head[
            "Dynamic_DIF_aware_TR.1.1.Q_d_conv.BN.running_mean"
        ],
        "detection.conv_fuse.2.3.weight": head["conv_fuse.2.3.weight"],
        "detection.to_seg.0.weight": head["to_seg.0.weight"],
        "captioning.block.left.6.weight": speech["LN.left.6.weight"],
        "captioning.join.bias": speech["Conv1.bias"],
        "captioning.decoder.layers.0.norm3.weight": speech["transformer.layers.0.norm3.weight"],
        "captioning.decoder.wdc.weight": speech["wdc.weight"],
    }
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
    live = sum(not is_idle(f"{part}.{name}") for part, tensors in public.items() for name in tensors)
    assert live == len(state)


@pytest.mark.parametrize(
    ("part", "name", "value", "words"),
    [
        ("encoder_trans_dict", "to_seg.0.bias", None, r"1 tensors missing or unknown, first detection.to_seg.0.bias"),
        ("encoder_trans_dict", "to_seg.1.bias", None, "no checkpoint of MCI: detection.to_seg.1.bias is missing"),
        ("encoder_trans_dict", "to_seg.1.bias", torch.zeros(5), "mask has 5 classes; 3 are needed"),
        ("encoder_trans_dict", "surplus", torch.zeros(1), "first detection.surplus"),
        ("decoder_dict", "wdc.bias", torch.zeros(3), "has shape"),
        ("decoder_dict", "vocab_embedding.weight", torch.zeros(9, 32), "knows 9 words and its vocabulary lists 10"),
    ],
)  # fmt: skip
def test_checkpoints_of_another_layout_are_named(
    tmp_path: Path, part: str, name: str, value: torch.Tensor | None, words: str
) -> None:
    path, state = random_checkpoint(tmp_path)
    if value is None:
        del state[part][name]
    else:
        state[part][name] = value
    torch.save(state, path)
    with pytest.raises(WeightsError, match=words):
        load(path)


# --- The parts, against the formulas written out ---


def as_tokens(x: torch.Tensor) -> torch.Tensor:
    return x.flatten(2).transpose(1, 2)


@torch.no_grad()
def test_an_interaction_block_attends_to_the_product_with_the_difference() -> None:
    torch.manual_seed(0)
    block, this, other = InteractionBlock(16, 2, 0.0).eval(), maps(1), maps(2)
    q_map = this + block.Q_d_conv(this)
    k_map = other + block.K_d_conv(other)
    seen = as_tokens(block.att.fuse_conv(q_map * (k_map - q_map)).relu())
    q, k, v = block.att.to_q(as_tokens(q_map)), block.att.to_k(seen), block.att.to_v(seen)
    heads = []
    for start in (0, 8):
        weights = (q[..., start : start + 8] @ k[..., start : start + 8].transpose(1, 2) / math.sqrt(8)).softmax(dim=-1)
        heads.append(weights @ v[..., start : start + 8])
    x = block.norm1(block.att.to_out(torch.cat(heads, dim=-1)) + as_tokens(q_map))
    expected = block.norm2(block.feedforward(x) + x)
    assert torch.allclose(as_tokens(block(this, other)), expected, atol=1e-5)


@torch.no_grad()
def test_local_enhancement_sees_three_shapes() -> None:
    torch.manual_seed(0)
    lpe = InteractionBlock(4, 1, 0.0).eval().Q_d_conv
    image = torch.zeros(1, 4, 9, 9)
    spot = image.clone()
    spot[..., 4, 4] = 1
    seen = (lpe(spot) - lpe(image)).abs().sum(dim=1)[0] > 1e-7
    cross = torch.zeros(9, 9, dtype=torch.bool)
    cross[3:6, 3:6] = cross[4, 2:7] = cross[2:7, 4] = True
    assert torch.equal(seen, cross)


@torch.no_grad()
def test_detection_takes_turns_and_captioning_does_not() -> None:
    torch.manual_seed(0)
    before, after = maps(1), maps(2)
    for in_turn in (True, False):
        neck = InteractionNeck(replace(TINY, layers=1), in_turn).eval()
        places = torch.stack(
            [torch.cat([neck.positions.column.weight[i % 4], neck.positions.row.weight[i // 4]]) for i in range(12)]
        )
        grid = places.t().reshape(16, 3, 4)
        one, two = before + grid, after + grid
        layer = neck.layers[0]
        assert isinstance(layer, nn.ModuleList)
        if in_turn:
            first = layer[0](one, two) + one
            second = layer[1](two, first) + two
        else:
            first, second = layer[0](one, two), layer[1](two, one)
        found = neck(before, after)
        assert torch.allclose(found[0], first, atol=1e-5)
        assert torch.allclose(found[1], second, atol=1e-5)


@torch.no_grad()
def test_attention_without_reduction_is_plain_attention() -> None:
    torch.manual_seed(0)
    ours, reference = ReducedAttention(16, 2, 1).eval(), nn.MultiheadAttention(16, 2, batch_first=True).eval()
    reference.in_proj_weight.copy_(torch.cat([ours.q.weight, ours.kv.weight]))
    reference.in_proj_bias.copy_(torch.cat([ours.q.bias, ours.kv.bias]))
    reference.out_proj.load_state_dict(ours.proj.state_dict())
    x = as_tokens(maps(1))
    assert torch.allclose(ours(x, 3), reference(x, x, x)[0], atol=1e-5)


@torch.no_grad()
def test_the_backbone_halves_its_maps() -> None:
    torch.manual_seed(0)
    backbone = MixTransformer(MixTransformerConfig((8, 16, 24, 32), (1, 1, 1, 1), (1, 2, 3, 4))).eval()
    shapes = [tuple(level.shape) for level in backbone(pairs()[:, 0])]
    assert shapes == [(2, 8, 16, 24), (2, 16, 8, 12), (2, 24, 4, 6), (2, 32, 2, 3)]


def test_blocks_are_left_out_while_training_and_their_mean_stays() -> None:
    torch.manual_seed(0)
    block = MixBlock(8, 1, 1, drop_path=0.5)
    x = torch.randn(1, 6, 8).expand(4000, -1, -1)
    with torch.no_grad():
        kept = block._kept(x)
    assert 0.45 < float((kept == 0).all(dim=2).all(dim=1).float().mean()) < 0.55
    assert torch.equal(block.eval()._kept(x), x)
    assert torch.allclose(kept.mean(dim=0), x[0], atol=0.15)


# --- The network ---


@torch.no_grad()
def test_the_order_of_dates_matters(net: MCI) -> None:
    words = torch.tensor([[2, 5, 6], [2, 7, 8]])
    mask, said = net(pairs(), words)
    other_mask, other_said = net(pairs().flip(1), words)
    assert (mask - other_mask).abs().max() > 1e-2
    assert (said - other_said).abs().max() > 1e-3


@torch.no_grad()
def test_a_batch_of_two_is_two_batches_of_one(net: MCI) -> None:
    words = torch.tensor([[2, 5, 6], [2, 7, 8]])
    mask, said = net(pairs(), words)
    assert mask.shape == (2, 3, 64, 96)
    for index in range(2):
        one_mask, one_said = net(pairs()[index : index + 1], words[index : index + 1])
        assert torch.allclose(mask[index : index + 1], one_mask, atol=1e-4)
        assert torch.allclose(said[index : index + 1], one_said, atol=1e-4)


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    net = MCI(TINY)
    loss(net, "both", pairs(), torch.randint(0, 3, (2, 64, 96)), torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])).backward()
    silent = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []


def test_saved_and_loaded_it_is_the_same(net: MCI, tmp_path: Path) -> None:
    save_network(tmp_path, "mci", TINY, net)
    words = torch.tensor([[2, 5, 6], [2, 7, 8]])
    with torch.no_grad():
        for one, other in zip(load(tmp_path)(pairs(), words), net(pairs(), words), strict=True):
            assert torch.equal(one, other)


def test_sizes_it_has_no_positions_for_are_refused(net: MCI) -> None:
    with pytest.raises(InvalidRequestError, match="multiples of 32"):
        net.detect(pairs(1, 48, 64))
    with pytest.raises(InvalidRequestError, match="160 x 64 pixels; at most 128 a side"):
        net.detect(pairs(1, 64, 160))


# --- Training ---


def test_balanced_losses_weigh_the_same() -> None:
    x = torch.tensor(3.0, requires_grad=True)
    y = torch.tensor(0.01, requires_grad=True)
    total = balanced(x * 2, y * 5)
    total.backward()
    assert float(total.detach()) == pytest.approx(2)
    assert x.grad is not None and y.grad is not None
    assert float(x.grad * x.detach()) == pytest.approx(1)
    assert float(y.grad * y.detach()) == pytest.approx(1)


def test_unknown_pixels_do_not_weigh() -> None:
    logits = torch.randn(1, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    kinds = torch.randint(0, 3, (1, 4, 6), generator=torch.Generator().manual_seed(1))
    known = torch.ones(1, 4, 6, dtype=torch.bool)
    known[..., 3:] = False
    assert torch.allclose(mask_loss(logits, kinds, known), F.cross_entropy(logits[..., :3], kinds[..., :3]))


@pytest.mark.parametrize(("stage", "moved"), [("both", ""), ("caption", "captioning."), ("detection", "detection.")])
def test_a_stage_moves_its_part_and_nothing_else(stage: Stage, moved: str) -> None:
    torch.manual_seed(0)
    net = MCI(TINY)
    begin_stage(net, stage)
    old = {name: value.clone() for name, value in net.state_dict().items()}
    optimiser = Schedule(rate=1e-2).optimiser(net, stage)
    assert len(optimiser.param_groups[0]["params"]) == len(tuned_parameters(net, stage))
    loss(net, stage, pairs(), torch.randint(0, 3, (2, 64, 96)), torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])).backward()
    optimiser.step()
    different = {name for name, value in net.state_dict().items() if not torch.equal(value, old[name])}
    assert different
    assert all(name.startswith(moved) for name in different)
    # Batch norms of the part that stands still keep their means too.
    assert any("running_mean" in name for name in different)


SENTENCES = ("a house appears", "a road appears", "nothing changed", "a house appears a road")


def test_it_can_learn_a_handful_of_pairs() -> None:
    torch.manual_seed(0)
    net = MCI(replace(TINY, layers=1))
    pair = pairs(4, 64, 64) * 0.3
    pair[1] = pair[0].flip(0)
    kinds = torch.zeros(4, 64, 64, dtype=torch.long)
    kinds[0, 8:40, 8:40] = kinds[1, 8:40, 8:40] = 2
    kinds[3, 30:60, :] = 1
    pair[:, 1] += 0.6 * (kinds == 2)[:, None] - 0.6 * (kinds == 1)[:, None]
    vocabulary = Vocabulary(WORDS)
    words = padded([vocabulary.encode(sentence, 8) for sentence in SENTENCES])
    begin_stage(net, "both")
    optimiser = Schedule(rate=4e-3).optimiser(net, "both")
    for _ in range(60):
        optimiser.zero_grad()
        loss(net, "both", pair, kinds, words).backward()
        optimiser.step()
    # Batch norm has seen too few steps for its running means; four pairs are one batch here.
    found, tokens = net.detect(pair).argmax(dim=1), net.see(pair)
    for code in (1, 2):
        iou = ((found == code) & (kinds == code)).sum() / ((found == code) | (kinds == code)).sum()
        assert iou > 0.7
    decoder = net.captioning.decoder.eval()
    said = [" ".join(vocabulary.decode(sentence.numbers)) for sentence in search(decoder, tokens)]
    assert said == list(SENTENCES)


# --- The interpreter ---


def some_pair(height: int = 70, width: int = 101) -> Pair:
    random = np.random.default_rng(0)
    valid = np.ones((height, width), bool)
    valid[:5] = False
    before, after = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    return Pair(before, after, valid=valid)


def test_any_size_is_detected_described_and_sorted_into_objects(net: MCI) -> None:
    model, pair = MCIInterpreter(net), some_pair()
    found, objects = model.detect(pair, tile=64, overlap=32), model.objects(pair, tile=64, overlap=32)
    assert found.mask.shape == objects.kinds.shape == (70, 101)
    assert found.model == "mci"
    assert objects.names == ("road", "building")
    assert np.array_equal(found.mask, objects.kinds > 0)
    assert not found.mask[:5].any()
    assert set(np.unique(objects.kinds)) <= {0, 1, 2}
    caption = model.caption(pair, beams=2)
    assert set(caption.text.split()) <= set(WORDS[1:2] + WORDS[4:])
    with pytest.raises(ClassListError, match="road, building and nothing else"):
        model.detect(pair, classes=["tree"])


def test_odds_of_change_are_those_of_all_classes_together(net: MCI) -> None:
    model, pair = MCIInterpreter(net), some_pair(64, 64)
    with torch.no_grad():
        likely = net.detect(pair.tensor()[None])[0].softmax(dim=0)
    assert np.allclose(model.detect(pair, tile=64, overlap=0).probability, 1 - likely[0].numpy(), atol=1e-5)


def test_the_small_configuration_is_a_twelfth() -> None:
    count = sum(parameter.numel() for parameter in MCI(small(WORDS)).parameters())
    assert 8e6 < count < 12e6
