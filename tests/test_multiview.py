"""Posed views of generated ground, and the fields that are fitted to them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image

from earthgen.cli import main
from earthgen.errors import WeightsError
from earthgen.pyramid import Box, box_bounds
from earthgen.world import World
from perception.errors import SceneError
from perception.multiview.cameras import Camera, camera_at, check_camera, orbit
from perception.multiview.field import Field, FieldConfig, Rays, Samples, distortion, rendered
from perception.multiview.flight import write_flight
from perception.multiview.gathering import Gathered
from perception.multiview.plan import planned_world
from perception.multiview.posed import PosedSet, posed_set, read_views, write_views
from perception.multiview.prior import Encoder, SamEncoder, contrasted
from perception.multiview.rendering import render_views
from perception.multiview.running import FieldRun, FitSettings, Pseudo
from perception.multiview.scene import BUILDING, LOW_VEGETATION, ROAD, Building, Scene, build_scene, scene_box
from perception.multiview.teaching import guessed, rarity, taught

BOX = Box(18, 33554000, 33554000, 128, 128)
SMALL = FieldConfig(sides=(16, 48), heights=(8, 16), channels=8, hidden=32, bins=48, samples=16, guide=(12, 24, 24))


def flat_scene() -> Scene:
    """Level ground with a red and a green half, and one box of 10 x 10 x 8 metres in the middle."""
    colours = np.zeros((128, 128, 3), dtype=np.uint8)
    colours[:, :64] = (200, 60, 40)
    colours[:, 64:] = (60, 160, 60)
    labels = np.where(np.arange(128) < 64, ROAD, LOW_VEGETATION).astype(np.uint8)[None].repeat(128, axis=0)
    square = np.array([[-5.0, -5.0], [5.0, -5.0], [5.0, 5.0], [-5.0, 5.0]])
    building = Building(square, 8.0, -3.0, (180, 180, 160))
    return Scene(World(), BOX, 0.6, colours, labels, np.zeros((128, 128), dtype=np.float32), (building,))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return flat_scene()


@pytest.fixture(scope="module")
def posed(scene: Scene) -> PosedSet:
    return posed_set(scene, render_views(scene, orbit(scene, 12, 40), samples=1), 4)


# --- Cameras ---


def test_a_projected_pixel_comes_back_along_its_ray() -> None:
    camera = camera_at((30.0, -40.0, 60.0), (3.0, 2.0, 1.0), 64)
    rows, columns = np.meshgrid(np.arange(64.0), np.arange(64.0), indexing="ij")
    points = camera.position + 37.0 * camera.directions(rows, columns)
    back_rows, back_columns, depths = camera.project(points)
    np.testing.assert_allclose(back_rows, rows, atol=1e-6)
    np.testing.assert_allclose(back_columns, columns, atol=1e-6)
    np.testing.assert_allclose(depths, 37.0)


def test_a_camera_that_looks_down_has_north_up_and_east_to_the_right() -> None:
    camera = camera_at((0.0, 0.0, 50.0), (0.0, 0.0, 0.0), 64)
    north, east = camera.project(np.array([[0.0, 10.0, 0.0], [10.0, 0.0, 0.0]]))[:2]
    assert north[0] < 31.5 < north[1] + 1e-6 + 31.5
    assert east[1] > 40 and abs(east[0] - 31.5) < 1e-6


@pytest.mark.parametrize(
    ("position", "target", "words"),
    [
        ((0.0, 0.0, 4.0), (9.0, 9.0, 0.0), "under the surface, which is 8.0 m high"),
        ((20.0, 0.0, -2.0), (0.0, 0.0, 0.0), "under the surface"),
        ((0.0, 0.0, 60.0), (0.0, 10.0, 120.0), "looks away"),
    ],
)
def test_a_camera_that_cannot_see_the_scene_is_refused(
    scene: Scene, position: tuple[float, ...], target: tuple[float, ...], words: str
) -> None:
    with pytest.raises(SceneError, match=words):
        check_camera(scene, camera_at(position, target, 64))


def test_a_pose_has_to_be_a_rotation() -> None:
    with pytest.raises(SceneError, match="no rotation"):
        Camera(np.diag([1.0, 1.0, -1.0, 1.0]), 64, 64, 80.0)


# --- True views ---


def test_level_ground_is_as_far_as_geometry_says(scene: Scene) -> None:
    camera = camera_at((25.0, -5.0, 40.0), (20.0, 0.0, 0.0), 48)
    view = render_views(scene, [camera], samples=1)[0]
    rows, columns = np.meshgrid(np.arange(48), np.arange(48), indexing="ij")
    directions = camera.directions(rows, columns)
    ground = view.labels != BUILDING
    expected = -40.0 / directions[..., 2]
    assert ground.mean() > 0.5
    np.testing.assert_allclose(view.depth[ground & (view.labels > 0)], expected[ground & (view.labels > 0)], rtol=1e-5)


def test_a_roof_hides_what_is_behind_it(scene: Scene) -> None:
    camera = camera_at((0.0, 0.0, 48.0), (0.0, 0.0, 0.0), 65)
    view = render_views(scene, [camera], samples=1)[0]
    assert view.depth[32, 32] == pytest.approx(40.0, abs=1e-4)
    assert view.labels[32, 32] == BUILDING
    # Ten metres at a distance of forty: as many pixels as the focal length says.
    side = math.sqrt((view.labels == BUILDING).sum())
    assert side == pytest.approx(camera.focal * 10 / 40, abs=1.2)
    assert set(view.labels[60, :25]) == {ROAD} and set(view.labels[60, 45:]) == {LOW_VEGETATION}


def test_a_building_casts_a_shadow_to_the_north_west(scene: Scene) -> None:
    view = render_views(scene, [camera_at((0.0, 0.0, 60.0), (0.0, 0.0, 0.0), 65)], samples=1)[0]
    row, column = (round(float(v)) for v in view.camera.project(np.array([-7.0, 6.5, 0.0]))[:2])
    other_row, other_column = (round(float(v)) for v in view.camera.project(np.array([-15.0, -15.0, 0.0]))[:2])
    assert view.colours[row, column].sum() < 0.6 * view.colours[other_row, other_column].sum()


# --- Ground ---


def test_a_planned_world_has_its_buildings_and_classes_by_construction() -> None:
    world = planned_world(BOX, 5, "meadow")
    plain = np.full((128, 128), LOW_VEGETATION, dtype=np.uint8)
    built = build_scene(world, BOX, np.zeros((128, 128, 3), dtype=np.uint8), plain)
    assert built.buildings and (built.labels == ROAD).any()
    again = build_scene(world, BOX, np.zeros((128, 128, 3), dtype=np.uint8), plain)
    assert np.array_equal(built.surface, again.surface)
    assert [b.top for b in built.buildings] == [b.top for b in again.buildings]


def test_neighbouring_scenes_have_the_same_relief_but_for_its_zero() -> None:
    from perception.multiview.relief import relief

    whole = relief(BOX, 3, np.zeros((128, 128), dtype=np.bool_))
    part = relief(replace(BOX, row=BOX.row + 32, height=96), 3, np.zeros((96, 128), dtype=np.bool_))
    difference = whole[32:] - part
    assert float(np.ptp(difference)) < 1e-4


def test_a_region_that_is_too_large_says_how_large_it_may_be() -> None:
    with pytest.raises(SceneError, match="96 to 512 a side are allowed, that is"):
        scene_box((0.0, 0.0, 0.1, 0.1))


# --- transforms.json ---


def read_as_nerf_does(folder: Path) -> tuple[npt.NDArray[np.float64], ...]:
    """Poses, pictures and rays, as the readers of NeRF-like code go about it: nothing of this project is used."""
    meta = json.loads((folder / "transforms.json").read_text())
    width, height = meta["w"], meta["h"]
    focal = 0.5 * width / np.tan(0.5 * meta["camera_angle_x"])
    poses = np.array([frame["transform_matrix"] for frame in meta["frames"]])
    depths = np.stack([np.array(Image.open(folder / frame["depth_file_path"])) for frame in meta["frames"]])
    i, j = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5, indexing="xy")
    local = np.stack([(i - width / 2) / focal, -(j - height / 2) / focal, -np.ones_like(i)], axis=-1)
    directions = np.einsum("hwc,nrc->nhwr", local, poses[:, :3, :3])
    return poses, depths * meta["depth_unit_scale_factor"], directions


def test_another_reader_finds_the_ground_where_it_is(posed: PosedSet, tmp_path: Path) -> None:
    write_views(tmp_path, posed)
    poses, depths, directions = read_as_nerf_does(tmp_path)
    points = poses[:, None, None, :3, 3] + depths[..., None] * directions
    labels = np.stack([np.array(Image.open(tmp_path / f"labels/{n:03d}.png")) for n in range(len(poses))])
    heights = points[..., 2]
    assert np.abs(heights[(labels == ROAD) | (labels == LOW_VEGETATION)]).max() < 0.02
    assert heights[labels == BUILDING].max() == pytest.approx(8.0, abs=0.02)
    assert (points[labels == ROAD][:, 0] < 0.4).all()


def test_a_set_that_is_written_reads_back(posed: PosedSet, tmp_path: Path) -> None:
    write_views(tmp_path, posed)
    back = read_views(tmp_path)
    assert (back.held_out, back.labelled) == (posed.held_out, posed.labelled)
    assert all(np.array_equal(a.labels, b.labels) for a, b in zip(back.views, posed.views, strict=True))
    assert all(np.allclose(a.depth, b.depth, atol=0.0051) for a, b in zip(back.views, posed.views, strict=True))


def test_fewer_than_three_labelled_views_are_refused(posed: PosedSet, tmp_path: Path) -> None:
    write_views(tmp_path, posed)
    with pytest.raises(SceneError, match="2 views are labelled; 3 to 5 are needed"):
        read_views(tmp_path, labelled=posed.labelled[:2])


def test_a_damaged_set_is_refused(posed: PosedSet, tmp_path: Path) -> None:
    with pytest.raises(SceneError, match=r"transforms\.json is missing"):
        read_views(tmp_path)
    (write_views(tmp_path, posed)).write_text('{"frames": 3}')
    with pytest.raises(SceneError, match="cannot be read as a set of views"):
        read_views(tmp_path)


# --- Fields ---


def test_a_dense_slab_is_seen_where_it_begins() -> None:
    depths = torch.linspace(0.5, 9.5, 10).expand(2, -1)
    optical = torch.where(depths > 4, 50.0, 0.0)
    weights = torch.exp(-(optical.cumsum(1) - optical)) * (1 - torch.exp(-optical))
    samples = Samples(depths, weights, torch.zeros(2, 10, 3), torch.zeros(2, 10, 1), torch.full((2, 10, 3), 0.25))
    seen = rendered(samples)
    torch.testing.assert_close(seen.depths, torch.full((2,), 4.5))
    torch.testing.assert_close(seen.colours, torch.full((2, 3), 0.25))
    assert float(distortion(samples)) == pytest.approx(0, abs=1e-5)


def test_distortion_is_the_sum_over_pairs() -> None:
    depths, weights = torch.rand(5, 7).sort(dim=1).values, torch.rand(5, 7)
    samples = Samples(depths, weights, torch.zeros(5, 7, 3), torch.zeros(5, 7, 1), torch.zeros(5, 7, 3))
    pairs = weights[:, :, None] * weights[:, None] * (depths[:, :, None] - depths[:, None]).abs()
    torch.testing.assert_close(distortion(samples), pairs.sum(dim=(1, 2)).mean())


def test_rays_that_miss_the_box_see_white() -> None:
    field = Field(SMALL, torch.tensor([[-1.0, -1, 0], [1, 1, 1]]))
    rays = Rays(torch.tensor([[5.0, 5, 5]]), torch.tensor([[1.0, 0, 0]]))
    torch.testing.assert_close(rendered(field.sample(rays)).colours, torch.ones(1, 3), atol=5e-3, rtol=0)


def test_a_field_learns_a_small_scene(posed: PosedSet) -> None:
    before = torch.random.get_rng_state()
    run = FieldRun(
        posed, FitSettings(colour_steps=150, semantic_steps=24, rays=320, rate=0.06, pseudo="contrast"), config=SMALL
    )
    fitted = run.run()
    assert torch.equal(before, torch.random.get_rng_state())
    truth = posed.views[posed.held_out[0]]
    view = fitted.render(truth.camera)
    error = np.mean((view.colours.astype(float) - truth.colours) ** 2)
    assert -10 * math.log10(error / 255**2) > 18
    known = truth.labels > 0
    assert (view.labels == truth.labels)[known].mean() > 0.8
    both = (truth.depth > 0) & (view.depth > 0)
    assert np.median(np.abs(view.depth - truth.depth)[both]) < 2.0


@pytest.mark.parametrize("pseudo", ["decoder", "contrast"])
def test_a_run_that_stops_goes_on_as_if_it_had_not(posed: PosedSet, tmp_path: Path, pseudo: Pseudo) -> None:
    settings = FitSettings(colour_steps=8, semantic_steps=4, rays=64, pseudo=pseudo)
    whole = FieldRun(posed, settings, config=SMALL).run()
    for until in (5, 10, None):
        run = FieldRun(posed, settings, tmp_path, SMALL)
        run.resume()
        parted = run.run(until=until)
    for name, tensor in whole.field.state_dict().items():
        assert torch.equal(tensor, parted.field.state_dict()[name]), name
    assert whole.head is not None and parted.head is not None
    for name, tensor in whole.head.state_dict().items():
        assert torch.equal(tensor, parted.head.state_dict()[name]), name
    assert np.array_equal(whole.render(posed.views[0].camera).labels, parted.render(posed.views[0].camera).labels)


def test_ctrl_c_leaves_a_checkpoint(posed: PosedSet, tmp_path: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    settings = FitSettings(colour_steps=20, semantic_steps=0, rays=64)
    with pytest.raises(KeyboardInterrupt):
        FieldRun(posed, settings, tmp_path, SMALL).run(interrupt)
    run = FieldRun(posed, settings, tmp_path, SMALL)
    assert run.resume() and run.step == 5


def test_a_checkpoint_of_another_run_is_refused(posed: PosedSet, tmp_path: Path) -> None:
    settings = FitSettings(colour_steps=2, semantic_steps=0, rays=64)
    FieldRun(posed, settings, tmp_path, SMALL).run()
    with pytest.raises(WeightsError, match="other views, settings or sizes"):
        FieldRun(posed, replace(settings, seed=1), tmp_path, SMALL).resume()
    (tmp_path / "field.pt").write_bytes(b"nothing")
    with pytest.raises(WeightsError, match="no checkpoint of a field"):
        FieldRun(posed, settings, tmp_path, SMALL).resume()


def test_ray_convolution_learns_too(posed: PosedSet) -> None:
    settings = FitSettings(colour_steps=10, semantic_steps=3, rays=64, head="convolution", pseudo="none")
    view = FieldRun(posed, settings, config=SMALL).run().render(posed.views[0].camera)
    assert set(np.unique(view.labels)) <= {0, ROAD, LOW_VEGETATION, BUILDING}


# --- The encoder ---


def tiny_sam(path: Path) -> Path:
    from segment_anything.modeling.image_encoder import ImageEncoderViT  # type: ignore[import-untyped]

    vit = ImageEncoderViT(
        img_size=64, patch_size=8, embed_dim=24, depth=2, num_heads=3, out_chans=16, use_rel_pos=True,
        window_size=4, global_attn_indexes=(1,),
    )  # fmt: skip
    state = {f"image_encoder.{name}": tensor for name, tensor in vit.state_dict().items()}
    torch.save(state | {"mask_decoder.iou_token.weight": torch.zeros(1, 16)}, path)
    return path


def test_sams_checkpoints_are_read_whatever_their_size(tmp_path: Path, posed: PosedSet) -> None:
    source = tiny_sam(tmp_path / "sam.pth")
    assert SamEncoder(source)(torch.rand(2, 3, 40, 40)).shape == (2, 16, 8, 8)
    settings = FitSettings(colour_steps=3, semantic_steps=2, rays=64, sam=str(source))
    run = FieldRun(posed, settings, config=SMALL)
    run.run()
    assert run.fitted.encoder is not None and run.fitted.encoder.name == "sam:sam.pth"
    assert run.fitted.gathered is not None and run.fitted.gathered.maps.shape[1:] == (16, 8, 8)


def test_a_checkpoint_without_an_encoder_is_refused(tmp_path: Path) -> None:
    torch.save({"other": torch.zeros(1)}, tmp_path / "sam.pth")
    with pytest.raises(WeightsError, match="no image encoder in segment-anything's layout"):
        SamEncoder(tmp_path / "sam.pth")


def test_contrast_names_the_class_of_what_is_alike() -> None:
    labelled = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    found, margin = contrasted(
        torch.tensor([[5.0, 0.1], [0.1, 3.0], [1.0, 1.0]]), labelled, torch.tensor([2, 2, 4]), torch.Generator()
    )
    assert found[:2].tolist() == [2, 4]
    assert margin[0] > 0.9 and margin[1] > 0.9 and margin[2] < 0.6


class Pooled(Encoder):
    """Colours, at half the size."""

    name = "pooled"

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, 2)


def halves(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Dark pictures with a bright half of a width by chance, and classes: 1 in it, -1 in the lowest rows."""
    chance = torch.Generator().manual_seed(seed)
    edges = torch.randint(8, 24, (count, 1, 1), generator=chance)
    targets = (torch.arange(32) >= edges).expand(count, 32, 32).long()
    images = (0.2 + 0.5 * targets[:, None] + 0.1 * torch.rand(count, 3, 32, 32, generator=chance)).clamp(0, 1)
    return images, torch.where(torch.arange(32)[:, None] >= 28, -1, targets)


def test_a_decoder_labels_other_pictures() -> None:
    before = torch.random.get_rng_state()
    decoder = taught(Pooled(), *halves(3, 0), classes=2, steps=60)
    assert torch.equal(before, torch.random.get_rng_state())
    images, targets = halves(4, 1)
    classes, margins = guessed(decoder, Pooled(), images)
    known = targets >= 0
    assert (classes == targets)[known].float().mean() > 0.97
    clear = known & (margins > 0.6)
    assert clear.float().mean() > 0.5 and (classes == targets)[clear].float().mean() > 0.99


def test_a_decoder_of_one_class_is_sure_of_it() -> None:
    images, _ = halves(3, 0)
    decoder = taught(Pooled(), images, torch.zeros(3, 32, 32, dtype=torch.long), classes=1, steps=1)
    classes, margins = guessed(decoder, Pooled(), images)
    assert not classes.any() and bool((margins == 1).all())


def test_rare_classes_count_more() -> None:
    targets = torch.tensor([0, 0, 0, 0, 0, 0, 0, 0, 1, 1, -1])
    torch.testing.assert_close(rarity(targets, 2), torch.tensor([5 / 8, 5 / 2]).sqrt())


def test_only_pixels_without_labels_get_pseudo_labels(posed: PosedSet) -> None:
    run = FieldRun(posed, FitSettings(colour_steps=1, semantic_steps=150, rays=64, pseudo="decoder"), config=SMALL)
    run.run(until=2)
    targets = run._targets.view(len(posed.seen), -1)
    right = []
    for number, found in zip(posed.seen, targets, strict=True):
        truth = torch.tensor(posed.views[number].labels).view(-1)
        if number in posed.labelled:
            assert bool((found >= 0).eq(truth > 0).all())
        else:
            assert bool((found < 0).all())
            clear = (found < -1) & (truth > 0)
            right.append((run.codes[-2 - found[clear]] == truth[clear]).float())
    assert len(torch.cat(right)) > 2000 and torch.cat(right).mean() > 0.95


@pytest.fixture(scope="module")
def looked(scene: Scene) -> Gathered:
    """Two pictures of the box from the west and from the east; features are 1 in one of them and 3 in the other."""
    cameras = [camera_at((x, 0.0, 30.0), (0.0, 0.0, 0.0), 64) for x in (-40.0, 40.0)]
    depths = torch.tensor(np.stack([view.depth for view in render_views(scene, cameras, samples=1)]))
    return Gathered(cameras, depths, torch.tensor([1.0, 3.0])[:, None, None, None].expand(2, 1, 16, 16))


def test_a_place_has_the_mean_of_the_pictures_that_show_it(looked: Gathered) -> None:
    roof, west_wall, east_ground, air, outside = (
        [1.0, 0.5, 8.0], [-5.0, 0.0, 6.0], [7.0, 0.5, 0.0], [0.0, 0.0, 12.0], [300.0, 0.0, 0.0],
    )  # fmt: skip
    found = looked.at(torch.tensor([roof, west_wall, east_ground, air, outside]))
    torch.testing.assert_close(found, torch.tensor([[2.0, 1.0], [1.0, 1.0], [3.0, 1.0], [0.0, 0.0], [0.0, 0.0]]))


def test_a_picture_can_be_left_out(looked: Gathered) -> None:
    found = looked.at(torch.tensor([[1.0, 0.5, 8.0], [-5.0, 0.0, 6.0]]), without=0)
    torch.testing.assert_close(found, torch.tensor([[3.0, 1.0], [0.0, 0.0]]))


def test_labelled_pixels_are_learned_without_what_their_own_picture_shows(posed: PosedSet) -> None:
    run = FieldRun(posed, FitSettings(colour_steps=4, semantic_steps=1, rays=64), config=SMALL)
    fitted = run.run()
    camera = posed.views[posed.seen[1]].camera
    seen, pixels = fitted.colours(camera), camera.width * camera.height
    learned = run._features[pixels : 2 * pixels].float()
    torch.testing.assert_close(learned, fitted.features(camera, seen, without=1), atol=1e-2, rtol=1e-2)
    assert not torch.allclose(learned, fitted.features(camera, seen), atol=1e-2, rtol=1e-2)


# --- Flights and the command line ---


@pytest.mark.parametrize("ending", ["webp", "gif"])
def test_a_flight_has_as_many_frames_as_cameras(scene: Scene, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"around.{ending}"
    cameras = orbit(scene, 3, 32)
    write_flight(path, cameras, lambda camera: render_views(scene, [camera], samples=1)[0])
    with Image.open(path) as image:
        assert (image.size, getattr(image, "n_frames", 1)) == ((96, 32), 3)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bbox", "0,0,0.2,0.2"], "96 to 512 a side are allowed"),
        (["--bbox", "0,0,0.0007,0.0007", "--labelled", "2"], "3 to 5 are allowed"),
        (["--fly-around", "around.webp"], "give --fit"),
        (["--head", "cnn"], "transformer, convolution"),
        (["--pseudo-labels", "yes"], "decoder, contrast, none"),
        ([], "give --bbox"),
    ],
)
def test_the_command_refuses_in_a_sentence(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["views", "-o", str(tmp_path / "views"), "--no-cache", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_the_command_fits_what_is_there_and_flies_around_it(posed: PosedSet, tmp_path: Path) -> None:
    write_views(tmp_path, posed)
    words = ["views", "-o", str(tmp_path), "--fit", "--steps", "2", "--frames", "2", "--quiet"]
    assert main([*words, "--fly-around", str(tmp_path / "around.gif")]) == 0
    assert (tmp_path / "field.pt").is_file() and (tmp_path / "around.gif").is_file()


@pytest.mark.slow
def test_the_command_makes_views_of_a_planned_world(tmp_path: Path) -> None:
    west, south, east, north = box_bounds(BOX)
    words = ["views", "-o", str(tmp_path / "views"), "--plan", "--seed", "3", "--count", "6", "--size", "32", "-q"]
    bbox = f"{west + 1e-6},{south + 1e-6},{east - 1e-6},{north - 1e-6}"
    assert main([*words, "--bbox", bbox, "--labelled", "3", "--no-cache"]) == 0
    made = read_views(tmp_path / "views")
    assert len(made.views) == 6 and made.about["zoom"] == 18
