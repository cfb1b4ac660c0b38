"""Validators: each promise that is broken is flagged by the check that watches it, and by no other exact one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from safetensors.torch import load_file, save_file

import earthgen.engine
import perception.validation
from earthgen.editing import layers_of
from earthgen.engine import Engine
from earthgen.errors import AddressError, InvalidRequestError, RequestTooLargeError, WeightsError
from earthgen.pyramid import Box, point_pixel
from earthgen.tower import LiteBackbone
from earthgen.world import Edit, World
from perception.captioner import Caption
from perception.detection import Detection
from perception.pair import Pair
from perception.validation import CHECKS, Check, Report, validate
from perception.validation.anomaly import (
    FILE,
    NEIGHBOURS,
    SHIPPED,
    SIDE,
    TEXTURE,
    AnomalyScorer,
    Scores,
    clipped,
    cut_squares,
    nearest,
    read_reference,
    saturation,
    shipped_scorer,
    spectral_slope,
    texture,
)
from perception.validation.change_agreement import window_around
from perception.validation.edit_masks import changed, shares, touched, visible_edits
from perception.validation.findings import VERDICTS, at_least, at_most, worst
from perception.validation.lattice import lattice_peaks
from perception.validation.running import Tools
from perception.validation.squares import best_side, inside
from perception.validation.subject import subject_of
from perception.validation.words import rank_p_value
from tests.broken_world import save_shuffled_weights, with_another_zoom, with_moved_edits, with_seam
from tests.tiny import open_tiny, ripple_prompts, ripple_root, save_tiny_weights

Pixels = npt.NDArray[np.uint8]

LAKE = Edit(((11.32, 47.21), (11.36, 47.21), (11.36, 47.24), (11.32, 47.24)), "lake")
WOOD = Edit(((11.37, 47.21), (11.39, 47.21), (11.39, 47.25), (11.37, 47.25)), "dense forest", valid_from="2026-05-01")
PLAIN = World(seed=7)
EDITED = World(seed=7, edits=(LAKE,))
AREA = (11.30, 47.20, 11.40, 47.26)
ZOOM = 13
EXACT = ("seams", "parents", "edit-bounds")
"""Checks that need no network."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The real engine over a tiny random network and roots of ripples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(earthgen.engine, "open_root", ripple_root)
        patch.setattr(earthgen.engine, "open_prompt_root", ripple_prompts)
        with open_tiny(save_tiny_weights(tmp_path_factory.mktemp("weights"))) as engine:
            yield engine


def verdicts(report: Report) -> dict[str, str]:
    return {check.name: check.verdict for check in report.checks}


def look(source: Any, world: World, *checks: str, **options: Any) -> Report:
    return validate(source, world, AREA, zooms=(ZOOM,), checks=checks or EXACT, **options)


# --- Promises that hold, and what breaks them ---


def test_a_sound_world_passes_all_exact_checks(engine: Engine) -> None:
    report = look(engine, EDITED)
    assert verdicts(report) == {"seams": "pass", "parents": "pass", "edit-bounds": "pass"}
    assert report.passed
    (row,) = report.checks[-1].rows
    assert row["that differ outside"] == 0
    assert isinstance(row["that differ"], int) and row["that differ"] > 1000


def test_an_inserted_seam_is_flagged_as_a_seam_alone(engine: Engine) -> None:
    border = point_pixel(11.35, 47.23, ZOOM)[1] // 64 * 64
    report = look(with_seam(engine.pixels, ZOOM, border), EDITED)
    assert verdicts(report) == {"seams": "fail", "parents": "pass", "edit-bounds": "pass"}
    assert not report.passed


def test_a_zoom_that_differs_from_the_others_is_flagged_as_no_parent(engine: Engine) -> None:
    report = look(with_another_zoom(engine.pixels, ZOOM - 1), EDITED)
    assert verdicts(report) == {"seams": "pass", "parents": "fail", "edit-bounds": "pass"}
    assert report.checks[1].figures, "where they differ is not drawn"


def test_edits_elsewhere_than_they_say_are_flagged(engine: Engine) -> None:
    report = look(with_moved_edits(engine.pixels, 0.01), EDITED)
    assert verdicts(report) == {"seams": "pass", "parents": "pass", "edit-bounds": "fail"}


def test_dates_are_compared_one_after_another(engine: Engine) -> None:
    world = World(seed=7, edits=(LAKE, WOOD))
    report = look(engine, world, "edit-bounds", dates=("2026-04-01", "2026-06-01", "2026-07-01"))
    first, second = report.checks[0].rows
    assert (first["from"], first["to"], second["to"]) == ("2026-04-01", "2026-06-01", "2026-07-01")
    assert int(str(first["that differ"])) > 0
    assert second["touched by edits"] == second["that differ"] == 0
    assert report.checks[0].verdict == "pass"


def test_a_world_by_prompt_is_looked_at_where_its_picture_lies(engine: Engine) -> None:
    world = World("prompt", 7, "dense forest", gsd=2.4)
    report = validate(engine, world, checks=EXACT)
    assert verdicts(report) == {"seams": "pass", "parents": "pass", "edit-bounds": "not applicable"}
    assert report.about["zooms"] == "16"


def test_zooms_without_parents_have_nothing_to_compare(engine: Engine) -> None:
    world = World("prompt", 7, "dense forest", gsd=2.4)
    check = validate(engine, world, zooms=(world.min_zoom,), checks=("parents",)).checks[0]
    assert (check.verdict, check.rows) == ("not applicable", ())


# --- What the models say ---


@dataclasses.dataclass
class Looking:
    """A detector that sees every difference of colours, or is blind, or dreams."""

    name: str = "looking"
    sees: str = "differences"

    def detect(self, pair: Pair, **_: Any) -> Detection:
        mask = (pair.before != pair.after).any(axis=2)
        if self.sees == "nothing":
            mask[:] = False
        if self.sees == "everything":
            mask[:] = True
        return Detection(mask, np.zeros((2, *mask.shape), dtype=np.float32), (), pair.transform, pair.crs)


@pytest.mark.parametrize(
    ("source", "sees", "verdict"),
    [("sound", "differences", "pass"), ("sound", "nothing", "fail"), ("moved", "differences", "fail")],
)
def test_detectors_are_held_against_the_masks_of_edits(engine: Engine, source: str, sees: str, verdict: str) -> None:
    made = engine if source == "sound" else with_moved_edits(engine.pixels, 0.05)
    report = look(made, EDITED, "change", tools=Tools(detectors=[Looking(sees=sees)]))
    assert verdicts(report) == {"change": verdict}


def test_one_detector_that_sees_a_change_is_enough(engine: Engine) -> None:
    tools = Tools(detectors=[Looking(sees="nothing"), Looking()])
    (check,) = look(engine, EDITED, "change", tools=tools).checks
    assert check.verdict == "pass"
    assert [row["verdict"] for row in check.rows] == ["fail", "pass"]


@pytest.mark.parametrize(("sees", "verdict"), [("differences", "pass"), ("everything", "fail")])
def test_where_nothing_changed_false_alarms_count(engine: Engine, sees: str, verdict: str) -> None:
    far = Edit(((12.32, 47.21), (12.36, 47.21), (12.36, 47.24)), "lake")
    tools = Tools(detectors=[Looking(sees=sees)])
    (check,) = look(engine, World(seed=7, edits=(far,)), "change", tools=tools).checks
    assert check.verdict == verdict
    assert check.rows[0]["F1"] is None


@dataclasses.dataclass
class Saying:
    """A captioner with one sentence."""

    says: str
    name: str = "saying"

    def caption(self, pair: Pair, *, beams: int = 1) -> Caption:
        return Caption(self.says, None, True, self.name)


@pytest.mark.parametrize(
    ("says", "verdict"),
    [
        ("a lake has been created in the middle of the field", "pass"),
        ("many flat roofs of warehouses were built", "fail"),
        ("there is no difference", "fail"),
    ],
)
def test_captions_are_held_against_the_prompts_of_edits(engine: Engine, says: str, verdict: str) -> None:
    (check,) = look(engine, EDITED, "caption", tools=Tools(captioners=[Saying(says)])).checks
    assert (check.verdict, check.rows[0]["says"]) == (verdict, says)


def test_a_captioner_that_cannot_speak_is_left_out(engine: Engine) -> None:
    class Mute(Saying):
        def caption(self, pair: Pair, *, beams: int = 1) -> Caption:
            raise InvalidRequestError("no language model was given")

    (check,) = look(engine, EDITED, "caption", tools=Tools(captioners=[Mute("")])).checks
    assert (check.verdict, check.rows[0]["says"]) == ("not applicable", "no language model was given")
    both = Tools(captioners=[Mute(""), Saying("a lake has been created")])
    assert verdicts(look(engine, EDITED, "caption", tools=both)) == {"caption": "pass"}


def test_a_captioner_that_sees_a_change_in_the_same_picture_is_wrong(engine: Engine) -> None:
    far = Edit(((12.32, 47.21), (12.36, 47.21), (12.36, 47.24)), "lake")
    for says, verdict in (("nothing has changed", "pass"), ("a lake appears", "fail")):
        tools = Tools(captioners=[Saying(says)])
        assert verdicts(look(engine, World(seed=7, edits=(far,)), "caption", tools=tools)) == {"caption": verdict}


@dataclasses.dataclass
class Segmenting:
    """A segmenter that finds one rectangle of the picture, and remembers what it was asked."""

    part: tuple[float, float, float, float]
    asked: list[str] = dataclasses.field(default_factory=list)

    def segment(self, image: Pixels, phrase: str) -> Any:
        self.asked.append(phrase)
        mask = np.zeros(image.shape[:2], dtype=np.bool_)
        height, width = image.shape[:2]
        top, bottom, left, right = self.part
        mask[int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True

        @dataclasses.dataclass
        class Found:
            mask: npt.NDArray[np.bool_]

        return Found(mask)


@pytest.mark.parametrize(
    ("part", "verdict"),
    [
        ((0.25, 0.75, 0.25, 0.75), "pass"),
        ((0.0, 0.2, 0.0, 0.2), "fail"),
        ((0.0, 0.0, 0.0, 0.0), "fail"),
    ],
)
def test_a_segmenter_has_to_find_the_lake_where_the_lake_is(
    engine: Engine, part: tuple[float, float, float, float], verdict: str
) -> None:
    segmenter = Segmenting(part)
    (check,) = look(engine, EDITED, "segmentation", tools=Tools(segmenter=segmenter)).checks
    assert (check.verdict, segmenter.asked) == (verdict, ["lake"])


def unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    out: npt.NDArray[np.float32] = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return out


class Colourful:
    """A tower whose text is blue, green or grey, and whose pictures are the mean of their colours."""

    id = "colourful"
    width = 3

    class _Text:
        def encode_batch(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
            known = {"lake": (0, 0, 1), "water": (0.1, 0, 1), "dense forest": (0, 1, 0), "reservoir": (0, 0.1, 1)}
            rng = np.random.default_rng(0)
            vectors = np.array([known.get(text, (1, *rng.uniform(0, 0.5, 2))) for text in texts], dtype=np.float32)
            return unit(vectors)

    text = _Text()

    def embed(self, pictures: Sequence[Pixels], gsd: object = None) -> npt.NDArray[np.float32]:
        means = np.array([picture.mean(axis=(0, 1)) for picture in pictures], dtype=np.float32)
        return unit(means)


def coloured(world: World, box: Box) -> Pixels:
    """Green ground, blue lakes."""
    out = np.full((box.height, box.width, 3), (60, 160, 50), dtype=np.uint8)
    for layer in layers_of(world.at()):
        out[layer.within(box)] = (40, 60, 190)
    return out


def test_a_lake_that_is_a_lake_passes_and_one_elsewhere_fails() -> None:
    from tests.broken_world import Source

    tools = Tools(tower=Colourful())  # type: ignore[arg-type]  # as much of a tower as is needed
    report = look(Source(coloured), EDITED, "class", "prompt", tools=tools)
    assert verdicts(report) == {"class": "pass", "prompt": "pass"}
    report = look(with_moved_edits(coloured, 0.045), EDITED, "class", "prompt", tools=tools)
    assert verdicts(report) == {"class": "fail", "prompt": "fail"}


def test_the_prompt_of_the_world_is_asked_for_outside_of_its_edits() -> None:
    from tests.broken_world import Source

    lake = Edit(((0.002, 0.002), (0.006, 0.002), (0.006, 0.006), (0.002, 0.006)), "lake")
    tools = Tools(tower=Colourful())  # type: ignore[arg-type]
    for prompt, verdict in (("dense forest", "pass"), ("water", "fail")):
        world = World("prompt", 1, prompt, (lake,), gsd=2.4)
        area = (-0.002, -0.002, 0.012, 0.012)
        (check,) = validate(Source(coloured), world, area, zooms=(16,), checks=("class",), tools=tools).checks
        assert [row["verdict"] for row in check.rows] == [verdict, "pass"]


def test_what_is_absent_is_said_and_fails_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    import perception.registry

    monkeypatch.setattr(perception.registry, "_WEIGHTS", Path("nowhere"))
    report = look(engine, EDITED, "segmentation", "change", "caption")
    assert set(verdicts(report).values()) == {"not applicable"}
    said = " ".join(check.found for check in report.checks)
    assert "rsrefseg" in said and "no weights of cdmamba" in said and "no weights of mci" in said
    assert report.passed and report.verdict == "not applicable"


def test_a_world_without_words_and_edits_leaves_checks_out(engine: Engine) -> None:
    report = look(engine, PLAIN, "class", "prompt", "edit-bounds", "change", tools=Tools(detectors=[Looking()]))
    assert set(verdicts(report).values()) == {"not applicable"}
    assert "no two states" in report.checks[-1].found


# --- Realism ---


def test_random_weights_look_like_no_real_imagery(engine: Engine) -> None:
    report = look(engine, PLAIN, "anomaly", "spectrum")
    assert verdicts(report)["anomaly"] == "fail"
    assert len(report.checks[0].figures) == 1


def test_a_region_smaller_than_a_square_has_no_anomaly(engine: Engine) -> None:
    report = validate(engine, PLAIN, (11.3, 47.2, 11.301, 47.201), zooms=(13,), checks=("anomaly", "spectrum"))
    assert set(verdicts(report).values()) == {"not applicable"}


@pytest.mark.slow
def test_shipped_weights_pass_where_shuffled_ones_fail(tmp_path: Path) -> None:
    area, options = (
        (11.300, 47.200, 11.322, 47.215),
        {"zooms": (14,), "checks": ("anomaly", "seams", "lattice", "parents")},
    )
    with Engine.open(threads=1) as engine:
        sound = validate(engine, PLAIN, area, **options)  # type: ignore[arg-type]
    with Engine.open(save_shuffled_weights(tmp_path), threads=1) as engine:
        broken = validate(engine, PLAIN, area, **options)  # type: ignore[arg-type]
    assert verdicts(sound) == dict.fromkeys(("anomaly", "seams", "lattice", "parents"), "pass")
    assert verdicts(broken)["lattice"] == "fail"
    assert broken.checks[0].rows[0]["anomaly, median"] > sound.checks[0].rows[0]["anomaly, median"]  # type: ignore[operator]
    # Means are exact by construction, whatever the weights.
    assert verdicts(broken)["parents"] == "pass"


def noise(seed: int, side: int = SIDE) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)


def test_the_score_of_a_picture_is_the_mean_of_its_squares_and_no_matter_of_company() -> None:
    scorer = shipped_scorer()
    pictures = [noise(seed) for seed in range(20)]
    together = scorer.squares(pictures, 0.6)
    assert scorer.squares(pictures[7:8], 0.6)[0].anomaly == pytest.approx(together[7].anomaly, rel=1e-4)
    whole = np.concatenate([np.concatenate(pictures[:2], axis=1), np.concatenate(pictures[2:4], axis=1)])
    mean = np.mean([score.anomaly for score in together[:4]])
    assert scorer.score(whole, 0.6).anomaly == pytest.approx(mean, rel=1e-4)
    before = torch.get_num_threads()
    assert scorer.score(pictures[0], 0.6) == scorer.score(pictures[0], 0.6)
    assert torch.get_num_threads() == before


def test_texture_is_the_first_part_of_what_the_backbone_says() -> None:
    backbone = LiteBackbone()
    pictures = [noise(1), noise(2) // 3]
    whole = backbone(torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float())
    torch.testing.assert_close(texture(backbone, pictures), whole[:, :TEXTURE])


def test_noise_is_more_anomalous_than_the_threshold_in_every_band() -> None:
    for gsd in read_reference().band_gsds.tolist():
        score = shipped_scorer().score(noise(1), gsd)
        assert score.anomaly > 1 and score.mahalanobis > 1 and score.slope > 0


@given(st.integers(SIDE, 400), st.integers(SIDE, 400))
def test_squares_cover_a_picture(height: int, width: int) -> None:
    counts = np.zeros((height, width, 3), dtype=np.uint8)
    for square in cut_squares(counts):
        assert square.shape == (SIDE, SIDE, 3)
        square += 1  # A view of the picture.
    assert counts.min() >= 1
    if height % SIDE == width % SIDE == 0:
        assert counts.max() == 1


@pytest.mark.parametrize(
    "picture", [noise(0)[:100], noise(0).astype(np.float32), noise(0)[..., :1], np.zeros((0, 0, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(picture: Any) -> None:
    with pytest.raises(InvalidRequestError, match="at least 128 x 128 pixels is allowed"):
        cut_squares(picture)


@pytest.mark.parametrize("gsd", [0.0, -1.0, float("nan"), float("inf")])
def test_what_is_no_gsd_is_refused(gsd: float) -> None:
    with pytest.raises(InvalidRequestError, match="GSD"):
        shipped_scorer().score(noise(0), gsd)


def test_the_slope_of_noise_is_0_and_that_of_its_sum_is_minus_2() -> None:
    rng = np.random.default_rng(0)
    slopes = []
    for power in (0.0, 2.0):
        frequency = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None, :])
        frequency[0, 0] = 1
        field = np.fft.ifft2(np.fft.fft2(rng.normal(size=(256, 256))) * frequency ** (-power / 2)).real
        grey = np.clip(128 + 30 * field / field.std(), 0, 255)
        slopes.append(spectral_slope(np.repeat(np.rint(grey).astype(np.uint8)[..., None], 3, axis=2)))
    assert slopes == [pytest.approx(0.0, abs=0.15), pytest.approx(-2.0, abs=0.15)]
    assert spectral_slope(np.full((128, 128, 3), 77, dtype=np.uint8)) == pytest.approx(0.0, abs=1e-6)


def test_clipping_and_saturation_are_shares() -> None:
    black = np.zeros((4, 4, 3), dtype=np.uint8)
    assert (clipped(black), saturation(black)) == (1.0, 0.0)
    half = np.full((4, 4, 3), 100, dtype=np.uint8)
    half[:2] = (200, 100, 100)
    assert clipped(half) == 0.0
    assert saturation(half) == pytest.approx(0.25)


@pytest.mark.parametrize("period", [8, 16])
def test_a_pattern_of_the_lattice_stands_out_and_others_do_not(period: int) -> None:
    grey = np.random.default_rng(3).normal(100, 10, (160, 192))
    columns = np.arange(192)
    for repeat, seen in ((period, True), (period / 4, True), (period * 0.9, False)):
        on, off = lattice_peaks(grey + 12 * np.cos(2 * np.pi * columns / repeat), period)
        assert (on / off > 3) == seen, repeat
    on, off = lattice_peaks(np.full((160, 192), 7.0), period)
    assert on == off == 1.0


def test_the_distance_to_neighbours_is_the_mean_of_the_nearest() -> None:
    neighbours = torch.arange(20.0)[:, None].repeat(1, 2)
    near = nearest(torch.zeros(1, 2), neighbours)
    assert near.item() == pytest.approx(np.sqrt(2) * np.mean(range(NEIGHBOURS)))


# --- The statistics ---


def test_the_statistics_ship_are_small_and_have_a_card() -> None:
    sizes = {path.name: path.stat().st_size for path in SHIPPED.iterdir()}
    assert sum(sizes.values()) < 1_000_000
    card = (SHIPPED / "README.md").read_text()
    for part in ("license: apache-2.0", "## Data", "## Recipe", "## Measured", "## Limits", "training.anomaly"):
        assert part in card


def test_thresholds_rise_with_the_quantile() -> None:
    reference = read_reference()
    assert (reference.distances.diff(dim=2) > 0).all()
    assert reference.mean.shape == (TEXTURE,)
    assert all(reference.band(gsd) == band for band, gsd in enumerate(reference.band_gsds.tolist()))


@pytest.mark.parametrize("spoil", ["missing", "cut", "text", "shape", "lacking"])
def test_damaged_statistics_are_one_sentence(tmp_path: Path, spoil: str) -> None:
    whole = (SHIPPED / FILE).read_bytes()
    if spoil == "cut":
        (tmp_path / FILE).write_bytes(whole[: len(whole) // 2])
    if spoil == "text":
        (tmp_path / FILE).write_text("a letter")
    if spoil in ("shape", "lacking"):
        tensors = load_file(SHIPPED / FILE)
        if spoil == "shape":
            tensors["mean"] = tensors["mean"][:-1].clone()
        else:
            del tensors["whiten"]
        save_file(tensors, tmp_path / FILE, {"about": "{}"})
    with pytest.raises(WeightsError, match="no statistics of real imagery"):
        read_reference(tmp_path)


# --- Small parts ---


def test_verdicts_are_ordered() -> None:
    assert [at_most(value, 1, 2) for value in (1.0, 1.5, 2.1, float("nan"))] == ["pass", "warn", "fail", "fail"]
    assert [at_least(value, 2, 1) for value in (2.0, 1.5, 0.9, float("nan"))] == ["pass", "warn", "fail", "fail"]
    assert worst(VERDICTS) == "fail"
    assert worst(["pass", "warn", "not applicable"]) == "warn"
    assert worst([]) == "not applicable"


def test_a_rank_counts_the_own_value() -> None:
    null = np.array([0.1, 0.2, 0.3])
    assert [rank_p_value(own, null) for own in (0.4, 0.2, 0.0)] == [0.25, 0.75, 1.0]


@given(arrays(np.bool_, st.tuples(st.integers(1, 150), st.integers(1, 150))))
def test_squares_inside_a_mask_are_covered_by_it(mask: npt.NDArray[np.bool_]) -> None:
    for side in (32, 64):
        for top, left in inside(mask, side):
            part = mask[top : top + side, left : left + side]
            assert part.shape == (side, side) and part.mean() >= 0.9
    found = best_side(mask)
    assert (found is None) == (not any(inside(mask, side) for side in (32, 64, 128)))


@given(arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 40))), st.integers(1, 50))
def test_a_window_lies_in_the_picture_and_has_its_size(mask: npt.NDArray[np.bool_], most: int) -> None:
    rows, columns = window_around(mask, most)
    assert mask[rows, columns].shape == tuple(min(size, most) for size in mask.shape)
    if mask.sum() == 1:
        assert mask[rows, columns].any()


@pytest.mark.parametrize("zoom", [8, 10, 12, 14, 16])
def test_shares_are_those_of_the_mask_at_every_zoom(zoom: int) -> None:
    (layer,) = layers_of(EDITED)
    whole = layer.box_at(zoom)
    box = Box(zoom, whole.row - 3, whole.column - 5, min(whole.height, 300) + 6, min(whole.width, 300) + 10)
    share = shares(layer, box)
    assert ((share > 0) == layer.within(box)).all()
    if zoom == layer.zoom:
        assert set(np.unique(share)) == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_later_edits_take_pixels_from_earlier_ones() -> None:
    over = Edit(((11.33, 47.22), (11.35, 47.22), (11.35, 47.23), (11.33, 47.23)), "dense forest")
    world = World(seed=7, edits=(LAKE, over))
    box = subject_of(None, world, AREA, (14,)).box(14)  # type: ignore[arg-type]  # no pixel is made
    (_, lake), (_, forest) = visible_edits(world, box, 100)
    assert not (lake & forest).any()
    assert ((lake | forest) <= touched(world, box)).all()


def test_edits_that_two_states_share_are_no_change() -> None:
    box = subject_of(None, EDITED, AREA, (14,)).box(14)  # type: ignore[arg-type]
    assert not changed(EDITED, EDITED, box)[1].any()
    there, _ = changed(PLAIN, EDITED, box)
    back, _ = changed(EDITED, PLAIN, box)
    assert there.any() and (there == back).all()


# --- What cannot be looked at ---


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"bounds": (11.3, 47.2, 11.2, 47.3)}, AddressError, "west must be less than east"),
        ({"bounds": (11.3, 47.2, 12.3, 48.2), "zooms": (18,)}, RequestTooLargeError, "at zoom 18; at most 4194304"),
        ({"bounds": AREA, "zooms": (19,)}, AddressError, "zoom 19 is outside 0..18"),
        ({"bounds": AREA, "dates": ("2026-02-01", "2026-01-01")}, InvalidRequestError, "from early to late"),
        ({"bounds": AREA, "dates": ("2026-01-01", "2026-01-01")}, InvalidRequestError, "different ones"),
        ({"bounds": AREA, "dates": ("soon",)}, InvalidRequestError, "date is 'soon'"),
        (
            {"bounds": AREA, "dates": tuple(f"2026-01-{day:02d}" for day in range(1, 20))},
            InvalidRequestError,
            "at most 12",
        ),
        ({"bounds": AREA, "checks": ("taste",)}, InvalidRequestError, "checks are taste; allowed: anomaly, spectrum"),
        ({"bounds": AREA, "checks": ()}, InvalidRequestError, "checks are none"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_pixel_is_made(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        validate(None, EDITED, **options)  # type: ignore[arg-type]  # never asked


def test_public_names_exist_and_checks_are_those_of_reports(engine: Engine) -> None:
    assert len(set(perception.validation.__all__)) == len(perception.validation.__all__)
    assert all(getattr(perception.validation, name) is not None for name in perception.validation.__all__)
    names = [field.name for field in dataclasses.fields(Scores)]
    assert names == ["anomaly", "mahalanobis", "slope", "clipped", "saturation"]
    assert isinstance(shipped_scorer(), AnomalyScorer)
    report = look(engine, PLAIN, *CHECKS, tools=Tools(detectors=[], captioners=[]))
    assert [check.name for check in report.checks] == list(CHECKS)
    assert all(isinstance(check, Check) for check in report.checks)
