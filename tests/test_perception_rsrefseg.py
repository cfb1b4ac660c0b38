"""RSRefSeg on tiny random models: SAM against transformers, the AttnPrompter, public checkpoints, clicks and boxes."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from affine import Affine
from PIL import Image as Picture
from rasterio.crs import CRS

import perception
from earthgen.errors import InvalidRequestError, WeightsError
from perception.errors import PhraseError, PromptError
from perception.pair import Image
from perception.phrase_encoders import MOST_WORDS, Heard, checked_phrase
from perception.rsrefseg import (
    AttnPrompter,
    RSRefSeg,
    RSRefSegConfig,
    assemble,
    load,
    load_published,
    published,
    save,
    small,
)
from perception.sam import LiteView, Sam, SamConfig, from_transformers, load_sam, public_sam
from perception.segmenter import ReferringSegmenter

TINY = replace(
    small(), image=64, patch=16, width=24, depth=2, heads=2, window=2, global_blocks=(1,), map_width=16,
    decoder_heads=2, decoder_hidden=16, quality_hidden=8, joint_width=16, text_layers=1, text_heads=2,
)  # fmt: skip
SIDE, PATCH = 64, 8


def tiny() -> RSRefSeg:
    torch.manual_seed(0)
    return RSRefSeg(TINY).eval()


def seen_by(net: RSRefSeg, count: int) -> Any:
    torch.manual_seed(1)
    config = net.config
    view = torch.randn(count, LiteView.channels, config.grid, config.grid)
    return net.see(torch.rand(count, 3, config.image, config.image) * 2 - 1, view)


def heard_of(lengths: tuple[int, ...]) -> Heard:
    torch.manual_seed(2)
    words = torch.randn(len(lengths), MOST_WORDS, 384)
    for row, length in zip(words, lengths, strict=True):
        row[length:] = 0
    return Heard(words, torch.tensor(lengths))


def sam_of_transformers() -> Any:
    transformers: Any = import_module("transformers")
    PublicConfig, SamModel = transformers.SamConfig, transformers.SamModel

    torch.manual_seed(0)
    net = SamModel(
        PublicConfig(
            vision_config={
                "hidden_size": 128, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
                "image_size": SIDE, "patch_size": PATCH, "window_size": 4, "global_attn_indexes": [1], "mlp_dim": 512,
                "num_pos_feats": 16,
            },
            prompt_encoder_config={
                "hidden_size": 32, "image_size": SIDE, "patch_size": PATCH, "image_embedding_size": SIDE // PATCH,
                "mask_input_channels": 16,
            },
            mask_decoder_config={
                "hidden_size": 32, "mlp_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 8,
                "iou_head_hidden_dim": 32,
            },
        )
    ).eval()  # fmt: skip
    shake(net)
    return net


def shake(net: torch.nn.Module) -> None:
    """Give every tensor, tables of positions too, numbers that matter."""
    with torch.no_grad():
        for value in net.state_dict().values():
            if value.is_floating_point():
                value.copy_(0.3 * torch.randn_like(value))


SAM = SamConfig(
    image=SIDE, patch=PATCH, width=128, depth=2, heads=2, window=4, global_blocks=(1,), map_width=32,
    decoder_hidden=64, quality_hidden=32, rank=0,
)  # fmt: skip


def public_encoders(folder: Path, kind: str) -> Path:
    """A tiny random SigLIP or CLIP with a tokenizer, as `save_pretrained` writes them."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPModel, SiglipConfig, SiglipModel

    tokenizer_class: Any = import_module("transformers").PreTrainedTokenizerFast
    words = ["<pad>", "</s>", "<unk>", "the", "river", "largest", "lake"]
    inner = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer_class(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<unk>").save_pretrained(
        folder
    )
    torch.manual_seed(3)
    text = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2,
        "vocab_size": len(words), "max_position_embeddings": 8, "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": 3,
    }  # fmt: skip
    vision = {
        "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28,
        "patch_size": 7,
    }  # fmt: skip
    net: Any
    if kind == "siglip":
        net = SiglipModel(SiglipConfig(text_config=text | {"projection_size": 32}, vision_config=vision))
    else:
        vision |= {"hidden_size": 40}
        net = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))
    net.save_pretrained(folder)
    return folder


# --- SAM ---


def test_sam_computes_what_the_one_in_transformers_computes(tmp_path: Path) -> None:
    public = sam_of_transformers()
    public.save_pretrained(tmp_path)
    net = Sam(SAM).eval()
    load_sam(net, tmp_path)
    images = torch.rand(2, 3, SIDE, SIDE) * 2 - 1
    points, labels = torch.tensor([[[10.0, 20.0], [3.0, 4.0]], [[30.0, 5.0], [9.0, 60.0]]]), torch.tensor([[1, 0]] * 2)
    boxes = torch.tensor([[4.0, 6.0, 40.0, 50.0], [8.0, 8.0, 30.0, 20.0]])
    with torch.no_grad():
        maps = net.see(images)
        theirs = public.get_image_embeddings(((images + 1) / 2 - net.mean) / net.std)
        assert torch.allclose(maps, theirs, atol=1e-3)
        clicked, quality = net.decode(maps, *net.clicks(points, labels.float()))
        expected = public(
            image_embeddings=theirs, input_points=points[:, None], input_labels=labels[:, None], multimask_output=False
        )
        assert torch.allclose(clicked[:, 0], expected.pred_masks[:, 0, 0], rtol=1e-2, atol=1e-2)
        assert torch.allclose(quality[:, 0], expected.iou_scores[:, 0, 0], rtol=1e-2, atol=1e-2)
        boxed, _ = net.decode(maps, *net.boxes(boxes))
        expected = public(image_embeddings=theirs, input_boxes=boxes[:, None], multimask_output=False)
        assert torch.allclose(boxed[:, 0], expected.pred_masks[:, 0, 0], rtol=1e-2, atol=1e-2)
    assert clicked[:, 0].std() > 0.1


def test_sam_takes_the_published_checkpoints_key_for_key(tmp_path: Path) -> None:
    sam_model_registry = import_module("segment_anything").sam_model_registry
    torch.manual_seed(0)
    published_keys = set(sam_model_registry["vit_b"]().state_dict()) - {"pixel_mean", "pixel_std"}
    with torch.device("meta"):
        own = {name for name in Sam(replace(SamConfig(), rank=0)).state_dict()}
    assert own == published_keys
    net, other = Sam(SAM), Sam(SAM)
    torch.save(net.state_dict(), tmp_path / "sam.pth")
    load_sam(other, tmp_path / "sam.pth")
    assert all(torch.equal(value, other.state_dict()[name]) for name, value in net.state_dict().items())
    adapted = Sam(replace(SAM, rank=4))
    load_sam(adapted, tmp_path / "sam.pth")
    images = torch.rand(1, 3, SIDE, SIDE) * 2 - 1
    with torch.no_grad():
        # Corrections begin at nothing.
        assert torch.allclose(net.eval().see(images), adapted.eval().see(images), atol=1e-5)
    larger = Sam(replace(SAM, image=2 * SIDE))
    load_sam(larger, tmp_path / "sam.pth")
    with pytest.raises(WeightsError, match=r"does not fit"):
        load_sam(Sam(replace(SAM, width=64)), tmp_path / "sam.pth")


def test_a_prompt_does_not_depend_on_its_neighbours() -> None:
    net = tiny()
    with torch.no_grad():
        seen = seen_by(net, 2)
        heard = heard_of((5, 9, 7))
        together, _ = net(seen.repeated(torch.tensor([2, 1])), heard)
        for index, picture in enumerate((0, 0, 1)):
            one = type(seen)(seen.maps[picture : picture + 1], seen.joint[picture : picture + 1])
            alone, _ = net(one, Heard(heard.words[index : index + 1], heard.lengths[index : index + 1]))
            assert torch.allclose(alone[0], together[index], atol=1e-5)


# --- The prompter ---


def test_attn_prompter_is_the_papers_arithmetic() -> None:
    torch.manual_seed(0)
    prompter = AttnPrompter(6, 8, 2).eval()
    seen, words, whole = torch.randn(2, 6, 8, 8), torch.randn(2, 5, 6), torch.randn(2, 6)
    lengths, scale, bias = torch.tensor([3, 5]), torch.tensor(1.3), torch.tensor(-0.4)
    for row, length in zip(words, lengths, strict=True):
        row[length:] = 0
    places = torch.randn(1, 8, 8, 8)
    with torch.no_grad():
        sparse, likeness = prompter(seen, words, whole, lengths, scale, bias, places)
        assert sparse.shape == (2, 4, 8)
        for b in range(2):
            v = seen[b]
            cosine = torch.nn.functional.cosine_similarity(v, whole[b][:, None, None], dim=0)
            assert torch.allclose(likeness[b, 0], cosine * scale.exp() + bias, atol=1e-5)
            acts = [
                torch.sigmoid(
                    torch.nn.functional.cosine_similarity(v, words[b, i][:, None, None], dim=0) * scale.exp() + bias
                )
                for i in range(int(lengths[b]))
            ]
            local = (v + torch.stack([act * v for act in acts]).mean(dim=0)) / 2
            joined = torch.cat([local, torch.sigmoid(likeness[b]) * v, v])[None]
            expected = prompter.shrink(prompter.narrow(joined) + places)
            assert torch.allclose(sparse[b], expected[0].flatten(1).t(), atol=1e-5)


def test_published_configuration_has_the_papers_sizes() -> None:
    for size, width in (("b", 768), ("l", 1024)):
        config = published(size)  # type: ignore[arg-type]
        assert (config.image, config.mask_side, config.width, config.joint_width) == (1024, 256, width, 1152)
        assert (config.rank, config.alpha, config.lora_dropout, config.dense, config.words) == (
            16,
            16,
            0.1,
            True,
            False,
        )
    prompter = AttnPrompter(1152, 256, published().down)
    sparse, _ = prompter.eval()(
        torch.randn(1, 1152, 27, 27), torch.randn(1, 4, 1152), torch.randn(1, 1152), torch.tensor([4]),
        torch.tensor(4.7), torch.tensor(-16.0), torch.zeros(1, 256, 27, 27),
    )  # fmt: skip
    assert sparse.shape == (1, 49, 256)


# --- Public checkpoints ---


@pytest.mark.parametrize("kind", ["siglip", "clip"])
def test_published_configuration_stands_on_public_checkpoints_by_path(kind: str, tmp_path: Path) -> None:
    encoders = public_encoders(tmp_path / kind, kind)
    torch.manual_seed(0)
    torch.save(Sam(SAM).state_dict(), tmp_path / "sam.pth")
    net = assemble(encoders, tmp_path / "sam.pth")
    assert (net.config.image, net.config.window, net.config.global_blocks) == (SIDE, 4, (1,))
    assert net.config.joint_width == (32 if kind == "siglip" else 24)
    learning = {name for name, value in net.named_parameters() if value.requires_grad}
    assert not [name for name in learning if "image_encoder.blocks" in name and ".lora_" not in name]
    assert any("encoders.text" in name and ".lora_" in name for name in learning)
    assert any(name.startswith("sam.mask_decoder") for name in learning)
    assert any(name.startswith("prompter") for name in learning)

    segmenter = ReferringSegmenter(net)
    picture = np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)
    found = segmenter.segment(picture, "the river")
    assert found.mask.shape == (50, 70)
    other = segmenter.segment(picture, "the largest lake")
    assert not np.array_equal(found.probability, other.probability)

    save(tmp_path / "weights", net)
    again = perception.load("rsrefseg", tmp_path / "weights", encoders=encoders)
    assert np.allclose(again.segment(picture, "the river").probability, found.probability, atol=1e-5)
    with pytest.raises(WeightsError, match="give its folder as encoders"):
        perception.load("rsrefseg", tmp_path / "weights")


def authors_checkpoint(encoders: Path) -> tuple[dict[str, torch.Tensor], RSRefSeg]:
    """A checkpoint as the authors' code saves one (peft around transformers), and what it should become."""
    from transformers import SiglipModel

    sam = sam_of_transformers()
    siglip: Any = SiglipModel.from_pretrained(encoders)
    rank = 2
    state: dict[str, torch.Tensor] = {}
    merged: dict[str, dict[str, torch.Tensor]] = {"backbone": {}, "clip_vision_encoder": {}, "clip_text_encoder": {}}
    adapted = {
        "backbone": ("qkv", "proj", "lin1", "lin2", "conv1", "conv2"),
        "clip_vision_encoder": ("q_proj", "k_proj", "v_proj"),
        "clip_text_encoder": ("q_proj", "k_proj", "v_proj", "head"),
    }
    parts = {"backbone": sam.vision_encoder, "clip_vision_encoder": siglip.vision_model}
    parts["clip_text_encoder"] = siglip.text_model
    for part, module in parts.items():
        prefix = f"{part}.base_model.model.model."
        for name, value in module.state_dict().items():
            layer, _, last = name.rpartition(".")
            value = value.clone()
            if layer.rsplit(".", 1)[-1] in adapted[part]:
                if last == "weight":
                    down, up = 0.1 * torch.randn(rank, *value.shape[1:]), 0.1 * torch.randn(len(value), rank)
                    state[f"{prefix}{layer}.lora_A.default.weight"] = down
                    state[f"{prefix}{layer}.lora_B.default.weight"] = up.view(
                        len(value), rank, *[1] * (value.dim() - 2)
                    )
                    merged[part][name] = value + (up @ down.flatten(1)).view(value.shape)
                state[f"{prefix}{layer}.base_layer.{last}"] = value
            else:
                state[prefix + name] = value
            merged[part].setdefault(name, value)
    positions = sam.shared_image_embedding.state_dict()["positional_embedding"]
    state["backbone.base_model.model.shared_image_embedding.positional_embedding"] = positions
    state["clip_text_encoder.base_model.model.logit_scale"] = siglip.logit_scale.detach()
    state["clip_text_encoder.base_model.model.logit_bias"] = siglip.logit_bias.detach()
    state |= {f"sam_prompt_encoder.model.{k}": v for k, v in sam.prompt_encoder.state_dict().items()}
    state |= {f"sam_mask_decoder.model.{k}": v for k, v in sam.mask_decoder.state_dict().items()}

    prompter = AttnPrompter(32, 32, 2)
    shake(prompter)
    for own, theirs in (("narrow.0", "prompter_down_channel.conv"), ("narrow.1", "prompter_down_channel.bn"),
                        ("shrink.0", "prompter_down_spatial.0.conv"), ("shrink.1", "prompter_down_spatial.0.bn"),
                        ("shrink.3", "prompter_down_spatial.1.conv"), ("shrink.4", "prompter_down_spatial.1.bn"),
                        ("shrink.6", "prompter_down_spatial.2.conv")):  # fmt: skip
        for name, value in prompter.state_dict().items():
            if name.startswith(f"{own}."):
                value = value.abs() if name.endswith("running_var") else value
                state[f"{theirs}.{name.removeprefix(own + '.')}"] = value.clone()

    sam.vision_encoder.load_state_dict(merged["backbone"])
    siglip.vision_model.load_state_dict(merged["clip_vision_encoder"])
    siglip.text_model.load_state_dict(merged["clip_text_encoder"])
    tokenizer: Any = None
    config = replace(
        RSRefSegConfig(**{name: getattr(SAM, name) for name in SamConfig.__dataclass_fields__}),
        joint_width=32, encoder_rank=0,
    )  # fmt: skip
    expected = RSRefSeg(config, (siglip, tokenizer))
    own_sam = {f"sam.{k}": v for k, v in from_transformers(sam.state_dict()).items()}
    expected.load_state_dict(expected.state_dict() | own_sam)
    weighed = {f"prompter.{k}": v.abs() if k.endswith("running_var") else v for k, v in prompter.state_dict().items()}
    expected.load_state_dict(expected.state_dict() | weighed)
    return state, expected.eval()


@pytest.mark.parametrize("wrapped", ["module", "state_dict", ""])
def test_checkpoints_of_the_authors_code_go_in_key_for_key(wrapped: str, tmp_path: Path) -> None:
    encoders = public_encoders(tmp_path / "siglip", "siglip")
    state, expected = authors_checkpoint(encoders)
    torch.save({wrapped: state, "epoch": 3} if wrapped else state, tmp_path / "mp_rank_00_model_states.pth")
    net = load_published(tmp_path / "mp_rank_00_model_states.pth", encoders)
    wanted = expected.state_dict()
    assert net.state_dict().keys() == wanted.keys()
    for name, value in net.state_dict().items():
        assert torch.allclose(value.float(), wanted[name].float(), atol=1e-5), name
    assert net.config == replace(expected.config)


def test_checkpoints_that_lack_a_part_are_refused(tmp_path: Path) -> None:
    encoders = public_encoders(tmp_path / "siglip", "siglip")
    state, _ = authors_checkpoint(encoders)
    torch.save({name: value for name, value in state.items() if "mask_decoder" not in name}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="missing"):
        load(tmp_path / "a.pth", encoders)
    correction = next(name for name in state if ".lora_B." in name)
    torch.save({name: value for name, value in state.items() if name != correction}, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="no counterpart"):
        load(tmp_path / "b.pth", encoders)
    (tmp_path / "c.pth").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match=r"c\.pth"):
        load(tmp_path / "c.pth", encoders)
    with pytest.raises(WeightsError, match="give its folder"):
        load(tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"no SigLIP or CLIP"):
        assemble(tmp_path / "nowhere", tmp_path / "a.pth")
    (encoders / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(WeightsError, match="holds a bert"):
        assemble(encoders, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match="no SAM"):
        public_sam(tmp_path)


# --- What users call ---


@pytest.fixture(scope="module")
def segmenter() -> ReferringSegmenter:
    return ReferringSegmenter(tiny())


PICTURE = np.random.default_rng(0).integers(0, 256, (40, 90, 3), dtype=np.uint8)


def test_a_picture_of_any_size_has_a_mask_of_its_own_size(segmenter: ReferringSegmenter) -> None:
    found = segmenter.segment(PICTURE, "  the\n river ")
    assert found.asked == "the river"
    assert found.mask.shape == found.probability.shape == (40, 90)
    assert np.array_equal(found.mask, found.probability > 0.5)
    assert found.quality is None
    again = segmenter.segment(PICTURE, "the river")
    assert np.array_equal(found.probability, again.probability)


def test_clicks_and_boxes_are_in_the_pictures_pixels(segmenter: ReferringSegmenter) -> None:
    net = segmenter.net
    asked: list[torch.Tensor] = []
    hook = net.sam.prompt_encoder.register_forward_pre_hook(
        lambda module, args, kwargs: asked.append(kwargs["points"][0] if kwargs["points"] else kwargs["boxes"]),
        with_kwargs=True,
    )
    try:
        found = segmenter.segment_click(PICTURE, [(45, 20), (0, 40)], [1, 0])
        segmenter.segment_box(PICTURE, (9, 4, 81, 36))
    finally:
        hook.remove()
    assert asked[0].tolist() == [[[32.0, 32.0], [0.0, 63.0]]]
    assert torch.allclose(asked[1], torch.tensor([[6.4, 6.4, 57.6, 57.6]]))
    assert found.quality is not None and 0 <= found.quality <= 1
    assert found.asked == "click 45,20, not 0,40"


@pytest.mark.parametrize(
    ("phrase", "said"),
    [
        ("", "the phrase is empty"),
        (" \n\t", "the phrase is empty"),
        ("x" * 10_000, "the phrase has 10000 characters; at most 300 are allowed"),
        ("река", "'р', a letter of another script"),
        ("the 河", "'河', a letter of another script"),
        ("!!! 42", "has no word in it"),
        (7, "the phrase is int; text is needed"),
    ],
)
def test_phrases_that_cannot_be_heard_are_refused(segmenter: ReferringSegmenter, phrase: Any, said: str) -> None:
    with pytest.raises(PhraseError, match=said):
        segmenter.segment(PICTURE, phrase)
    with pytest.raises(InvalidRequestError):
        checked_phrase(phrase)


def test_accents_are_heard(segmenter: ReferringSegmenter) -> None:
    assert segmenter.segment(PICTURE, "the café's roof").mask.shape == (40, 90)


def test_clicks_and_boxes_outside_the_picture_are_refused(segmenter: ReferringSegmenter) -> None:
    for points, labels, said in (
        ([], None, "there are 0 clicks"),
        ([(1, 1)] * 65, None, "there are 65 clicks"),
        ([(91, 3)], None, "click 91,3 is outside the picture of 90 x 40 pixels"),
        ([(3, -1)], None, "outside"),
        ([(float("nan"), 3)], None, "outside"),
        ([(3, 3)], [2], "a 1 or a 0"),
        ([(3, 3)], [1, 1], "a 1 or a 0"),
        ([(3, 3)], [0], "one must say where it is"),
    ):
        with pytest.raises(PromptError, match=said):
            segmenter.segment_click(PICTURE, points, labels)
    for box, said in (
        ((1, 2, 3), "3 numbers"),
        ((5, 5, 5, 9), "is empty"),
        ((9, 5, 5, 9), "is empty"),
        ((5, 5, 95, 9), "outside"),
    ):
        with pytest.raises(PromptError, match=said):
            segmenter.segment_box(PICTURE, box)
    pictures: list[Any] = [PICTURE.astype(np.float32), PICTURE[..., 0], PICTURE[:4]]
    for picture in pictures:
        with pytest.raises(InvalidRequestError, match="8 x 8 pixels"):
            segmenter.segment(picture, "the river")


def test_a_mask_becomes_files(segmenter: ReferringSegmenter, tmp_path: Path) -> None:
    import rasterio

    image = Image(PICTURE, Affine(10, 0, 1_000_000, 0, -10, 6_000_000), CRS.from_epsg(3857), np.ones((40, 90), bool))
    found = segmenter.segment(image, "the river")
    mask = np.zeros((40, 90), dtype=bool)
    mask[2:10, 3:20], mask[30:34, 50:53], mask[2, 3] = True, True, False
    found = replace(found, mask=mask)
    for name in ("a.tif", "a.png", "a.geojson"):
        found.write(tmp_path / name)
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.crs == image.crs and dataset.transform == image.transform
        assert np.array_equal(dataset.read(1), mask)
        assert dataset.tags()["EARTHGEN_ASKED"] == "the river"
    shown = np.asarray(Picture.open(tmp_path / "a.png"))
    assert np.array_equal(shown[..., 3] > 0, mask)
    areas = json.loads((tmp_path / "a.geojson").read_text())["features"]
    assert [area["properties"]["pixels"] for area in areas] == [8 * 17 - 1, 12]
    assert 0 < areas[0]["properties"]["area_m2"] < 8 * 17 * 100
    assert found.geojson(1)["left_out"] == 1
    with pytest.raises(PromptError, match="no reference system"):
        segmenter.segment(PICTURE, "the river").write(tmp_path / "b.geojson")
    with pytest.raises(perception.UnknownModelError):
        perception.load("rsrefseg2")


def test_weights_come_back_the_same(tmp_path: Path) -> None:
    net = tiny()
    save(tmp_path, net)
    again = load(tmp_path)
    with torch.no_grad():
        one, other = net(seen_by(net, 1), heard_of((4,)))[0], again(seen_by(again, 1), heard_of((4,)))[0]
    assert torch.equal(one, other)
    (tmp_path / "model.safetensors").write_bytes(b"0" * 100)
    with pytest.raises(WeightsError, match="cannot be loaded"):
        load(tmp_path)
