"""Semantic-CC on tiny random models: SAM's sizes, the wiring, corrections, stages, weights, and that it learns."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from earthgen.errors import InvalidRequestError, WeightsError
from perception.errors import ClassListError
from perception.lora import LoraLinear, add_lora
from perception.pair import Pair
from perception.semantic_cc import (
    AggregationNeck,
    BiTemporalSam,
    ChangeDecoder,
    Guidance,
    Prefix,
    Schedule,
    SemanticCC,
    SemanticCCConfig,
    SemanticCCInterpreter,
    Size,
    Speaker,
    Stage,
    TimeFusion,
    load,
    load_sam,
    loss,
    open_language,
    published,
    save,
    sized,
    small,
    tuned_parameters,
)

WORDS = ("a", "house", "road", "appears", "nothing", "changed")
TINY = SemanticCCConfig(
    image=64, width=24, depth=2, heads=2, window=3, global_blocks=(1,), map_width=8, rank=4, alpha=8, lora_dropout=0.0,
    caption_width=16, neck_heads=2, queries=3, query_width=16, query_layers=2, query_heads=2, queries_frozen=False,
    language_width=16, language_rank=4, language_alpha=8, decoder_width=8, longest=8,
)  # fmt: skip


def language(width: int = 16) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    settings = LlamaConfig(
        vocab_size=3 + len(WORDS), hidden_size=width, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(settings).train(False)


def tokenizer() -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<unk>": 0, "<s>": 1, "</s>": 2, **{word: 3 + index for index, word in enumerate(WORDS)}}
    plain = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=plain, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def pairs(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 2, 3, 64, 64, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def build(config: SemanticCCConfig = TINY) -> SemanticCC:
    torch.manual_seed(0)
    return SemanticCC(config, language())


@pytest.fixture
def net() -> SemanticCC:
    return build().eval()


# --- Sizes ---


@pytest.mark.parametrize(("size", "registered"), [("b", "vit_b"), ("l", "vit_l"), ("h", "vit_h")])
def test_the_encoder_has_sams_tensors_under_its_corrections(size: Size, registered: str) -> None:
    sam_model_registry = import_module("segment_anything").sam_model_registry
    config = sized(published(), size)
    with torch.device("meta"):
        ours = BiTemporalSam(config).vit
        public = sam_model_registry[registered]().image_encoder
    found = {
        name.replace(".qkv.base.", ".qkv."): value for name, value in ours.named_parameters() if ".lora_" not in name
    }
    expected = dict(public.named_parameters())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        if "pos" not in name:
            assert found[name].shape == value.shape
    corrections = sum(value.numel() for name, value in ours.named_parameters() if ".lora_" in name)
    assert corrections == config.depth * 16 * (config.width + 3 * config.width)


def test_the_published_configuration_is_mostly_bilinear_gates_beside_sam() -> None:
    with torch.device("meta"):
        net = SemanticCC(published())
    counts = {name: sum(p.numel() for p in part.parameters()) for name, part in net.named_children()}
    gates = sum(p.numel() for name, p in net.named_parameters() if name.endswith("gate.weight") and "guidance" in name)
    assert gates == 2 * 1408 * 256 * 256
    fusions = 20 * (2 * 1024 + 2 * (2 * 16 * 16 + 1) + 4 * (1024 * 1024 + 1024))
    assert 300e6 < counts["encoder"] - fusions < 312e6
    assert counts["neck"] > gates
    frozen = {name.split(".")[0] for name, p in net.named_parameters() if not p.requires_grad}
    assert frozen == {"encoder", "prefix"}


def test_the_small_configuration_is_small() -> None:
    assert sum(p.numel() for p in SemanticCC(small(64)).parameters()) < 3e6


# --- The parts ---


@torch.no_grad()
def test_each_date_is_gated_by_place_and_by_channel() -> None:
    torch.manual_seed(0)
    fusion = TimeFusion(6, 12)
    both = torch.randn(4, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    one, other = both.permute(0, 3, 1, 2).chunk(2)
    place = torch.sigmoid(torch.cat([one, other], dim=1).mean(dim=1, keepdim=True))
    expected = []
    for date, gate in ((one, fusion.by_channel[0]), (other, fusion.by_channel[1])):
        assert isinstance(gate, nn.Linear)
        channel = torch.sigmoid(one.sum(dim=(2, 3)) + other.sum(dim=(2, 3)) + gate.bias)[..., None, None]
        expected.append(date + fusion.placed(date * place) + fusion.channelled(date * channel))
    assert torch.allclose(fusion(both), torch.cat(expected).permute(0, 2, 3, 1), atol=1e-5)


@torch.no_grad()
def test_dates_see_each_other_behind_windows_only() -> None:
    torch.manual_seed(0)
    images = pairs(2)[:, 0]
    changed = images.clone()
    changed[1] = pairs(1, seed=5)[0, 0]
    with_windows = BiTemporalSam(TINY).eval()
    without = BiTemporalSam(replace(TINY, global_blocks=(0, 1))).eval()
    assert len(with_windows.fusions) == 1
    assert len(without.fusions) == 0
    assert (with_windows(images)[0][0] - with_windows(changed)[0][0]).abs().max() > 1e-4
    assert torch.allclose(without(images)[0][0], without(changed)[0][0], atol=1e-5)


@torch.no_grad()
def test_detection_guides_captioning_and_not_the_other_way_round() -> None:
    torch.manual_seed(0)
    neck, plain = AggregationNeck(TINY).eval(), AggregationNeck(replace(TINY, guided=False)).eval()
    tokens = torch.randn(2, 16, 24, generator=torch.Generator().manual_seed(1))
    maps = torch.randn(2, 8, 4, 4, generator=torch.Generator().manual_seed(2))
    caption, detection = neck(tokens, maps)
    assert caption.shape == (2, 16, 16)
    assert detection.shape == maps.shape
    assert torch.allclose(detection, neck.detection(maps), atol=1e-6)
    other_caption, _ = neck(tokens, maps + 1)
    assert (caption - other_caption).abs().max() > 1e-4
    _, other_detection = neck(tokens + 1, maps)
    assert torch.allclose(detection, other_detection, atol=1e-6)
    assert torch.allclose(plain(tokens, maps)[0], plain(tokens, maps + 1)[0], atol=1e-6)


@torch.no_grad()
def test_as_many_heads_as_channels_is_the_authors_choice() -> None:
    neck = AggregationNeck(replace(TINY, neck_heads=0))
    heads = [m.num_heads for m in neck.modules() if isinstance(m, nn.MultiheadAttention)]
    assert sorted(heads) == [8, 8, 16, 16]


@torch.no_grad()
def test_the_language_model_is_told_of_both_dates_and_their_difference() -> None:
    torch.manual_seed(0)
    prefix = Prefix(TINY).eval()
    caption = torch.randn(4, 16, 16, generator=torch.Generator().manual_seed(1))
    one, other = prefix.project(prefix.queries(prefix.norm(caption))).chunk(2)
    before = one * torch.sigmoid(prefix.strengthen_before(torch.cat([one, other], dim=-1)))
    after = other * torch.sigmoid(prefix.strengthen_after(torch.cat([other, one], dim=-1)))
    told = prefix(caption)
    assert told.shape == (2, 9, 16)
    assert torch.allclose(told, torch.cat([before, after, before - after], dim=1), atol=1e-5)


@torch.no_grad()
def test_the_decoder_rises_to_any_side() -> None:
    decoder = ChangeDecoder(TINY).eval()
    maps = torch.randn(2, 8, 4, 4)
    assert decoder(maps, -maps, 64).shape == (2, 2, 64, 64)


# --- Corrections ---


def test_a_fresh_correction_changes_nothing_and_a_trained_one_is_low_rank() -> None:
    torch.manual_seed(0)
    base = nn.Linear(10, 12)
    weight = base.weight.clone()
    layer, x = LoraLinear(base, 2, 4, 0.0), torch.randn(5, 10)
    assert torch.equal(layer(x), base(x))
    nn.init.normal_(layer.lora_b)
    change = (layer(torch.eye(10)) - base(torch.eye(10))).t()
    assert torch.allclose(change, 2 * layer.lora_b @ layer.lora_a, atol=1e-5)
    assert int(torch.linalg.matrix_rank(change.detach())) == 2
    layer(x).sum().backward()
    assert base.weight.grad is None
    assert torch.equal(base.weight, weight)


def test_only_named_layers_are_adapted() -> None:
    model = language()
    assert add_lora(model, ("q_proj", "v_proj"), 2, 4, 0.0) == 2
    learning = {name for name, value in model.named_parameters() if value.requires_grad}
    assert learning and all(".lora_" in name for name in learning)
    with pytest.raises(InvalidRequestError, match="no linear layers called qkv"):
        add_lora(language(), ("qkv",), 2, 4, 0.0)


def test_a_language_model_of_another_width_is_refused() -> None:
    with pytest.raises(InvalidRequestError, match="have 32 numbers; 16 are needed"):
        SemanticCC(TINY, language(32))


# --- The network ---


@torch.no_grad()
def test_a_batch_of_two_is_two_batches_of_one_and_dates_have_an_order(net: SemanticCC) -> None:
    logits, told = net(pairs())
    assert torch.allclose(net.detect(pairs()), logits, atol=1e-5)
    for index in range(2):
        one_logits, one_told = net(pairs()[index : index + 1])
        assert torch.allclose(logits[index : index + 1], one_logits, atol=1e-4)
        assert torch.allclose(told[index : index + 1], one_told, atol=1e-4)
    assert (net(pairs().flip(1))[1] - told).abs().max() > 1e-3


def test_another_size_is_refused(net: SemanticCC) -> None:
    with pytest.raises(InvalidRequestError, match=r"\(b, 2, 3, 64, 64\) is needed"):
        net.detect(torch.zeros(1, 2, 3, 32, 32))


@pytest.mark.parametrize("guided", [True, False])
@pytest.mark.parametrize("stage", ["detection", "caption", "dual"])
def test_gradients_reach_what_a_stage_moves_and_nothing_else(stage: Stage, guided: bool) -> None:
    net = build(replace(TINY, guided=guided))
    for name, value in net.named_parameters():
        if name.endswith("lora_b"):
            # At 0 it hides its partner's gradient.
            nn.init.normal_(value, std=0.1)
    speaker = Speaker(net, tokenizer())
    change = torch.rand(2, 64, 64) < 0.5
    loss(net, stage, pairs(), change, speaker, [["a house appears"], ["nothing changed", "a road appears"]]).backward()
    moved = {id(value) for value in tuned_parameters(net, stage)}
    reached = {name for name, value in net.named_parameters() if value.grad is not None and bool(value.grad.any())}
    assert reached == {name for name, value in net.named_parameters() if id(value) in moved}


def test_the_gate_is_the_bilinear_layer_that_it_stands_for() -> None:
    torch.manual_seed(0)
    guidance = Guidance(6, 4)
    caption, detection = torch.randn(2, 5, 6), torch.randn(2, 5, 4)
    assert torch.allclose(guidance._gate(caption, detection), guidance.gate(caption, detection), atol=1e-6)


def test_captions_cannot_be_learned_without_a_speaker(net: SemanticCC) -> None:
    with pytest.raises(InvalidRequestError, match="give a speaker"):
        loss(net, "dual", pairs(), torch.zeros(2, 64, 64, dtype=torch.bool))
    with pytest.raises(InvalidRequestError, match="no language model"):
        Speaker(SemanticCC(TINY), tokenizer())


def test_the_loss_is_of_the_answer_alone(net: SemanticCC) -> None:
    speaker = Speaker(net, tokenizer())
    _, told = net(pairs())
    both = speaker.loss(told, ["a house appears", "nothing changed"])
    rows = []
    words = tokenizer()
    for one, caption in zip(told, ["a house appears", "nothing changed"], strict=True):
        asked = speaker._asked(one)
        answer = [*words(caption)["input_ids"], words.eos_token_id]
        embedded = torch.cat([asked, speaker._embedded(answer)])[None]
        logits = speaker.language(inputs_embeds=embedded).logits[0, len(asked) - 1 : -1]
        rows.append(F.cross_entropy(logits, torch.tensor(answer), reduction="none"))
    assert torch.allclose(both, torch.cat(rows).mean(), atol=1e-5)


SENTENCES = ["a house appears", "a road appears", "nothing changed"]


def one_that_speaks(words: Any) -> Any:
    """A language model that answers a question about a house, a road or a change with a sentence on it."""
    model, random = language(), np.random.default_rng(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for step in range(210):
        word, sentence = ("house", "road", "changed")[step % 3], SENTENCES[step % 3]
        told = words(word)["input_ids"] * int(random.integers(1, 10))
        asked = [1, *[0] * int(random.integers(4)), *told, *[0] * int(random.integers(5, 11))]
        answer = [*words(sentence)["input_ids"], words.eos_token_id]
        optimiser.zero_grad()
        labels = torch.tensor([[*[-100] * len(asked), *answer]])
        model(input_ids=torch.tensor([[*asked, *answer]]), labels=labels).loss.backward()
        optimiser.step()
    return model


def test_it_can_learn_a_handful_of_pairs_in_three_stages() -> None:
    words = tokenizer()
    model = one_that_speaks(words)
    torch.manual_seed(0)
    net = SemanticCC(replace(TINY, rank=8, language_rank=8), model)
    speaker = Speaker(net, words)
    pair = pairs(3) * 0.3
    pair[1] = pair[0].flip(0)
    change = torch.zeros(3, 64, 64, dtype=torch.bool)
    change[0, 16:48, 16:48] = change[1, 16:48, 16:48] = True
    pair[0, 1] += 0.6 * change[0]
    pair[1, 0] += 0.6 * change[1]
    net.train()
    schedule = Schedule(rate=5e-3, decay=0.0)
    # Each stage until it has learnt, since sums of other processors and thread counts take other ways there.
    for stage, aim in zip(schedule.stages, (0.15, 0.02, 0.12), strict=True):
        optimiser = schedule.optimiser(net, stage)
        for _ in range(400):
            optimiser.zero_grad()
            wrong = loss(net, stage, pair, change, speaker, [[text] for text in SENTENCES])
            if float(wrong.detach()) < aim:
                break
            wrong.backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
    # Batch norm has seen too few steps for its running means; three pairs are one batch here.
    logits, told = net(pair)
    found = logits.argmax(dim=1).bool()
    assert (found & change).sum() / (found | change).sum() > 0.7
    assert [speaker.answer(one)[0] for one in told] == SENTENCES


# --- Weights ---


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    language().save_pretrained(tmp_path / "language")
    tokenizer().save_pretrained(tmp_path / "language")
    return tmp_path


def test_saved_and_loaded_it_is_the_same_without_the_language_models_weights(folder: Path) -> None:
    from safetensors import safe_open

    net = build()
    for name, value in net.named_parameters():
        if name.endswith("lora_b"):
            nn.init.normal_(value, std=0.1)
    net.eval()
    path = save(folder / "weights", net)
    with safe_open(path, "pt") as file:
        names = set(file.keys())
    assert any(name.startswith("language.") for name in names)
    assert all(".lora_" in name for name in names if name.startswith("language."))
    back, words = load(folder / "weights", folder / "language")
    pair = Pair(*np.random.default_rng(0).integers(0, 256, (2, 40, 70, 3), dtype=np.uint8))
    one, other = SemanticCCInterpreter(net, tokenizer()), SemanticCCInterpreter(back, words)
    assert one.caption(pair, beams=2) == other.caption(pair, beams=2)
    assert np.array_equal(one.detect(pair, tile=64, overlap=16).logits, other.detect(pair, tile=64, overlap=16).logits)
    alone, nothing = load(folder / "weights")
    assert nothing is None
    silent = SemanticCCInterpreter(alone, nothing)
    assert np.array_equal(silent.detect(pair, tile=64, overlap=16).logits, one.detect(pair, tile=64, overlap=16).logits)
    with pytest.raises(WeightsError, match="none was given"):
        silent.caption(pair)


def test_what_it_cannot_do_is_refused(net: SemanticCC) -> None:
    model = SemanticCCInterpreter(net, tokenizer())
    pair = Pair(*np.zeros((2, 70, 100, 3), dtype=np.uint8))
    with pytest.raises(ClassListError, match="leave the classes out"):
        model.detect(pair, classes=["tree"], tile=64)
    with pytest.raises(InvalidRequestError, match="tiles of 64 pixels"):
        model.detect(pair)
    assert model.detect(pair, tile=64, overlap=16).mask.shape == (70, 100)


def test_language_models_that_are_not_there_or_do_not_fit_are_named(folder: Path) -> None:
    with pytest.raises(WeightsError, match="no language model at"):
        open_language(folder / "nowhere")
    (folder / "empty").mkdir()
    with pytest.raises(WeightsError, match="cannot be loaded"):
        open_language(folder / "empty")
    save(folder / "weights", build())
    language(32).save_pretrained(folder / "wide")
    tokenizer().save_pretrained(folder / "wide")
    with pytest.raises(WeightsError, match="have 32 numbers; 16 are needed"):
        load(folder / "weights", folder / "wide")


def test_a_public_sam_goes_under_the_corrections(tmp_path: Path) -> None:
    torch.manual_seed(3)
    public = import_module("segment_anything.modeling.image_encoder").ImageEncoderViT(
        img_size=128, patch_size=16, embed_dim=24, depth=2, num_heads=2, out_chans=8, use_rel_pos=True, window_size=3,
        global_attn_indexes=(1,), norm_layer=lambda width: nn.LayerNorm(width, eps=1e-6),
    )  # fmt: skip
    for parameter in public.parameters():
        nn.init.normal_(parameter, std=0.1)
    state = {f"image_encoder.{name}": value for name, value in public.state_dict().items()}
    torch.save(state | {"mask_decoder.x": torch.zeros(1)}, tmp_path / "sam.pth")
    net = build()
    load_sam(net, tmp_path / "sam.pth")
    own = net.encoder.vit.state_dict()
    assert torch.equal(own["blocks.0.attn.qkv.base.weight"], state["image_encoder.blocks.0.attn.qkv.weight"])
    assert torch.equal(own["blocks.0.attn.rel_pos_h"], state["image_encoder.blocks.0.attn.rel_pos_h"])
    assert own["pos_embed"].shape == (1, 4, 4, 24)
    assert own["blocks.1.attn.rel_pos_h"].shape == (7, 12)
    torch.save({"image_encoder.pos_embed": torch.zeros(1, 8, 8, 24)}, tmp_path / "part.pth")
    with pytest.raises(WeightsError, match="does not fit"):
        load_sam(net, tmp_path / "part.pth")
