"""RSCaMa: the published sizes and checkpoints, its blocks against the formulas, and that it learns."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from earthgen.errors import InvalidRequestError, WeightsError
from perception.caption_decoders import Kind, padded, search
from perception.checkpoint import save_network
from perception.mamba import Selection
from perception.pair import Pair
from perception.patch_towers import ClipTower, LiteTower
from perception.rscama import (
    CaMaBlock,
    CaMaHead,
    CaMaLayer,
    RSCaMa,
    RSCaMaCaptioner,
    RSCaMaConfig,
    Schedule,
    is_idle,
    load,
    loss,
    published,
    published_start,
    small,
)
from perception.scan import selective_scan
from perception.vocabulary import MARKS, Vocabulary

KINDS: tuple[Kind, ...] = ("transformer", "gpt", "mamba")
WORDS = (*MARKS, "a", "house", "road", "appears", "nothing", "changed")
TINY = RSCaMaConfig(
    words=WORDS, image=24, patch=8, tower_layers=2, tower_heads=2, width=16, layers=2, states=4, heads=2, gpt_heads=2,
    longest=8,
)  # fmt: skip


def pairs(count: int = 2, side: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 2, 3, side, side, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def tokens(seed: int, length: int = 9, width: int = 16) -> torch.Tensor:
    return torch.randn(2, length, width, generator=torch.Generator().manual_seed(seed))


def first_layer(head: CaMaHead) -> CaMaLayer:
    layer = head.layers[0]
    assert isinstance(layer, CaMaLayer)
    return layer


@pytest.fixture
def net() -> RSCaMa:
    torch.manual_seed(0)
    return RSCaMa(TINY).eval()


# --- As published ---


def public_layout(
    c: int, words: int, decoder: Kind, patch: int, grid: int, blocks: int, tables: int, layers: int = 3
) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes in a public checkpoint, written from the authors' layout and not from our names."""
    e, r, n, k = 2 * c, -(-c // 16), 16, 3

    def linear(name: str, outputs: int, inputs: int, bias: bool = True) -> dict[str, tuple[int, ...]]:
        return {f"{name}.weight": (outputs, inputs), **({f"{name}.bias": (outputs,)} if bias else {})}

    def norm(name: str, bias: bool = True, width: int = c) -> dict[str, tuple[int, ...]]:
        return {f"{name}.{part}": (width,) for part in ("weight", *(["bias"] if bias else []))}

    def batch_norm(name: str) -> dict[str, tuple[int, ...]]:
        return norm(name) | {
            f"{name}.running_mean": (c,), f"{name}.running_var": (c,), f"{name}.num_batches_tracked": ()
        }  # fmt: skip

    def mamba_model(name: str, mixer: dict[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        return {
            f"{name}.embeddings.weight": (tables, c),
            **norm(f"{name}.layers.0.norm", bias=False),
            **{f"{name}.layers.0.mixer.{key}": shape for key, shape in mixer.items()},
            **norm(f"{name}.norm_f", bias=False),
        }

    mixer: dict[str, tuple[int, ...]] = {}
    for conv in ("conv1d", "conv1d_back"):
        mixer |= {f"{conv}.weight": (e, 1, k), f"{conv}.bias": (e,)}
    for name in ("in_proj", "in_proj_dif"):
        mixer |= linear(name, 2 * e, c, bias=False)
    for tail in ("", "_back", "_dif", "_dif_back"):
        mixer |= linear(f"x_proj{tail}", r + 2 * n, e, bias=False) | linear(f"dt_proj{tail}", e, r)
    for tail in ("", "_back"):
        mixer |= linear(f"linear_hid2{tail}", 2 * e, e) | {f"A_log{tail}": (e, n), f"D{tail}": (e,)}
    mixer |= linear("out_proj", c, e, bias=False) | norm("out_LN", width=e)

    head: dict[str, tuple[int, ...]] = {"alpha": (), "h_embedding.weight": (grid, c // 2)}
    head |= {"w_embedding.weight": (grid, c // 2)} | norm("LN_norm") | mamba_model("layerscan", mixer)
    for layer in range(layers):
        for block in range(2):
            head |= mamba_model(f"CaMalayer_list.{layer}.{block}", mixer)
            head |= mamba_model(f"fuselayer_list.{layer}.{block}", mixer)
        head |= {f"Conv1_list.{layer}.weight": (c, 2 * c, 1, 1), f"Conv1_list.{layer}.bias": (c,)}
        for place in (0, 3, 6):
            head |= batch_norm(f"LN_list.{layer}.left.{place}")
        for place, side in ((2, 3), (5, 1)):
            head |= {f"LN_list.{layer}.left.{place}.weight": (c, c, side, side)}
            head |= {f"LN_list.{layer}.left.{place}.bias": (c,)}

    v = "clip_model.visual"
    tower: dict[str, tuple[int, ...]] = {
        f"{v}.class_embedding": (c,), f"{v}.positional_embedding": (grid**2 + 1, c), f"{v}.proj": (c, 12),
        f"{v}.conv1.weight": (c, 3, patch, patch), "clip_model.token_embedding.weight": (50, 12),
        "clip_model.logit_scale": (), "clip_model.transformer.resblocks.0.ln_1.weight": (12,),
    }  # fmt: skip
    tower |= norm(f"{v}.ln_pre") | norm(f"{v}.ln_post")
    for index in range(blocks):
        at = f"{v}.transformer.resblocks.{index}"
        tower |= {f"{at}.attn.in_proj_weight": (3 * c, c), f"{at}.attn.in_proj_bias": (3 * c,)}
        tower |= linear(f"{at}.attn.out_proj", c, c) | norm(f"{at}.ln_1") | norm(f"{at}.ln_2")
        tower |= linear(f"{at}.mlp.c_fc", 4 * c, c) | linear(f"{at}.mlp.c_proj", c, 4 * c)

    speech: dict[str, tuple[int, ...]] = {"vocab_embedding.weight": (words, c), **linear("wdc", words, c)}
    speech |= {"position_encoding.pe": (42, 1, c), "position_encoding.embedding_1D.weight": (52, c)}
    if decoder == "transformer":
        at = "transformer.layers.0"
        for attention in ("self_attn", "multihead_attn"):
            speech |= {f"{at}.{attention}.in_proj_weight": (3 * c, c), f"{at}.{attention}.in_proj_bias": (3 * c,)}
            speech |= linear(f"{at}.{attention}.out_proj", c, c)
        speech |= linear(f"{at}.linear1", 4 * c, c) | linear(f"{at}.linear2", c, 4 * c)
        for index in (1, 2, 3):
            speech |= norm(f"{at}.norm{index}") | linear(f"{at}.fc_alpha{index}", c, 2 * c)
    elif decoder == "gpt":
        speech |= {"GPT.0.wte.weight": (tables, c), "GPT.0.wpe.weight": (1024, c), **norm("GPT.0.ln_f")}
        at = "GPT.0.h.0"
        speech |= norm(f"{at}.ln_1") | norm(f"{at}.ln_2") | {f"{at}.attn.bias": (1, 1, 8, 8)}
        for name, inputs, outputs in (
            ("attn.c_attn", c, 3 * c), ("attn.c_proj", c, c), ("mlp.c_fc", c, 4 * c), ("mlp.c_proj", 4 * c, c)
        ):  # fmt: skip
            # GPT-2's matrices are (inputs, outputs).
            speech |= {f"{at}.{name}.weight": (inputs, outputs), f"{at}.{name}.bias": (outputs,)}
    else:
        plain: dict[str, tuple[int, ...]] = {
            "conv1d.weight": (e, 1, 4),
            "conv1d.bias": (e,),
            "A_log": (e, n),
            "D": (e,),
        }
        plain |= linear("in_proj", 2 * e, c, bias=False) | linear("x_proj", r + 2 * n, e, bias=False)
        plain |= linear("dt_proj", e, r) | linear("out_proj", c, e, bias=False)
        speech |= mamba_model("Mamba.0", plain)
    return {"encoder_dict": tower, "encoder_trans_dict": head, "decoder_dict": speech}


def counted(layout: dict[str, dict[str, tuple[int, ...]]], kept: bool) -> int:
    """Numbers in a layout that compute, or that do not; running means and counts of batch norms are no parameters."""
    return sum(
        math.prod(shape)
        for part, tensors in layout.items()
        for name, shape in tensors.items()
        if is_idle(f"{part}.{name}") != kept and "running" not in name and "num_batches" not in name
    )


def test_the_published_head_has_the_parameters_that_its_layout_shows() -> None:
    layout = public_layout(768, 468, "transformer", 32, 7, 12, 50_280)
    tables = [math.prod(s) for part in layout.values() for n, s in part.items() if n.endswith("embeddings.weight")]
    assert len(tables) == 13
    assert sum(tables) == 501_995_520
    net = RSCaMa(published((*MARKS, *(f"w{index}" for index in range(464)))))
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    # A vision transformer B/32 of CLIP, 87,849,216 parameters, without its last norm and projection.
    assert counts["tower"] == 87_849_216 - 768 * 512 - 2 * 768
    # A block of the layout, with the halves that are thrown away, is 6.35 M.
    block = first_layer(net.head).before
    assert sum(p.numel() for p in block.parameters()) + 2 * 768 * 1536 == 6_354_432
    idle_joins = 2 * (768 * 1536 + 768 + 9 * 768**2 + 768**2 + 2 * 768 + 6 * 768)
    thrown_away = 6 * 2 * 768 * 1536
    assert (
        counts["head"] == counted({"encoder_trans_dict": layout["encoder_trans_dict"]}, True) - idle_joins - thrown_away
    )
    assert counts["decoder"] == counted({"decoder_dict": layout["decoder_dict"]}, True)
    tuned = sum(parameter.numel() for parameter in net.tuned_parameters())
    assert tuned == counts["head"] + counts["decoder"] + 6 * 7_087_872


def random_checkpoint(decoder: Kind, folder: Path) -> tuple[Path, dict[str, dict[str, torch.Tensor]]]:
    random = torch.Generator().manual_seed(1)
    layout = public_layout(32, len(WORDS), decoder, 8, 3, 2, 7)
    state = {
        part: {name: torch.rand(shape, generator=random) * 0.2 for name, shape in tensors.items()}
        for part, tensors in layout.items()
    }
    torch.save(state | {"epoch": 3}, folder / "rscama.pth")
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(WORDS)}))
    return folder / "rscama.pth", state


@pytest.mark.parametrize("decoder", KINDS)
def test_a_public_checkpoint_loads_and_every_live_tensor_arrives(decoder: Kind, tmp_path: Path) -> None:
    path, public = random_checkpoint(decoder, tmp_path)
    net = load(path)
    assert net.config == replace(
        published(WORDS, decoder), image=24, patch=8, tower_layers=2, tower_heads=1, width=32, gpt_heads=1
    )
    state = net.state_dict()
    head, speech = public["encoder_trans_dict"], public["decoder_dict"]
    after, across = "CaMalayer_list.1.1.layers.0.mixer", "fuselayer_list.2.0.layers.0.mixer"
    expected = {
        "tower.resblocks.1.mlp.c_fc.weight": public["encoder_dict"][
            "clip_model.visual.transformer.resblocks.1.mlp.c_fc.weight"
        ],
        "head.positions.column.weight": head["h_embedding.weight"],
        "head.layers.1.after.value.weight": head[f"{after}.in_proj.weight"][:64],
        "head.layers.1.after.gate.weight": head[f"{after}.in_proj_dif.weight"][64:],
        "head.layers.2.across.value.weight": head[f"{across}.in_proj.weight"][:64],
        "head.layers.2.across.gate.weight": head[f"{across}.in_proj.weight"][64:],
        "head.layers.1.after.backwards.A_log": head[f"{after}.A_log_back"],
        "head.layers.1.after.forwards.dt_proj.bias": head[f"{after}.dt_proj.bias"],
        "head.layers.0.before.norm.weight": head["CaMalayer_list.0.0.layers.0.norm.weight"],
        "head.join.weight": head["Conv1_list.2.weight"],
        "head.block.left.3.running_var": head["LN_list.2.left.3.running_var"],
        "head.skip": head["alpha"],
        "decoder.vocab_embedding.weight": speech["vocab_embedding.weight"],
    }
    name, public_name = {
        "transformer": (
            "decoder.layers.0.multihead_attn.in_proj_weight",
            "transformer.layers.0.multihead_attn.in_proj_weight",
        ),
        "gpt": ("decoder.layers.0.mlp_proj.weight", "GPT.0.h.0.mlp.c_proj.weight"),
        "mamba": ("decoder.layers.0.scan.x_proj.weight", "Mamba.0.layers.0.mixer.x_proj.weight"),
    }[decoder]
    expected[name] = speech[public_name].t() if decoder == "gpt" else speech[public_name]
    for name, tensor in expected.items():
        assert torch.equal(state[name], tensor), name
    caption = RSCaMaCaptioner(net).caption(some_pair())
    assert caption.model == "rscama" and set(caption.text.split()) <= set(WORDS)


@pytest.mark.parametrize(
    ("part", "name", "value", "words"),
    [
        ("encoder_trans_dict", "alpha", None, "1 tensors missing or unknown, first head.skip"),
        ("encoder_trans_dict", "surplus", torch.zeros(1), "first head.surplus"),
        ("encoder_dict", "clip_model.visual.conv1.weight", None, "no checkpoint of RSCaMa: tower.conv1.weight"),
        ("decoder_dict", "wdc.bias", torch.zeros(3), "has shape"),
        ("decoder_dict", "vocab_embedding.weight", torch.zeros(9, 32), "knows 9 words and its vocabulary lists 10"),
    ],
)  # fmt: skip
def test_checkpoints_of_another_layout_are_named(
    tmp_path: Path, part: str, name: str, value: torch.Tensor | None, words: str
) -> None:
    path, state = random_checkpoint("transformer", tmp_path)
    if value is None:
        del state[part][name]
    else:
        state[part][name] = value
    torch.save(state, path)
    with pytest.raises(WeightsError, match=words):
        load(path)


def test_a_checkpoint_without_its_parts_or_words_or_with_code_is_refused(tmp_path: Path) -> None:
    path, state = random_checkpoint("transformer", tmp_path)
    torch.save({"encoder_dict": state["encoder_dict"]}, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match="no state dictionary 'encoder_trans_dict'"):
        load(tmp_path / "part.pth")
    torch.save(state | {"epoch": Path("a")}, tmp_path / "code.pth")
    with pytest.raises(WeightsError, match="could run code"):
        load(tmp_path / "code.pth")
    (tmp_path / "vocab.json").unlink()
    with pytest.raises(WeightsError, match="no vocabulary at"):
        load(path)


# --- The parts, against the formulas written out ---


def plain_mixer(block: CaMaBlock, h: torch.Tensor, gate: torch.Tensor) -> torch.Tensor:
    """The authors' mixer step by step: (b, l, c) and a gate (b, e, l) to (b, l, c)."""
    v = F.linear(h, block.value.weight).transpose(1, 2)
    v = F.conv1d(v, block.conv1d.weight, block.conv1d.bias, padding=2, groups=v.shape[1])[..., : v.shape[-1]]
    v = F.silu(v)

    def scan(one: Selection, u: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        rank, states = one.dt_proj.in_features, one.A_log.shape[1]
        dt, B, C = one.x_proj(u.transpose(1, 2)).split([rank, states, states], dim=-1)
        delta = (dt @ one.dt_proj.weight.t()).transpose(1, 2)
        B, C = B.transpose(1, 2), C.transpose(1, 2)
        return selective_scan(
            u, delta, -one.A_log.exp(), B, C, one.D, z=z, delta_bias=one.dt_proj.bias, implementation="loop"
        )

    forth, back = scan(block.forwards, v, gate), scan(block.backwards, v.flip(-1), gate.flip(-1)).flip(-1)
    return F.linear((forth + back).transpose(1, 2), block.out_proj.weight)


def rms(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x * torch.rsqrt(x.pow(2).mean(dim=-1, keepdim=True) + 1e-5) * weight


@torch.no_grad()
def test_the_difference_gates_a_guided_block_as_it_is() -> None:
    torch.manual_seed(0)
    block, x, difference = CaMaBlock(TINY, guided=True), tokens(1), tokens(2) * 3
    h = rms(x, block.norm.weight)
    mixed = plain_mixer(block, h, F.linear(difference, block.gate.weight).transpose(1, 2))
    assert torch.allclose(block(x, difference), rms(x + mixed, block.norm_f.weight), atol=1e-5)


@torch.no_grad()
def test_the_tokens_themselves_gate_the_other_block() -> None:
    torch.manual_seed(0)
    block, x = CaMaBlock(TINY, guided=False), tokens(1)
    h = rms(x, block.norm.weight)
    mixed = plain_mixer(block, h, F.linear(h, block.gate.weight).transpose(1, 2))
    assert torch.allclose(block(x), rms(x + mixed, block.norm_f.weight), atol=1e-5)


@torch.no_grad()
def test_where_nothing_changed_the_difference_lets_nothing_through() -> None:
    torch.manual_seed(0)
    block, x = CaMaBlock(TINY, guided=True), tokens(1)
    assert torch.allclose(block(x, torch.zeros_like(x)), rms(x, block.norm_f.weight), atol=1e-6)


@torch.no_grad()
def test_the_head_weaves_the_dates_token_by_token() -> None:
    torch.manual_seed(0)
    head = CaMaHead(replace(TINY, layers=1), 3).eval()
    torch.nn.init.constant_(head.skip, 0.4)
    before, after = tokens(1), tokens(2)
    places = torch.stack(
        [torch.cat([head.positions.column.weight[i % 3], head.positions.row.weight[i // 3]]) for i in range(9)]
    )
    one, two = before + places, after + places
    layer = first_layer(head)
    difference = two - one
    one, two = head.norm(layer.before(one, difference)), head.norm(layer.after(two, difference))
    woven = torch.stack([part[:, i] for i in range(9) for part in (one, two)], dim=1)
    woven = head.norm(layer.across(woven))
    one, two = woven[:, 0::2] + 0.4 * one, woven[:, 1::2] + 0.4 * two
    both = torch.cat([one, two], dim=-1).transpose(1, 2).reshape(2, 32, 3, 3)
    expected = head.norm(head.block(head.join(both)).flatten(2).transpose(1, 2))
    assert torch.allclose(head(before, after), expected, atol=1e-5)


@torch.no_grad()
def test_the_tower_is_clips() -> None:
    from open_clip.transformer import VisionTransformer

    torch.manual_seed(0)
    reference = VisionTransformer(24, 8, 32, 2, 4, 4.0, output_dim=8, act_layer=ClipGelu).eval()
    tower = ClipTower(24, 8, 32, 2, 4).eval()
    state = {name.removeprefix("transformer."): value for name, value in reference.state_dict().items()}
    tower.load_state_dict({name: value for name, value in state.items() if not name.startswith(("ln_post", "proj"))})
    seen = []
    reference.transformer.register_forward_hook(lambda module, args, out: seen.append(out))
    images = pairs()[:, 0]
    reference(((images + 1) / 2 - tower.mean) / tower.std)
    assert torch.allclose(tower(images), seen[0][:, 1:], atol=1e-5)


class ClipGelu(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.sigmoid(1.702 * x)


@torch.no_grad()
def test_the_small_tower_sees_a_square_of_tokens_and_keeps_its_backbone_out_of_the_weights() -> None:
    tower = LiteTower(64, 16, 12).eval()
    assert sum(value.numel() for value in tower.state_dict().values()) < 20_000
    image = pairs(1, 64)[:, 0]
    seen = tower(image)
    assert seen.shape == (1, 16, 12)
    other = image.clone()
    other[..., :16, :16] = -other[..., :16, :16]
    moved = (tower(other) - seen).abs().amax(dim=-1)[0]
    assert moved.argmax() == 0


# --- The network ---


@torch.no_grad()
def test_the_order_of_dates_matters(net: RSCaMa) -> None:
    assert (net.see(pairs()) - net.see(pairs().flip(1))).abs().max() > 1e-2


@torch.no_grad()
def test_a_batch_of_two_is_two_batches_of_one(net: RSCaMa) -> None:
    words = torch.tensor([[2, 5, 6], [2, 7, 8]])
    both = net(pairs(), words)
    for index in range(2):
        one = net(pairs()[index : index + 1], words[index : index + 1])
        assert torch.allclose(both[index : index + 1], one, atol=1e-5)


@pytest.mark.parametrize("decoder", KINDS)
def test_gradients_reach_every_parameter(decoder: Kind) -> None:
    torch.manual_seed(0)
    net = RSCaMa(replace(TINY, decoder=decoder))
    torch.nn.init.constant_(net.head.skip, 0.1)
    loss(net, pairs(), torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])).backward()
    silent = [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []


def test_only_the_last_six_blocks_of_clip_are_tuned() -> None:
    net = RSCaMa(replace(TINY, tower_layers=8))
    tuned = {id(parameter) for parameter in net.tuned_parameters()}
    still = {name for name, parameter in net.named_parameters() if id(parameter) not in tuned}
    assert {name.split(".")[1] for name in still} == {
        "class_embedding", "positional_embedding", "conv1", "ln_pre", "resblocks"
    }  # fmt: skip
    assert {name.split(".")[2] for name in still if "resblocks" in name} == {"0", "1"}


def test_the_published_start_has_no_sorted_decays() -> None:
    torch.manual_seed(0)
    net = RSCaMa(TINY)
    assert torch.allclose(first_layer(net.head).before.forwards.A_log.exp()[0], torch.arange(1.0, 5))
    published_start(net)
    assert first_layer(net.head).before.forwards.A_log.abs().max() < 0.5
    assert not first_layer(net.head).before.forwards.dt_proj.bias.any()


@pytest.mark.parametrize("decoder", KINDS)
def test_saved_and_loaded_it_is_the_same(decoder: Kind, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = replace(TINY, decoder=decoder)
    net = RSCaMa(config).eval()
    save_network(tmp_path, "rscama", config, net)
    words = torch.tensor([[2, 5, 6], [2, 7, 8]])
    with torch.no_grad():
        assert torch.equal(load(tmp_path)(pairs(), words), net(pairs(), words))


def test_the_small_configuration_is_saved_without_its_frozen_tower(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = replace(small(WORDS), image=64, width=16, layers=1, heads=2)
    net = RSCaMa(config).eval()
    path = save_network(tmp_path, "rscama", config, net)
    assert path.stat().st_size < 1_000_000
    with torch.no_grad():
        assert torch.allclose(load(tmp_path).see(pairs(1, 64)), net.see(pairs(1, 64)), atol=1e-6)


def test_other_shapes_are_refused(net: RSCaMa) -> None:
    with pytest.raises(InvalidRequestError, match=r"\(b, 2, 3, h, w\) is needed"):
        net.see(torch.zeros(1, 3, 24, 24))


SENTENCES = ("a house appears", "a road appears", "nothing changed", "a house appears a road")


@pytest.mark.parametrize("decoder", KINDS)
def test_it_can_learn_a_handful_of_captions(decoder: Kind) -> None:
    torch.manual_seed(0)
    net = RSCaMa(replace(TINY, decoder=decoder, tower_layers=1, layers=1, dropout=0.0))
    pair = pairs(4) * 0.2
    # The same two pictures in both orders: only what came first tells the first two sentences apart.
    pair[1] = pair[0].flip(0)
    vocabulary = Vocabulary(WORDS)
    words = padded([vocabulary.encode(sentence, 8) for sentence in SENTENCES])
    optimiser = Schedule(rate=5e-3).optimiser(net)
    for _ in range(60):
        optimiser.zero_grad()
        loss(net, pair, words).backward()
        optimiser.step()
    # Batch norm has seen too few steps for its running means; four pairs are one batch here.
    tokens = net.see(pair)
    said = [" ".join(vocabulary.decode(found.numbers)) for found in search(net.decoder.eval(), tokens)]
    assert said == list(SENTENCES)


# --- The captioner ---


def some_pair(height: int = 37, width: int = 50) -> Pair:
    random = np.random.default_rng(0)
    return Pair(*random.integers(0, 256, (2, height, width, 3), dtype=np.uint8))


def test_any_size_is_described(net: RSCaMa) -> None:
    captioner = RSCaMaCaptioner(net)
    one, wide = captioner.caption(some_pair()), captioner.caption(some_pair(), beams=4)
    for caption in (one, wide):
        assert caption.model == "rscama"
        assert set(caption.text.split()) <= set(WORDS[1:2] + WORDS[4:])
        assert caption.log_probability is not None and caption.log_probability <= 0
    assert captioner.caption(some_pair()) == one
