"""Latent checkpoints: which folders load, what a bad one is told, and pixels that depend on nothing but the address."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionControlNetPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from earthgen.errors import AddressError, EarthgenError, InvalidRequestError, WeightsError
from earthgen.latent import SCHEDULERS, LatentModel, LatentRoot, inpaint
from earthgen.latent.model import Condition, Control, choose_attention
from earthgen.latent.root import DEFAULT_CUTS
from earthgen.latent.schedule import Schedule
from earthgen.noise import NoiseField
from earthgen.overlap import blend, covering, ramp
from earthgen.pyramid import Box, world_size
from tests.tiny_latent import NUMBERS, TEXT, UNET, VAE, drop_tensor, save_checkpoint, save_controlnet

# diffusers' schedulers hand tensors to numpy in ways that numpy 2 is about to refuse.
pytestmark = [
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept:DeprecationWarning"),
]

Pixels = npt.NDArray[np.uint8]

ZOOM = 16
ROW, COLUMN = 21_000 * 256 // 2, 40_000 * 256 // 2
WHOLE = Box(ZOOM, ROW + 30, COLUMN + 70, 60, 120)


@pytest.fixture(scope="module")
def text2earth(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("text2earth"))


@pytest.fixture(scope="module")
def inpainting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("inpainting"), "Text2EarthDiffusionInpaintPipeline")


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checkpoint(tmp_path_factory.mktemp("plain"), "StableDiffusionPipeline", levels=False)


@pytest.fixture(scope="module")
def model(text2earth: Path) -> LatentModel:
    return LatentModel.load(text2earth, "cpu")


@pytest.fixture(scope="module")
def plain_model(plain: Path) -> LatentModel:
    return LatentModel.load(plain, "cpu")


@pytest.fixture(scope="module")
def inpainting_model(inpainting: Path) -> LatentModel:
    return LatentModel.load(inpainting, "cpu")


@pytest.fixture
def folder(text2earth: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(text2earth, tmp_path / "checkpoint")


def quick_root(model: LatentModel, prompt: str = "a harbour", **options: Any) -> LatentRoot:
    """A root of two unguided steps in two phases."""
    quick: dict[str, Any] = {"guidance": 1, "zoom": ZOOM, "scheduler": "DPMSolverMultistep", "steps": 2, "cuts": (600,)}
    return LatentRoot(model, prompt, **{**quick, **options})


@pytest.fixture(scope="module")
def whole(model: LatentModel) -> Pixels:
    return quick_root(model).pixels(WHOLE)


def crop(whole: Pixels, box: Box) -> Pixels:
    row, column = box.row - WHOLE.row, box.column - WHOLE.column
    return whole[row : row + box.height, column : column + box.width]


# Loading


def test_text2earth_loads_in_one_precision_and_generates(model: LatentModel, whole: Pixels) -> None:
    assert (model.channels, model.knows_levels, model.attention) == (4, True, "sdpa")
    assert {parameter.dtype for parameter in model.unet.parameters()} == {torch.float32}
    assert whole.shape == (60, 120, 3)
    assert whole.std() > 5


def test_plain_stable_diffusion_loads_without_levels(plain_model: LatentModel) -> None:
    assert (plain_model.channels, plain_model.knows_levels) == (4, False)
    assert quick_root(plain_model).pixels(Box(ZOOM, 0, 0, 8, 8)).shape == (8, 8, 3)


def test_the_id_is_the_content(text2earth: Path, model: LatentModel, plain_model: LatentModel, tmp_path: Path) -> None:
    moved = shutil.copytree(text2earth, tmp_path / "elsewhere")
    assert LatentModel.load(str(moved), "cpu").id == model.id
    other = save_checkpoint(tmp_path / "other", seed=1)
    half = LatentModel.load(text2earth, "cpu", torch.bfloat16)
    assert len({model.id, plain_model.id, LatentModel.load(other, "cpu").id, half.id}) == 4


def test_autoencoders_spelt_as_in_the_first_diffusers_load(folder: Path, model: LatentModel) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = load_file(folder / VAE)
    for new, spelling in old.items():
        for key in [key for key in tensors if f".{new}." in key]:
            tensors[key.replace(f".{new}.", f".{spelling}.")] = tensors.pop(key)
    save_file(tensors, folder / VAE, {"format": "pt"})
    assert not any("to_q" in key for key in load_file(folder / VAE))
    loaded = LatentModel.load(folder, "cpu")
    assert np.array_equal(loaded.decode(states()), model.decode(states()))


def edit_json(path: Path, **changes: object) -> None:
    value = json.loads(path.read_text())
    path.write_text(json.dumps({key: item for key, item in {**value, **changes}.items() if item != "remove"}))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def pickle_instead(path: Path) -> None:
    path.rename(path.with_suffix(".bin"))


def resize_tensor(path: Path, name: str, *shape: int) -> None:
    save_file({**load_file(path), name: torch.zeros(shape)}, path, {"format": "pt"})


def embed_levels_by_table(folder: Path) -> None:
    edit_json(folder / "unet/config.json", class_embed_type=None, num_class_embeds=3)
    for layer in (1, 2):
        for kind in ("weight", "bias"):
            drop_tensor(folder / UNET, f"class_embedding.linear_{layer}.{kind}")
    resize_tensor(folder / UNET, "class_embedding.weight", 3, 32)


def on_json(name: str, **changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / name, **changes)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no index": (lambda f: (f / "model_index.json").unlink(), r"has no model_index\.json"),
    "index not JSON": (lambda f: (f / "model_index.json").write_text("{"), "not a JSON object"),
    "index a list": (lambda f: (f / "model_index.json").write_text("[]"), "it holds a list"),
    "another pipeline": (on_json("model_index.json", _class_name="FluxPipeline"), "'FluxPipeline'; allowed: Stable"),
    "code of its own": (on_json("model_index.json", unet=["my_unet", "MyUNet"]), "a UNet2DConditionModel is needed"),
    "no text encoder": (lambda f: shutil.rmtree(f / "text_encoder"), "has no folder text_encoder"),
    "no autoencoder": (lambda f: shutil.rmtree(f / "vae"), "has no folder vae"),
    "no tokenizer": (lambda f: shutil.rmtree(f / "tokenizer"), "has no folder tokenizer"),
    "no merges": (lambda f: (f / "tokenizer/merges.txt").unlink(), r"has no merges\.txt"),
    "vocabulary damaged": (lambda f: (f / "tokenizer/vocab.json").write_text("{"), "tokenizer in .* cannot be read"),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), r"scheduler has no scheduler_config\.json"),
    "no U-Net file": (lambda f: (f / UNET).unlink(), r"unet has no diffusion_pytorch_model\.safetensors"),
    "pickled U-Net": (lambda f: pickle_instead(f / UNET), r"unet holds diffusion_pytorch_model\.bin, a pickle"),
    "pickled text": (lambda f: pickle_instead(f / TEXT), r"text_encoder holds model\.bin, a pickle"),
    "U-Net cut short": (lambda f: cut(f / UNET), "unet/.* is truncated or damaged"),
    "text cut short": (lambda f: cut(f / TEXT), "text_encoder/.* is truncated or damaged"),
    "VAE cut short": (lambda f: cut(f / VAE), "vae/.* is truncated or damaged"),
    "level key missing": (
        lambda f: drop_tensor(f / UNET, "class_embedding.linear_1.weight"),
        r"1 tensors missing, first class_embedding\.linear_1\.weight",
    ),
    "text key missing": (
        lambda f: drop_tensor(f / TEXT, "text_model.final_layer_norm.bias"),
        r"1 tensors missing, first .*final_layer_norm\.bias",
    ),
    "VAE key missing": (
        lambda f: drop_tensor(f / VAE, "decoder.conv_in.bias"),
        r"1 tensors missing, first decoder\.conv_in\.bias",
    ),
    "level keys not announced": (
        on_json("unet/config.json", class_embed_type=None),
        r"4 tensors unknown, first class_embedding\.linear_1\.bias",
    ),
    "tensor of another shape": (
        lambda f: resize_tensor(f / UNET, "conv_in.weight", 8, 9, 3, 3),
        r"does not fit its config\.json: .*conv_in\.weight",
    ),
    "text of another shape": (
        lambda f: resize_tensor(f / TEXT, "text_model.final_layer_norm.bias", 3),
        r"does not fit its config\.json",
    ),
    "class table": (
        embed_levels_by_table,
        "class embedding 'table'; 'timestep'",
    ),
    "another class": (on_json("unet/config.json", _class_name="UNet2DModel"), "describes a UNet2DModel"),
    "another text class": (on_json("text_encoder/config.json", architectures=["T5EncoderModel"]), "T5EncoderModel"),
    "inpainting named, 4 channels": (
        on_json("model_index.json", _class_name="Text2EarthDiffusionInpaintPipeline"),
        "reads 4 channels and writes 4; a pipeline of this kind reads 9",
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_bad_folder_is_named_in_one_sentence(folder: Path, damage: str, capfd: pytest.CaptureFixture[str]) -> None:
    spoil, words = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(WeightsError, match=words) as caught:
        LatentModel.load(folder, "cpu")
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_nine_channels_under_a_text_to_image_name(inpainting: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(inpainting, tmp_path / "checkpoint")
    edit_json(folder / "model_index.json", _class_name="StableDiffusionPipeline")
    with pytest.raises(WeightsError, match="reads 9 channels and writes 4; a pipeline of this kind reads 4"):
        LatentModel.load(folder, "cpu")


def test_parts_that_do_not_fit_each_other(folder: Path, model: LatentModel) -> None:
    vocabulary = json.loads((folder / "tokenizer/vocab.json").read_text())
    more = {f"word{index}</w>": len(vocabulary) + index for index in range(10)}
    (folder / "tokenizer/vocab.json").write_text(json.dumps({**vocabulary, **more}))
    with pytest.raises(WeightsError, match="tokenizer knows 526 tokens, the text encoder 520"):
        LatentModel.load(folder, "cpu")


def test_an_autoencoder_of_another_reduction(folder: Path) -> None:
    small: Any = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(4, 4, 8),
        norm_num_groups=2,
    )
    small.save_pretrained(folder / "vae")
    with pytest.raises(WeightsError, match="4 latent channels of 3 colours, 4 pixels a side; 4 of 3, 8 pixels"):
        LatentModel.load(folder, "cpu")


def test_sources_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist; a folder or hf:OWNER/NAME"):
        LatentModel.load(tmp_path / "nothing", "cpu")
    (tmp_path / "model.ckpt").write_bytes(b"")
    with pytest.raises(WeightsError, match="is a file"):
        LatentModel.load(tmp_path / "model.ckpt", "cpu")


def test_a_device_that_is_not_there(text2earth: Path) -> None:
    with pytest.raises(InvalidRequestError, match="device 'warp' cannot be used"):
        LatentModel.load(text2earth, "warp")


def test_hub_names_go_to_the_hub_and_ask_for_no_code_or_pickles(
    text2earth: Path, model: LatentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def snapshot_download(name: str, allow_patterns: list[str]) -> str:
        asked[name] = allow_patterns
        return str(text2earth)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert LatentModel.load("hf:someone/earth", "cpu").id == model.id
    assert {Path(pattern).suffix for pattern in asked["someone/earth"]} == {".json", ".safetensors", ".txt"}


def test_a_hub_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(name: str, **_: object) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(WeightsError, match="hub checkpoint 'someone/earth' cannot be had: no route to host"):
        LatentModel.load("hf:someone/earth")


def test_without_transformers_the_extra_is_named(text2earth: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(WeightsError, match=r"pip install 'earthgen\[text\]'"):
        LatentModel.load(text2earth, "cpu")


# Attention and precision


class FakeNet:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.processor: object = None

    def enable_xformers_memory_efficient_attention(self) -> None:
        if self.error:
            raise self.error
        self.processor = "xformers"

    def set_attn_processor(self, processor: object) -> None:
        self.processor = processor


def test_attention_is_chosen_at_run_time(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, cpu = torch.device("cuda"), torch.device("cpu")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: object())
    assert choose_attention(FakeNet(), cuda) == "xformers"
    assert choose_attention(FakeNet(), cpu) == "sdpa"
    broken = FakeNet(NotImplementedError("built for another card"))
    assert choose_attention(broken, cuda) == "sdpa"
    assert type(broken.processor).__name__ == "AttnProcessor2_0"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert choose_attention(FakeNet(), cuda) == "sdpa"


def difference(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(int) - b).mean())


def test_half_precision_is_close_to_single(text2earth: Path, model: LatentModel) -> None:
    half = LatentModel.load(text2earth, "cpu", torch.bfloat16)
    assert {parameter.dtype for parameter in half.unet.parameters()} == {torch.bfloat16}
    single, rounded = (each.predict(states(), AT, each.condition("a harbour", guidance=1)) for each in (model, half))
    assert rounded.dtype == torch.float32
    assert 0 < (rounded - single).std() < 0.1 * single.std()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_close_to_the_cpu(text2earth: Path, whole: Pixels) -> None:
    box = Box(ZOOM, WHOLE.row, WHOLE.column, 64, 64)
    for dtype, bound in ((torch.float32, 0.5), (torch.float16, 2), (torch.bfloat16, 4)):
        on_gpu = LatentModel.load(text2earth, "cuda", dtype)
        assert difference(quick_root(on_gpu).pixels(box), crop(whole, box)) < bound


# What the network is told


def states(count: int = 1) -> torch.Tensor:
    return torch.from_numpy(NoiseField(5, 0).normal(0, 0, 32 * count, 32, 4)).reshape(4, count, 32, 32).transpose(0, 1)


AT = torch.tensor(500)


def watch(monkeypatch: pytest.MonkeyPatch, part: Any, name: str) -> list[torch.Tensor]:
    """A list to which every first argument of a method is added from now on."""
    inputs: list[torch.Tensor] = []
    method = getattr(part, name)

    def watched(first: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        inputs.append(first)
        return method(first, *arguments, **options)

    monkeypatch.setattr(part, name, watched)
    return inputs


def test_the_guided_branches_are_the_null_prompt_of_unknown_level_and_the_prompt(model: LatentModel) -> None:
    null = model.predict(states(), AT, model.condition("fog", guidance=1))
    text = model.predict(states(), AT, model.condition("a harbour", guidance=1, zoom=ZOOM))
    guided = model.predict(states(), AT, model.condition("a harbour", "fog", 4.0, ZOOM))
    assert (text - null).abs().max() > 0.05
    torch.testing.assert_close(guided, null + 4 * (text - null), rtol=1e-3, atol=1e-4)
    assert model.condition("a harbour", "fog", 4.0, ZOOM).levels.tolist() == [0, ZOOM]


def test_a_batch_is_its_members(model: LatentModel) -> None:
    condition = model.condition("a harbour", "fog", 4.0, ZOOM)
    both = model.predict(states(2), AT, condition)
    each = [model.predict(state[None], AT, condition) for state in states(2)]
    torch.testing.assert_close(both, torch.cat(each), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "told"), [("text2earth", True), ("plain", False)])
def test_the_level_is_told_only_where_there_is_an_embedding(
    name: str, told: bool, request: pytest.FixtureRequest
) -> None:
    model: LatentModel = request.getfixturevalue("model" if name == "text2earth" else "plain_model")
    outputs = [model.predict(states(), AT, model.condition("a harbour", guidance=1, zoom=zoom)) for zoom in (10, 18)]
    assert (not torch.equal(*outputs)) == told


def test_the_level_is_the_zoom_from_10_to_18_and_else_unknown(model: LatentModel) -> None:
    levels = {zoom: model.condition("", guidance=1, zoom=zoom).levels.item() for zoom in (0, 9, 10, 18)}
    assert levels == {0: 0, 9: 0, 10: 10, 18: 18}
    assert model.condition("", guidance=1).levels.item() == 0


def test_a_level_prefix_in_a_prompt_is_only_text(model: LatentModel) -> None:
    assert model.condition("12_GOOGLE_LEVEL_a harbour", guidance=1).levels.item() == 0


def test_guidance_of_one_is_no_guidance(model: LatentModel, monkeypatch: pytest.MonkeyPatch) -> None:
    box = Box(ZOOM, WHOLE.row, WHOLE.column, 4, 4)
    plain, negative = (quick_root(model, negative=text, guidance=1, steps=1) for text in ("", "fog"))
    assert plain.id == negative.id
    pixels = plain.pixels(box)
    assert np.array_equal(pixels, negative.pixels(box))
    # The same through the sum of two branches.
    condition = model.condition("a harbour", "fog", 2, ZOOM)
    one = Condition(condition.text, condition.levels, 1.0)
    monkeypatch.setattr(LatentModel, "condition", lambda *_: one)
    assert difference(quick_root(model, steps=1).pixels(box), pixels) < 0.5


def stock_parts(model: LatentModel) -> dict[str, Any]:
    """What a pipeline of diffusers is built from."""
    return {
        "vae": model.vae,
        "text_encoder": model.text_encoder,
        "tokenizer": model.tokenizer,
        "unet": model.unet,
        "scheduler": DDIMScheduler.from_config(NUMBERS),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def test_one_window_is_what_the_stock_pipeline_makes(plain_model: LatentModel) -> None:
    pipeline: Any = StableDiffusionPipeline(**stock_parts(plain_model))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt="a harbour",
        negative_prompt="fog",
        guidance_scale=4.0,
        num_inference_steps=3,
        latents=states(),
        output_type="latent",
    ).images
    condition = plain_model.condition("a harbour", "fog", 4.0)
    schedule = Schedule("DDIM", plain_model.scheduler_numbers, 3)
    ours = schedule.run(0, states(), lambda x, timestep: plain_model.predict(x, timestep, condition))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


# Schedules


def toward(target: torch.Tensor, seen: list[torch.Tensor]) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The exact noise prediction for data that are one point: a deterministic solver then always sees one noise."""
    kept = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0).numpy()

    def predict(state: torch.Tensor, timestep: torch.Tensor) -> torch.Tensor:
        share = float(np.interp(float(timestep), np.arange(1000), kept))
        seen.append((state - share**0.5 * target) / (1 - share) ** 0.5)
        return seen[-1]

    return predict


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("cuts", [(), (900, 750, 600, 400)])
def test_every_scheduler_follows_its_path_through_the_cuts(name: str, cuts: tuple[int, ...]) -> None:
    schedule = Schedule(name, NUMBERS, 10, cuts)
    assert len(schedule.calls) == len(cuts) + 1
    target, seen = states() * 0.5, []  # type: tuple[torch.Tensor, list[torch.Tensor]]
    state = states(2)[1:] * schedule.noise_scale
    before = torch.random.get_rng_state()
    for phase in range(len(schedule.calls)):
        state = schedule.run(phase, state, toward(target, seen), [7])
    assert torch.equal(torch.random.get_rng_state(), before)
    assert len(seen) == sum(schedule.calls)
    # Some end at timestep 0, where a standard deviation of 0.03 of noise is left.
    assert (state - target).std() < 0.05
    if not any(word in name for word in ("Ancestral", "DDPM", "LCM", "TCD")):
        for noise in seen:
            # KDPM2 looks between timesteps, where its noise level and this one's differ a little.
            torch.testing.assert_close(noise, seen[0], rtol=0, atol=0.03 if "KDPM2" in name else 0.003)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("Foo", NUMBERS, 5), "unknown scheduler 'Foo'; allowed: DDIMScheduler"),
        (("FlowMatchEulerDiscreteScheduler", NUMBERS, 5), "unknown scheduler"),
        (("DDIM", NUMBERS, 0), "0 denoising steps; 1 to 1000"),
        (("LCM", NUMBERS, 400), "LCMScheduler cannot take 400 steps"),
        (("DDIM", NUMBERS, 5, (0,)), "phase cuts"),
        (("DDIM", {}, 5), r"scheduler_config\.json has no num_train_timesteps"),
        (("DDIM", {**NUMBERS, "beta_schedule": "wavy"}, 5), "does not make a DDIMScheduler: wavy"),
        (("DDIM", {**NUMBERS, "beta_start": "low"}, 5), "does not make a DDIMScheduler"),
    ],
)
def test_schedules_that_cannot_be(arguments: Any, words: str) -> None:
    with pytest.raises(EarthgenError, match=words):
        Schedule(*arguments)


# Windows


@pytest.mark.parametrize("stride", [16, 128])
def test_the_four_weights_at_a_place_sum_to_exactly_one(stride: int) -> None:
    weights = ramp(stride, stride)
    first, second = slice(None, stride), slice(stride, None)
    total = weights[first, first] + weights[first, second] + weights[second, first] + weights[second, second]
    assert (total == 1).all()
    assert weights.min() > 0


@given(st.integers(-100, 100), st.integers(1, 50), st.integers(1, 9), st.data())
@settings(max_examples=30)
def test_blending_windows_of_a_plane_gives_the_plane(first: int, length: int, stride: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(1, stride))
    side = stride + overlap

    def plane(rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64]) -> npt.NDArray[np.float32]:
        return (rows[:, None] * 3 + columns[None, :]).astype(np.float32)[None]

    windows = [
        ((r, c), plane(np.arange(r * stride, r * stride + side), np.arange(c * stride, c * stride + side)))
        for r in covering(first, length, stride, overlap)
        for c in covering(7, 5, stride, overlap)
    ]
    blended = blend(first, 7, length, 5, stride, overlap, windows)
    np.testing.assert_allclose(blended, plane(np.arange(first, first + length), np.arange(7, 12)), rtol=1e-5, atol=1e-4)


# Roots

offsets = st.tuples(st.integers(0, 40), st.integers(0, 100), st.integers(1, 20), st.integers(1, 20))


@given(st.lists(offsets, min_size=1, max_size=2), st.sampled_from([0, 300_000, 256 << 20]))
@settings(max_examples=3)
def test_a_crop_is_the_crop_of_the_whole_in_any_order_with_any_cache(
    model: LatentModel, whole: Pixels, places: list[tuple[int, int, int, int]], cache_bytes: int
) -> None:
    root = quick_root(model, cache_bytes=cache_bytes)
    for row, column, height, width in places:
        box = Box(ZOOM, WHOLE.row + row, WHOLE.column + column, height, width)
        assert np.array_equal(root.pixels(box), crop(whole, box))


def test_blocks_keep_the_promise_and_nearly_the_pixels(model: LatentModel) -> None:
    large, small = Box(ZOOM, ROW, COLUMN + 70, 6, 100), Box(ZOOM, ROW + 2, COLUMN + 160, 4, 10)
    blocked = quick_root(model, cuts=(), block=2).pixels(large)
    assert np.array_equal(quick_root(model, cuts=(), block=2).pixels(small), blocked[2:, 90:])
    assert difference(quick_root(model, cuts=()).pixels(small), blocked[2:, 90:]) < 0.1


def test_solvers_that_add_noise_keep_the_promise(model: LatentModel) -> None:
    def pixels(column: int) -> Pixels:
        root = quick_root(model, scheduler="EulerAncestralDiscrete")
        return root.pixels(Box(ZOOM, ROW, column, 8, 160 - column))

    assert np.array_equal(pixels(0)[:, 130:], pixels(130))


def test_the_world_has_no_edge_at_180_degrees(model: LatentModel) -> None:
    size, other = world_size(ZOOM), quick_root(model)
    across = quick_root(model).pixels(Box(ZOOM, ROW, size - 4, 6, 8))
    assert np.array_equal(across[:, 4:], other.pixels(Box(ZOOM, ROW, 0, 6, 4)))
    assert np.array_equal(across, other.pixels(Box(ZOOM, ROW, -4, 6, 8)))


def test_a_world_smaller_than_its_windows_wraps_onto_itself(model: LatentModel) -> None:
    root = quick_root(model, zoom=0)
    assert np.array_equal(root.pixels(Box(0, 100, 0, 3, 256)), root.pixels(Box(0, 100, 256, 3, 256)))


def test_rows_beyond_the_world_repeat_its_edge(model: LatentModel) -> None:
    root = quick_root(model, cuts=())
    pixels = root.pixels(Box(ZOOM, -3, COLUMN, 5, 4))
    assert np.array_equal(pixels[:3], pixels[3:4].repeat(3, axis=0))
    assert not np.array_equal(pixels[3], pixels[4])


def test_seed_prompt_and_phases_change_pixels_and_ids(model: LatentModel, whole: Pixels) -> None:
    box = Box(ZOOM, WHOLE.row, WHOLE.column, 8, 8)
    changed: tuple[dict[str, Any], ...] = ({}, {"seed": 1}, {"prompt": "sea"})
    uncut = [quick_root(model, cuts=(), **options) for options in changed]
    shown = [root.pixels(box) for root in uncut]
    for pixels in (crop(whole, box), *shown[1:]):
        assert difference(pixels, shown[0]) > 0
    assert len({quick_root(model).id, *(root.id for root in uncut)}) == 4


def test_the_cost_is_what_runs_and_progress_ends_at_its_total(
    model: LatentModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = watch(monkeypatch, model.unet, "forward")
    root = quick_root(model, guidance=4)
    box, reports = Box(ZOOM, ROW, COLUMN, 256, 10), []  # type: tuple[Box, list[tuple[int, int]]]
    root.pixels(box, lambda done, total: reports.append((done, total)))
    # A tile's height takes 3 windows of the decoder, so 5 and 7 of the two phases; two branches each.
    assert sum(map(len, inputs)) == root.cost(box) == 2 * (5 * 4 + 7 * 6)
    assert [done for done, _ in reports] == sorted({done for done, _ in reports})
    assert reports[-1][0] == reports[-1][1]
    root.pixels(box, lambda done, total: reports.append((done, total)))
    assert sum(map(len, inputs)) == root.cost(box)


def test_the_documented_costs_are_the_costs(model: LatentModel) -> None:
    page = (Path(__file__).parents[1] / "docs" / "checkpoints.md").read_text()
    rows = {"900, 750, 600, 400 (default)": DEFAULT_CUTS, "800, 500": (800, 500), "600": (600,), "none": ()}
    for name, cuts in rows.items():
        root = LatentRoot(model, "sea", zoom=ZOOM, cuts=cuts)
        costs = [root.cost(Box(ZOOM, 256_000, 512_000, side, side)) / (side / 256) ** 2 for side in (256, 1024, 4096)]
        assert f"| {name} | {' | '.join(f'{cost:.0f}' for cost in costs)} |" in page


def test_a_request_can_be_given_up_and_taken_up_again(model: LatentModel, whole: Pixels) -> None:
    def give_up(done: int, total: int) -> None:
        if done > 20:
            raise InterruptedError

    root, box = quick_root(model), Box(ZOOM, WHOLE.row, WHOLE.column, 8, 8)
    with pytest.raises(InterruptedError):
        root.pixels(box, give_up)
    totals: list[int] = []
    assert np.array_equal(root.pixels(box, lambda done, total: totals.append(total)), crop(whole, box))
    assert totals[0] < quick_root(model).cost(box)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"zoom": 19}, r"zoom 19 is outside 0\.\.18"),
        ({"seed": -1}, "seed -1 is outside"),
        ({"guidance": 0.5}, r"guidance 0\.5 is outside 1\.\.30"),
        ({"guidance": float("nan")}, "guidance nan is outside"),
        ({"prompt": "x" * 513}, "prompt has 513 characters; at most 512"),
        ({"negative": "x" * 513}, "negative prompt has 513 characters"),
        ({"block": 3}, "block 3 at zoom 16"),
        ({"control": SimpleNamespace(id="picture")}, "was loaded without a ControlNet"),
    ],
)
def test_roots_that_cannot_be(model: LatentModel, options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidRequestError, match=words):
        quick_root(model, **{"prompt": "sea", **options})


def test_boxes_that_cannot_be(model: LatentModel) -> None:
    root = quick_root(model)
    with pytest.raises(AddressError, match="at zoom 16 only; zoom 15"):
        root.pixels(Box(15, 0, 0, 1, 1))
    with pytest.raises(AddressError, match="0 x 5 pixels is empty"):
        root.pixels(Box(16, 0, 0, 0, 5))


# Inpainting


@pytest.fixture(scope="module")
def picture() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def mask() -> Pixels:
    mask = np.zeros((256, 256), dtype=np.uint8)
    mask[64:128, 80:200] = 255
    mask[128:136, 80:200] = 100
    return mask


def test_inpainting_changes_the_mask_and_not_a_byte_outside(
    inpainting_model: LatentModel, picture: Pixels, mask: Pixels
) -> None:
    made = inpaint(inpainting_model, picture, mask, "a solar farm", steps=2, scheduler="DDIM")
    assert np.array_equal(made[mask == 0], picture[mask == 0])
    assert difference(made[mask == 255], picture[mask == 255]) > 10
    feather = mask == 100
    assert 0 < difference(made[feather], picture[feather]) < difference(made[mask == 255], picture[mask == 255])


def test_inpainting_is_what_the_stock_pipeline_makes(tmp_path: Path, picture: Pixels, mask: Pixels) -> None:
    model = LatentModel.load(save_checkpoint(tmp_path, "StableDiffusionInpaintPipeline", levels=False), "cpu")
    hard = np.where(mask == 255, 255, 0).astype(np.uint8)
    pipeline: Any = StableDiffusionInpaintPipeline(**stock_parts(model))
    pipeline.set_progress_bar_config(disable=True)
    blanked = torch.from_numpy(np.where(hard[..., None] > 127, 127.5, picture).astype(np.float32) / 127.5 - 1)
    theirs = pipeline(
        prompt="a solar farm",
        guidance_scale=4.0,
        image=torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None],
        mask_image=torch.from_numpy(hard.astype(np.float32) / 255)[None, None],
        masked_image_latents=model.encode(blanked.permute(2, 0, 1)[None]),
        latents=torch.from_numpy(NoiseField(3, 0, 17).normal(0, 0, 32, 32, 4))[None],
        height=256,
        width=256,
        num_inference_steps=2,
        output_type="np",
    ).images[0]
    ours = inpaint(model, picture, hard, "a solar farm", seed=3, steps=2, scheduler="DDIM")
    assert difference(ours[hard > 0], np.round(theirs * 255)[hard > 0].astype(np.uint8)) < 0.6


def test_inpainting_is_addressed_and_knows_levels(inpainting_model: LatentModel, picture: Pixels, mask: Pixels) -> None:
    def make(row: int, zoom: int = 16, seed: int = 0) -> bytes:
        box = Box(zoom, row, 1024, 256, 256)
        return inpaint(
            inpainting_model,
            picture,
            mask,
            "flooded",
            box=box,
            seed=seed,
            steps=1,
            scheduler="EulerDiscrete",
            guidance=1,
        ).tobytes()

    assert make(512) == make(512)
    assert len({make(512), make(520), make(512, zoom=17), make(512, seed=1)}) == 4


def test_inpainting_tells_the_network_the_soft_mask_and_blanks_from_one_half(
    inpainting_model: LatentModel, picture: Pixels, mask: Pixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = watch(monkeypatch, inpainting_model.unet, "forward")
    encoded = watch(monkeypatch, inpainting_model.vae, "encode")
    inpaint(inpainting_model, picture, mask, "flooded", steps=1, scheduler="EulerDiscrete")
    assert inputs[0].shape == (2, 9, 32, 32)
    assert np.array_equal(inputs[0][0, 4].numpy(), mask[::8, ::8].astype(np.float32) / 255)
    blanked = (encoded[0][0] == 0).all(dim=0).numpy()
    assert blanked[mask == 255].all()
    assert not blanked[mask == 100].any()


def test_models_of_the_other_kind_are_refused(
    model: LatentModel, inpainting_model: LatentModel, picture: Pixels, mask: Pixels
) -> None:
    with pytest.raises(WeightsError, match=r"text-to-image checkpoint \(4 channels\); inpainting needs"):
        inpaint(model, picture, mask, "sea")
    with pytest.raises(WeightsError, match=r"inpainting checkpoint \(9 channels\); a place by prompt needs"):
        quick_root(inpainting_model)


def test_inpainting_requests_that_cannot_be(inpainting_model: LatentModel, picture: Pixels, mask: Pixels) -> None:
    with pytest.raises(InvalidRequestError, match=r"image is uint8 \(255, 256, 3\); uint8 \(256, 256, 3\) is needed"):
        inpaint(inpainting_model, picture[:-1], mask, "sea")
    with pytest.raises(InvalidRequestError, match="mask is float64"):
        inpaint(inpainting_model, picture, mask / 255, "sea")  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match="seed"):
        inpaint(inpainting_model, picture, mask, "sea", seed=-1)
    with pytest.raises(AddressError, match="edges at multiples of 8"):
        inpaint(inpainting_model, picture, mask, "sea", box=Box(16, 4, 0, 256, 256))


# ControlNet


class Stripes:
    """A control picture by address."""

    def __init__(self, period: int, channels: int = 3) -> None:
        self.id = f"stripes-{period}"
        self._period, self._channels = period, channels

    def pixels(self, box: Box) -> Pixels:
        columns = np.arange(box.column, box.column + box.width) % world_size(box.zoom) // self._period % 2 * 255
        return np.broadcast_to(columns[None, :, None], (box.height, box.width, self._channels)).astype(np.uint8)


@pytest.fixture(scope="module")
def controlled(text2earth: Path, tmp_path_factory: pytest.TempPathFactory) -> LatentModel:
    net = save_controlnet(tmp_path_factory.mktemp("controlnet"))
    return LatentModel.load(text2earth, "cpu", controlnet=net)


def test_a_controlnet_steers_by_a_picture_at_the_same_address(controlled: LatentModel, model: LatentModel) -> None:
    box, inner = Box(ZOOM, ROW, COLUMN + 120, 4, 20), Box(ZOOM, ROW, COLUMN + 130, 4, 10)

    def pixels(box: Box, **options: Any) -> Pixels:
        return quick_root(controlled, steps=1, **options).pixels(box)

    striped = pixels(box, control=Stripes(7))
    assert np.array_equal(pixels(inner, control=Stripes(7)), striped[:, 10:])
    assert difference(pixels(inner, control=Stripes(40)), striped[:, 10:]) > 1
    assert difference(pixels(inner, control=Stripes(7), control_scale=0.2), striped[:, 10:]) > 0.1
    assert np.array_equal(pixels(inner), quick_root(model, steps=1).pixels(inner))
    with pytest.raises(InvalidRequestError, match=r"gave \(256, 256, 1\); \(256, 256, 3\) is needed"):
        pixels(inner, control=Stripes(7, channels=1))


def test_a_controlled_window_is_what_the_stock_pipeline_makes(plain: Path, tmp_path: Path) -> None:
    model = LatentModel.load(plain, "cpu", controlnet=save_controlnet(tmp_path, levels=False))
    picture = torch.from_numpy(Stripes(20).pixels(Box(ZOOM, 0, 0, 256, 256)).astype(np.float32) / 255)
    picture = picture.permute(2, 0, 1)[None]
    pipeline: Any = StableDiffusionControlNetPipeline(controlnet=model.controlnet, **stock_parts(model))
    pipeline.set_progress_bar_config(disable=True)
    theirs = pipeline(
        prompt="a harbour",
        image=picture,
        controlnet_conditioning_scale=0.7,
        guidance_scale=4.0,
        num_inference_steps=2,
        latents=states(),
        output_type="latent",
    ).images
    condition, control = model.condition("a harbour", guidance=4.0), Control(picture, 0.7)
    schedule = Schedule("DDIM", model.scheduler_numbers, 2)
    ours = schedule.run(0, states(), lambda x, t: model.predict(x, t, condition, control=control))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_a_controlnet_without_levels_sits_beside_text2earth(text2earth: Path, tmp_path: Path) -> None:
    model = LatentModel.load(text2earth, "cpu", controlnet=save_controlnet(tmp_path, levels=False))
    root = quick_root(model, steps=1, control=Stripes(9))
    assert root.pixels(Box(ZOOM, ROW, COLUMN, 2, 2)).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "config.json").unlink(), r"has no config\.json"),
        (lambda f: edit_json(f / "config.json", _class_name="T2IAdapter"), "a ControlNetModel is needed"),
        (lambda f: pickle_instead(f / "diffusion_pytorch_model.safetensors"), "a pickle"),
        (lambda f: drop_tensor(f / "diffusion_pytorch_model.safetensors", "conv_in.bias"), "1 tensors missing"),
    ],
)
def test_bad_controlnets_are_named(plain: Path, tmp_path: Path, spoil: Callable[[Path], object], words: str) -> None:
    save_controlnet(tmp_path, levels=False)
    spoil(tmp_path)
    with pytest.raises(WeightsError, match=words):
        LatentModel.load(plain, "cpu", controlnet=tmp_path)


def test_controlnets_of_other_checkpoints_are_named(plain: Path, inpainting: Path, tmp_path: Path) -> None:
    net = save_controlnet(tmp_path)
    with pytest.raises(WeightsError, match="class_embed_type is timestep, the U-Net's None"):
        LatentModel.load(plain, "cpu", controlnet=net)
    with pytest.raises(WeightsError, match="not with an inpainting one"):
        LatentModel.load(inpainting, "cpu", controlnet=net)


# LoRA

QUERY = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_q"
OUT = "down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_out.0"
CONVOLUTION = "down_blocks.0.resnets.0.conv1"
TEXT_LAYER = "text_model.encoder.layers.0.self_attn.q_proj"
GENERATOR = torch.Generator().manual_seed(1)
A, B = torch.randn(2, 16, generator=GENERATOR), torch.randn(16, 2, generator=GENERATOR)
A_CONVOLUTION, B_CONVOLUTION = (
    torch.randn(3, 8, 3, 3, generator=GENERATOR),
    torch.randn(8, 3, 1, 1, generator=GENERATOR),
)


def save_lora(folder: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    notes = {"format": "pt"} | ({"lora_adapter_metadata": json.dumps(metadata)} if metadata else {})
    save_file(tensors, folder / "pytorch_lora_weights.safetensors", notes)
    return folder


def save_peft(folder: Path, tensors: dict[str, torch.Tensor], **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors", {"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", **config}))
    return folder


def added(plain: Path, model: LatentModel, lora: Path, layer: str, scale: float = 1.0) -> torch.Tensor:
    """What loading with a LoRA adds to a layer's weight."""
    tuned = LatentModel.load(plain, "cpu", lora=lora, lora_scale=scale)
    assert tuned.id != model.id
    part = "text_encoder" if layer.startswith("text_model.") else "unet"
    name = layer.removeprefix("text_model.") if part == "text_encoder" else layer
    weights = [getattr(each, part).get_submodule(name).weight for each in (tuned, model)]
    return weights[0] - weights[1]  # type: ignore[no-any-return]


def test_lora_layouts_add_their_product(plain: Path, plain_model: LatentModel, tmp_path: Path) -> None:
    spellings: dict[str, tuple[dict[str, torch.Tensor], float]] = {
        "now": ({f"unet.{QUERY}.lora_A.weight": A, f"unet.{QUERY}.lora_B.weight": B}, 1),
        "before": ({f"unet.{QUERY}.lora.down.weight": A, f"unet.{QUERY}.lora.up.weight": B}, 1),
        "bare": (
            {f"{QUERY}.lora.down.weight": A, f"{QUERY}.lora.up.weight": B, f"{QUERY}.alpha": torch.tensor(1)},
            0.5,
        ),
    }
    for name, (tensors, strength) in spellings.items():
        delta = added(plain, plain_model, save_lora(tmp_path / name, tensors), QUERY)
        torch.testing.assert_close(delta, strength * B @ A, rtol=1e-4, atol=1e-5)


def test_lora_processors_reach_the_output_layer(plain: Path, plain_model: LatentModel, tmp_path: Path) -> None:
    processor = OUT.removesuffix(".to_out.0") + ".processor.to_out_lora"
    lora = save_lora(tmp_path, {f"{processor}.down.weight": A, f"{processor}.up.weight": B})
    torch.testing.assert_close(added(plain, plain_model, lora, OUT, 0.25), 0.25 * B @ A, rtol=1e-4, atol=1e-5)


def test_lora_reaches_convolutions_and_the_text_encoder(plain: Path, plain_model: LatentModel, tmp_path: Path) -> None:
    tensors = {
        f"unet.{CONVOLUTION}.lora_A.weight": A_CONVOLUTION,
        f"unet.{CONVOLUTION}.lora_B.weight": B_CONVOLUTION,
        f"text_encoder.{TEXT_LAYER}.lora_A.weight": A,
        f"text_encoder.{TEXT_LAYER}.lora_B.weight": B,
    }
    lora = save_lora(tmp_path, tensors, {"unet.r": 3, "unet.lora_alpha": 6, "text_encoder.lora_alpha": 1})
    expected = 2 * torch.einsum("or,rihw->oihw", B_CONVOLUTION[:, :, 0, 0], A_CONVOLUTION)
    torch.testing.assert_close(added(plain, plain_model, lora, CONVOLUTION), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(added(plain, plain_model, lora, TEXT_LAYER), 0.5 * B @ A, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("config", "strength"),
    [
        ({"lora_alpha": 4}, 2),
        ({"lora_alpha": 4, "use_rslora": True}, 4 / 2**0.5),
        ({"lora_alpha": 4, "alpha_pattern": {"attn2.to_q": 1}}, 0.5),
    ],
)
def test_peft_folders_load(
    plain: Path, plain_model: LatentModel, tmp_path: Path, config: dict[str, Any], strength: float
) -> None:
    keys = [f"base_model.model.{QUERY}.lora_{half}.weight" for half in "AB"]
    delta = added(plain, plain_model, save_peft(tmp_path, dict(zip(keys, (A, B), strict=True)), **config), QUERY)
    torch.testing.assert_close(delta, strength * B @ A, rtol=1e-4, atol=1e-5)


def keys_of(layer: str, a: torch.Tensor = A, b: torch.Tensor = B) -> dict[str, torch.Tensor]:
    return {f"unet.{layer}.lora_A.weight": a, f"unet.{layer}.lora_B.weight": b}


BAD_LORAS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda f: None, "is no LoRA folder"),
    "pickle": (lambda f: (f / "pytorch_lora_weights.bin").write_bytes(b""), r"pytorch_lora_weights\.bin, a pickle"),
    "cut short": (
        lambda f: (save_lora(f, keys_of(QUERY)), (f / "pytorch_lora_weights.safetensors").write_bytes(b"1234567890")),
        "truncated or damaged",
    ),
    "empty": (lambda f: save_lora(f, {}), "holds no LoRA matrices"),
    "unknown layer": (lambda f: save_lora(f, keys_of("down_blocks.7.to_q")), r"updates unet\.down_blocks\.7\.to_q"),
    "half an update": (
        lambda f: save_lora(f, {f"unet.{QUERY}.lora_A.weight": A}),
        "has only one of its two matrices",
    ),
    "wrong width": (
        lambda f: save_lora(f, keys_of(QUERY, torch.ones(2, 9))),
        r"made of \(16, 2\) and \(2, 9\), which does not make the \(16, 16\)",
    ),
    "wrong rank": (lambda f: save_lora(f, keys_of(QUERY, torch.ones(3, 16))), "which does not make"),
    "another layout": (
        lambda f: save_lora(f, {"lora_unet_down_blocks_0.lora_down.weight": A}),
        "no LoRA matrix of the diffusers or PEFT layouts",
    ),
    "alphas": (lambda f: save_lora(f, {f"{QUERY}.alpha": torch.ones(2)}), "one number is needed"),
    "metadata": (lambda f: save_lora(f, keys_of(QUERY), {"unet.lora_alpha": "much"}), "is not a number"),
    "DoRA": (lambda f: save_peft(f, {}, use_dora=True), "describes a DoRA adapter"),
    "another adapter": (lambda f: save_peft(f, {}, peft_type="LOHA"), "describes a LOHA adapter"),
}


@pytest.mark.parametrize("kind", BAD_LORAS)
def test_bad_loras_are_named(plain_model: LatentModel, tmp_path: Path, kind: str) -> None:
    from earthgen.latent.lora import fuse_lora

    spoil, words = BAD_LORAS[kind]
    spoil(tmp_path)
    models = {"unet": plain_model.unet, "text_encoder": plain_model.text_encoder}
    before = plain_model.unet.get_submodule(QUERY).weight.clone()
    with pytest.raises(WeightsError, match=words) as caught:
        fuse_lora(tmp_path, models)
    assert "\n" not in str(caught.value)
    assert torch.equal(plain_model.unet.get_submodule(QUERY).weight, before)
