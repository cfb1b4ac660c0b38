"""After Semantic-CD: towers, cost volume, aggregation, decoders, losses, and any list of class names."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from earthgen.errors import InvalidRequestError, WeightsError
from perception import semantic_cd
from perception.aggregation import ClassAttention, WindowAttention, cost_volume
from perception.checkpoint import save_network
from perception.errors import ClassListError
from perception.pair import Pair
from perception.registry import load as load_model
from perception.semantic_cd import (
    Schedule,
    SemanticCD,
    SemanticCDConfig,
    SemanticChange,
    SemanticDetector,
    check_classes,
    class_vectors,
    load,
    reconstruction,
    semantic_change_losses,
    small,
)
from perception.towers import OpenClipTower, SmallTower

TINY = SemanticCDConfig(
    tower="small",
    tower_widths=(8, 8, 8),
    joint_width=12,
    text_width=10,
    width=8,
    rounds=1,
    heads=2,
    window=4,
    guidance=6,
    decoder=(8, 8),
    decoder_guidance=(4, 4),
    classes=("water", "tree", "building"),
    templates=("a picture of {}", "{} seen from above"),
)


class HashedText:
    """Stands in for a text encoder: every text has a random unit vector of its own."""

    id = "hashed"
    width = 10

    def encode(self, text: str) -> npt.NDArray[np.float32]:
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        vector = np.random.default_rng(seed).normal(size=self.width)
        return (vector / np.linalg.norm(vector)).astype(np.float32)

    def encode_batch(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        return np.stack([self.encode(text) for text in texts])

    def tokens(self, text: str) -> npt.NDArray[np.float32]:
        return self.encode(text)[None]


@pytest.fixture
def net() -> SemanticCD:
    torch.manual_seed(0)
    return SemanticCD(TINY).eval()


def words(count: int = 3) -> torch.Tensor:
    return torch.randn(count, 10, generator=torch.Generator().manual_seed(9))


def pairs(count: int = 1, height: int = 32, width: int = 40, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 2, 3, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


# --- Aggregation ---


def test_the_cost_volume_is_the_cosine() -> None:
    features, text = torch.randn(2, 5, 3, 4), torch.randn(6, 5)
    volume = cost_volume(features, text)
    expected = F.cosine_similarity(features[1, :, 2, 3], text[4], dim=0)
    assert volume.shape == (2, 6, 3, 4)
    assert torch.allclose(volume[1, 4, 2, 3], expected, atol=1e-6)


@given(st.integers(1, 11), st.integers(1, 11), st.booleans(), st.integers(0, 2**31))
@settings(max_examples=15)
@torch.no_grad()
def test_windows_are_those_of_looking_at_every_position(height: int, width: int, shifted: bool, seed: int) -> None:
    torch.manual_seed(seed)
    attention, x, guidance = WindowAttention(8, 3, 2, 4, shifted), torch.randn(2, height, width, 8), None
    guidance = torch.randn(2, height, width, 3)
    shift = 2 if shifted else 0
    normed = attention.norm(x)
    guided = torch.cat([normed, guidance], dim=-1)
    q, k, v = attention.query(guided), attention.key(guided), attention.value(normed)

    def window(row: int, column: int) -> tuple[int, int]:
        # The first half window of a shifted layout is a window of its own.
        return (row - shift) // 4, (column - shift) // 4

    places = [(row, column) for row in range(height) for column in range(width)]
    mixed = torch.zeros_like(x)
    for row, column in places:
        near = [place for place in places if window(*place) == window(row, column)]
        rows, columns = zip(*near, strict=True)
        for head in range(2):
            part = slice(4 * head, 4 * head + 4)
            scores = (q[:, row, column, None, part] * k[:, rows, columns, part]).sum(-1) / 2
            mixed[:, row, column, part] = (scores.softmax(-1)[..., None] * v[:, rows, columns, part]).sum(1)
    expected = x + attention.out(mixed)
    expected = expected + attention.mlp(expected)
    assert torch.allclose(attention(x, guidance), expected, atol=1e-5)


@torch.no_grad()
def test_classes_are_compared_by_linear_attention() -> None:
    torch.manual_seed(0)
    attention, text = ClassAttention(4, 3, 1), torch.randn(5, 3)
    # The same everywhere, so that pooling changes nothing.
    x = torch.randn(1, 5, 1, 1, 4).expand(1, 5, 2, 2, 4)
    normed = attention.norm(x[0, :, 0, 0])
    guided = torch.cat([normed, text], dim=-1)
    q, k = F.elu(attention.query(guided)) + 1, F.elu(attention.key(guided)) + 1
    weight = q @ k.T
    expected = x[0, :, 0, 0] + attention.out(weight / weight.sum(1, keepdim=True) @ attention.value(normed))
    expected = expected + attention.mlp(expected)
    assert torch.allclose(attention(x, text)[0, :, 1, 1], expected, atol=1e-5)


# --- Towers ---


def tiny_clip(tokens: bool = True) -> Any:
    open_clip = pytest.importorskip("open_clip")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vision = {"image_size": 32, "layers": 3, "width": 64, "patch_size": 8}
        net = open_clip.model.CLIP(
            10, vision, {"context_length": 8, "vocab_size": 64, "width": 16, "heads": 2, "layers": 1}
        )
    net.visual.preprocess_cfg = {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}
    return net.eval().requires_grad_(False)


@torch.no_grad()
def test_a_clip_patch_speaks_of_itself_in_the_last_block() -> None:
    clip = tiny_clip()
    tower = OpenClipTower(clip).eval()
    images = pairs(2, 32, 32)[:, 0]
    # OpenCLIP's own blocks, the last one forbidden to look at any other token.
    visual = clip.visual
    mean, std = (torch.tensor(clip.visual.preprocess_cfg[name]).view(1, 3, 1, 1) for name in ("mean", "std"))
    x = visual._embeds(((images + 1) / 2 - mean) / std)
    first, second, last = visual.transformer.resblocks
    early = first(x)
    late = second(early)
    alone = torch.full((17, 17), float("-inf")).fill_diagonal_(0.0)
    expected = visual.ln_post(last(late, attn_mask=alone)) @ visual.proj
    seen = tower(images)
    assert seen.joint.shape == (2, 10, 4, 4)
    assert torch.allclose(seen.joint.flatten(2).transpose(1, 2), expected[:, 1:], atol=1e-4)
    assert torch.allclose(seen.skips[0].flatten(2).transpose(1, 2), late[:, 1:], atol=1e-4)
    assert torch.allclose(seen.skips[1].flatten(2).transpose(1, 2), early[:, 1:], atol=1e-4)


@torch.no_grad()
def test_clip_sees_other_sizes_and_other_models_are_refused() -> None:
    clip = tiny_clip()
    assert OpenClipTower(clip)(pairs(1, 24, 56)[:, 0]).joint.shape == (1, 10, 3, 7)
    del clip.visual.ln_pre
    with pytest.raises(WeightsError, match="no plain vision transformer"):
        OpenClipTower(clip)


def test_only_the_attention_of_clip_is_tuned_and_slowly() -> None:
    config = dataclasses.replace(TINY, tower="open_clip")
    net = SemanticCD(config, OpenClipTower(tiny_clip()))
    optimiser, schedule = Schedule(steps=10).optimiser(net)
    tuned = {name for name, value in net.tower.named_parameters() if value.requires_grad}
    assert tuned
    assert all(".attn." in name for name in tuned)
    assert [group["lr"] for group in optimiser.param_groups] == [2e-4, pytest.approx(2e-6)]
    for _ in range(10):
        optimiser.step()
        schedule.step()
    assert optimiser.param_groups[0]["lr"] == pytest.approx(0, abs=1e-12)
    with pytest.raises(WeightsError, match="needs an OpenCLIP tower"):
        SemanticCD(config)


# --- The network ---


@torch.no_grad()
def test_any_number_of_classes_in_any_order(net: SemanticCD) -> None:
    text, order = words(5), torch.tensor([3, 0, 4, 1, 2])
    plain, shuffled = net(pairs(), text), net(pairs(), text[order])
    assert plain.semantics.shape == (1, 2, 5, 32, 40)
    assert plain.change.shape == (1, 1, 32, 40)
    assert torch.allclose(shuffled.semantics, plain.semantics[:, :, order], atol=1e-5)
    assert torch.allclose(shuffled.change, plain.change, atol=1e-5)
    assert net(pairs(), words(1)).semantics.shape == (1, 2, 1, 32, 40)


@torch.no_grad()
def test_swapped_dates_swap_the_classes_and_keep_the_change(net: SemanticCD) -> None:
    plain, swapped = net(pairs(), words()), net(pairs().flip(1), words())
    assert torch.allclose(swapped.change, plain.change, atol=1e-5)
    assert torch.allclose(swapped.semantics, plain.semantics.flip(1), atol=1e-5)


@torch.no_grad()
def test_a_pair_of_one_image_looks_the_same_everywhere_to_the_binary_decoder(net: SemanticCD) -> None:
    same = pairs(2)
    same[:, 1] = same[:, 0]
    found = net(same, words())
    assert torch.allclose(found.semantics[:, 0], found.semantics[:, 1], atol=1e-5)
    # It sees zeros whatever the picture, so that two pictures get one answer.
    assert torch.allclose(found.change[0], found.change[1], atol=1e-4)
    differing = net(pairs(2), words()).change
    assert (differing[0] - differing[1]).abs().max() > 1e-2


@torch.no_grad()
def test_the_decoders_are_decoupled(net: SemanticCD) -> None:
    plain = net(pairs(), words())
    for parameter in [*net.semantic_decoder.parameters(), *net.prompter.parameters()]:
        parameter.add_(0.1)
    changed = net(pairs(), words())
    assert torch.equal(changed.change, plain.change)
    assert not torch.allclose(changed.semantics, plain.semantics, atol=1e-3)


@torch.no_grad()
def test_a_batch_of_two_is_two_batches_of_one(net: SemanticCD) -> None:
    both = net(pairs(2), words())
    for index in range(2):
        alone = net(pairs(2)[index : index + 1], words())
        assert torch.allclose(both.change[index], alone.change[0], atol=1e-5)
        assert torch.allclose(both.semantics[index], alone.semantics[0], atol=1e-5)


def labels(height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    change = torch.zeros(2, height, width, dtype=torch.bool)
    change[0, 4:18, 6:24] = change[1, 16:, :14] = True
    return change, change * 1, change * torch.tensor([2, 3])[:, None, None]


def test_gradients_reach_every_parameter() -> None:
    torch.manual_seed(0)
    net = SemanticCD(TINY)
    semantic_change_losses(net(pairs(2), words()), *labels(32, 40)).total.backward()
    assert [name for name, value in net.named_parameters() if value.grad is None or not value.grad.any()] == []


def test_it_can_learn_a_handful_of_pairs() -> None:
    torch.manual_seed(0)
    net = SemanticCD(TINY)
    change, before, after = labels(32, 32)
    colours = torch.tensor([[-0.3, 0.0, 0.3], [0.8, -0.6, -0.6], [-0.6, 0.8, -0.6], [-0.6, -0.6, 0.8]])
    pair = torch.stack([colours[before], colours[after]], dim=1).permute(0, 1, 4, 2, 3) + 0.05 * pairs(2, 32, 32)
    optimiser, _ = Schedule(rate=5e-3, steps=1000).optimiser(net)
    for _ in range(60):
        optimiser.zero_grad()
        semantic_change_losses(net(pair, words()), change, before, after).total.backward()
        optimiser.step()
    with torch.no_grad():
        found = net.eval()(pair, words())
    mask = found.change[:, 0] > 0
    assert (mask & change).sum() / (mask | change).sum() > 0.8
    named = found.semantics.argmax(dim=2) + 1
    assert (named[:, 0] == before)[change].float().mean() > 0.9
    assert (named[:, 1] == after)[change].float().mean() > 0.9


def test_sizes_it_cannot_cut_into_patches_are_refused(net: SemanticCD) -> None:
    with pytest.raises(InvalidRequestError, match="multiples of 8"):
        net(pairs(1, 30, 40), words())


def test_named_configurations_can_be_built() -> None:
    assert sum(parameter.numel() for parameter in SemanticCD(small()).parameters()) < 1_000_000
    assert reconstruction().tower == "open_clip"
    assert SmallTower((8, 8, 8), 4).stride == 8


# --- Losses ---


def test_the_three_losses_are_those_of_single_pixels() -> None:
    torch.manual_seed(0)
    found = SemanticChange(torch.randn(2, 1, 3, 4), torch.randn(2, 2, 3, 3, 4))
    change = torch.rand(2, 3, 4) < 0.5
    before, after = (torch.randint(1, 4, (2, 3, 4)) * change for _ in range(2))
    losses = semantic_change_losses(found, change, before, after)
    binary, entropy, consistency = [], [], []
    for index in np.ndindex(2, 3, 4):
        b, row, column = index
        probability = found.change[b, 0, row, column].sigmoid()
        binary.append(-(probability if change[index] else 1 - probability).log())
        both = [found.semantics[b, date, :, row, column].softmax(0) for date in (0, 1)]
        if change[index]:
            entropy += [-both[0][before[index] - 1].log(), -both[1][after[index] - 1].log()]
        else:
            consistency.append(1 - F.cosine_similarity(both[0], both[1], dim=0))
    assert torch.allclose(losses.change, torch.stack(binary).mean(), atol=1e-5)
    assert torch.allclose(losses.semantics, torch.stack(entropy).mean(), atol=1e-5)
    assert torch.allclose(losses.consistency, torch.stack(consistency).mean(), atol=1e-5)
    assert torch.allclose(losses.total, losses.change + losses.semantics + losses.consistency)


def test_losses_without_change_or_without_stillness_are_finite() -> None:
    found = SemanticChange(torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 3, 2, 2))
    for value in (False, True):
        change = torch.full((1, 2, 2), value)
        losses = semantic_change_losses(found, change, torch.zeros(1, 2, 2), torch.zeros(1, 2, 2))
        assert torch.isfinite(losses.total)


# --- Words ---


def test_a_class_is_the_mean_of_its_sentences() -> None:
    encoder = HashedText()
    vectors = class_vectors(encoder, ["water", "tree"], ["a {}", "{} from above"])
    expected = (encoder.encode("a tree") + encoder.encode("tree from above")) / 2
    assert np.allclose(vectors[1].numpy(), expected)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        ([], "0 classes were given; 1 to 64"),
        (["a"] * 65, "65 classes were given"),
        (["water", " "], "has an empty name"),
        (["water", "tree", "water "], "'water' is listed twice"),
    ],
)
def test_class_lists_that_make_no_sense_are_refused(classes: list[str], words: str) -> None:
    with pytest.raises(ClassListError, match=words):
        check_classes(classes)


# --- The detector ---


def colours(height: int, width: int, seed: int) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_any_size_and_any_names_are_detected(net: SemanticCD) -> None:
    model = SemanticDetector(net, HashedText())
    pair = Pair(colours(37, 50, 1), colours(37, 50, 2))
    found = model.detect(pair, classes=["lake", "wood", "house", "road"], tile=32, overlap=8)
    assert found.classes == ("lake", "wood", "house", "road")
    assert found.semantics is not None
    assert found.semantics.shape == (2, 4, 37, 50)
    assert found.labels is not None
    assert not found.labels[:, ~found.mask].any()
    assert set(np.unique(found.labels[:, found.mask])) <= {1, 2, 3, 4}
    assert np.array_equal(found.mask, found.logits[1] > found.logits[0])
    assert model.detect(pair, tile=32, overlap=8).classes == ("water", "tree", "building")


def test_saved_and_loaded_it_is_the_same(net: SemanticCD, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_network(tmp_path, "semantic-cd", TINY, net)
    monkeypatch.setattr(semantic_cd, "text_encoder", lambda name: HashedText())
    back, encoder = load(tmp_path)
    assert back.config == TINY
    with torch.no_grad():
        assert torch.equal(back(pairs(), words()).semantics, net(pairs(), words()).semantics)
    pair = Pair(colours(24, 32, 1), colours(24, 32, 2))
    expected = SemanticDetector(net, encoder).detect(pair)
    assert np.array_equal(load_model("semantic-cd", tmp_path).detect(pair).logits, expected.logits)

    monkeypatch.setattr(HashedText, "width", 11)
    with pytest.raises(WeightsError, match="text vectors of 10 numbers; minilm gives 11"):
        load(tmp_path)


def test_weights_on_clip_come_back_on_the_same_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(TINY, tower="open_clip")
    torch.manual_seed(0)
    net = SemanticCD(config, OpenClipTower(tiny_clip())).eval()
    save_network(tmp_path, "semantic-cd", config, net)
    with pytest.raises(WeightsError, match="say where that is"):
        load(tmp_path)

    clip = tiny_clip()
    for parameter in clip.visual.parameters():
        parameter.zero_()
    monkeypatch.setattr(
        semantic_cd, "load_open_clip", lambda source: (clip, None, lambda texts: torch.ones(len(texts), 8).long(), "id")
    )
    back, encoder = load(tmp_path, tower="somewhere")
    assert encoder.width == 10
    with torch.no_grad():
        assert torch.allclose(back(pairs(), words()).change, net(pairs(), words()).change, atol=1e-6)
