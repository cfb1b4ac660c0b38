"""Dumps of posed views: readers of NeRF's convention see one scene in all views, and nothing changes the bytes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import warnings
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import trainingsets.tasks
from earthgen.bands import LAND_COVER
from earthgen.cli import main
from perception.multiview.posed import read_views
from tests.fake_dump import PaintingOpener
from trainingsets.errors import DumpSpecError
from trainingsets.folder import DumpFolder
from trainingsets.inspection import inspect_folder
from trainingsets.making import EngineOpener
from trainingsets.running import Limits, check, run
from trainingsets.spec import DumpSpec

COUNT, VIEWS, SIZE = 3, 8, 96
CODES = {part.code for part in LAND_COVER}


@pytest.fixture(scope="module", autouse=True)
def no_waiting_for_disks() -> Any:
    patch = pytest.MonkeyPatch()
    patch.setattr(os, "fsync", lambda descriptor: None)
    yield
    patch.undo()


def spec_of(form: str = "nerf", **other: Any) -> DumpSpec:
    options: dict[str, Any] = {"count": COUNT, "size": SIZE, "views": VIEWS, "tiles_per_scene": 1, "gsds": (0.6,)}
    return DumpSpec(task="multi-view", format=form, **(options | {"splits": (0.4, 0.3, 0.3)} | other))


def dump(path: Path, spec: DumpSpec, *, resume: bool = False, **options: Any) -> Any:
    folder = DumpFolder.create(path, spec, {"weights": "paint", "fingerprint": "paint-1"}, resume=resume)
    return run(folder, PaintingOpener(), **options)


def content(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("views") / "dump"
    assert dump(path, spec_of()).complete
    return path


# --- What is in it ---

REPROJECT = """
import json, sys
from pathlib import Path
import numpy as np
import torch
from kornia.geometry.camera import PinholeCamera
from PIL import Image



def camera(scene, frame, flipped):
    # NeRF's poses go from the camera to the world and look along -z, y up; kornia's the other way, along +z, y down.
    pose = torch.tensor(frame["transform_matrix"], dtype=torch.float64)
    lens = torch.eye(4, dtype=torch.float64)
    lens[0, 0], lens[1, 1], lens[0, 2], lens[1, 2] = scene["fl_x"], scene["fl_y"], scene["cx"], scene["cy"]
    if flipped:
        pose = pose @ torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))
    size = [torch.tensor([side]) for side in (scene["h"], scene["w"])]
    return PinholeCamera(lens[None], torch.linalg.inv(pose)[None], *size)


def reprojected(folder, flipped):
    scene = json.loads((folder / "transforms.json").read_text())
    width, height = scene["w"], scene["h"]

    def picture(frame, key):
        return torch.from_numpy(np.asarray(Image.open(folder / frame[key])).astype(np.int64))

    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    middles = torch.stack([columns, rows], dim=-1).double() + 0.5
    unit = scene["depth_unit_scale_factor"]
    depths = [picture(frame, "depth_file_path").double() * unit for frame in scene["frames"]]
    labels = [picture(frame, "label_file_path") for frame in scene["frames"]]
    cameras = [camera(scene, frame, flipped) for frame in scene["frames"]]
    found = []
    for one, depth in enumerate(depths):
        seen = depth > 0
        points = cameras[one].unproject(middles[seen][None], depth[seen][None, :, None])[0]
        for other, there in enumerate(cameras):
            if one == other:
                continue
            ahead = (there.extrinsics[0, :3, :3] @ points.T).T + there.extrinsics[0, :3, 3]
            at = there.project(points[None])[0].floor().long()
            inside = (ahead[:, 2] > 0) & (at >= 0).all(dim=1) & (at[:, 0] < width) & (at[:, 1] < height)
            at, far = at[inside], ahead[inside, 2]
            same = (depths[other][at[:, 1], at[:, 0]] - far).abs() < 0.4
            classes = labels[one][seen][inside][same]
            other_classes = labels[other][at[:, 1], at[:, 0]][same]
            agree = int((classes == other_classes).sum())
            found.append([len(points), int(inside.sum()), int(same.sum()), agree])
    return found


folders = [Path(folder) for folder in sys.argv[1:]]
# And the first as if its poses needed no turn.
print(json.dumps([reprojected(folder, True) for folder in folders] + [reprojected(folders[0], False)]))
"""


@pytest.fixture(scope="module")
def reprojected(scenes: Path) -> Any:
    """Points, points inside, seen and of the same class, of each scene, (scenes, 4); and of one with poses unturned."""
    folders = [str(folder) for folder in sorted(scenes.glob("*/*_*"))]
    # In one process of its own: importing kornia takes longer than all it computes.
    done = subprocess.run(
        [sys.executable, "-c", REPROJECT, *folders], capture_output=True, text=True, timeout=300, cwd="/"
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = np.array([np.sum(scene, axis=0) for scene in json.loads(done.stdout.splitlines()[-1])])
    assert found.shape == (COUNT + 1, 4)
    return found


def test_depth_and_pose_of_one_view_land_on_the_same_class_in_the_others(reprojected: Any) -> None:
    for points, inside, same, agree in reprojected[:-1]:
        # A third and more of what one view shows another shows, too; the rest is hidden or outside.
        assert inside > 0.4 * points and same > 0.6 * inside
        assert agree > 0.97 * same


def test_the_convention_matters(reprojected: Any) -> None:
    points, _, same, _ = reprojected[-1]
    assert same < 0.1 * points


def test_a_scene_has_what_its_transforms_name(scenes: Path) -> None:
    folders = sorted(scenes.glob("*/*_*"))
    assert {folder.parent.name for folder in folders} == {"train", "val", "test"}
    worlds = set()
    for folder in folders:
        scene = json.loads((folder / "transforms.json").read_text())
        assert len(scene["frames"]) == VIEWS and scene["w"] == scene["h"] == SIZE
        assert sorted(scene["train_filenames"] + scene["test_filenames"]) == [f["file_path"] for f in scene["frames"]]
        assert scene["fl_x"] == pytest.approx(SIZE / 2 / np.tan(scene["camera_angle_x"] / 2))
        for frame in scene["frames"]:
            image, depth, labels = (
                np.asarray(Image.open(folder / frame[key]))
                for key in ("file_path", "depth_file_path", "label_file_path")
            )
            assert image.shape == (SIZE, SIZE, 4) and depth.dtype == np.uint16 and labels.dtype == np.uint8
            assert np.array_equal(depth > 0, labels > 0)
            assert set(np.unique(labels)) <= {0} | CODES
            turn = np.array(frame["transform_matrix"])[:3, :3]
            assert np.allclose(turn @ turn.T, np.eye(3)) and np.linalg.det(turn) == pytest.approx(1)
        worlds.add(scene["earthgen"]["world_id"])
        # `earthgen views` goes on from it.
        assert len(read_views(folder).labelled) == 4
    assert len(worlds) == COUNT


def test_webdataset_reads_views_poses_and_depths(tmp_path: Path, scenes: Path) -> None:
    import webdataset

    assert dump(tmp_path / "shards", spec_of("webdataset")).complete
    total = 0
    for shard in sorted((tmp_path / "shards").glob("*.tar")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            samples = list(webdataset.WebDataset(str(shard), shardshuffle=False).decode("rgb8"))
        for sample in samples:
            split = shard.name.partition("-")[0]
            folder = scenes / split / sample["__key__"]
            poses, theirs = sample["transforms.json"], json.loads((folder / "transforms.json").read_text())
            assert sample["depth.npy"].shape == (VIEWS, SIZE, SIZE)
            for number, (frame, other) in enumerate(zip(poses["frames"], theirs["frames"], strict=True)):
                assert frame["transform_matrix"] == other["transform_matrix"]
                image = np.asarray(Image.open(folder / other["file_path"]).convert("RGB"))
                assert np.array_equal(sample[frame["file_path"]], image)
                labels = np.asarray(Image.open(folder / other["label_file_path"]))
                assert np.array_equal(sample[frame["label_file_path"]][..., 0], labels)
                depth = np.asarray(Image.open(folder / other["depth_file_path"]))
                assert np.array_equal(sample["depth.npy"][number], depth)
        total += len(samples)
    assert total == COUNT
    assert inspect_folder(tmp_path / "shards").faults == []


# --- Runs ---


def test_workers_shards_and_limits_make_the_same_bytes(tmp_path: Path, scenes: Path) -> None:
    whole = content(scenes)
    assert dump(tmp_path / "workers", spec_of(), backend="process", workers=2).complete
    assert content(tmp_path / "workers") == whole
    ends = [dump(tmp_path / "shards", spec_of(), resume=True, shard=(number, 3)) for number in (2, 0, 1)]
    assert [end.complete for end in ends] == [False, False, True]
    assert content(tmp_path / "shards") == whole
    assert dump(tmp_path / "parts", spec_of(), limits=Limits(bytes=1000)).made == 1
    assert dump(tmp_path / "parts", spec_of(), resume=True).complete
    assert content(tmp_path / "parts") == whole


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (spec_of("hf"), "format hf holds no multi-view, which these hold: nerf, webdataset"),
        (DumpSpec(task="vqa", format="nerf", count=1), "format nerf holds no vqa"),
        (spec_of(gsds=(2.4,)), "GSD of multi-view is 2.4 m; single houses have to be seen"),
        (spec_of(size=2048), "at most 1024 pixels"),
        (spec_of(roots=("planet",)), "no labels for worlds of root planet"),
        (spec_of(keep_if="anomaly<1"), "keep-if names anomaly, which is for pictures from above"),
    ],
)
def test_what_cannot_be_made_is_refused_before_it_begins(spec: DumpSpec, says: str) -> None:
    with pytest.raises(DumpSpecError, match=says):
        check(spec)


def test_without_the_tracer_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(trainingsets.tasks, "find_spec", lambda name: None)
    assert main(["dump", "--task", "multi-view", "-o", str(tmp_path / "dump"), "-q"]) == 2
    assert capsys.readouterr().err == (
        'earthgen: task multi-view needs embreex; install it: pip install "earthgen[views]"\n'
    )
    assert not (tmp_path / "dump").exists()


# --- Commands ---


def test_the_commands_write_it_and_read_it_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def open_(self: EngineOpener) -> AbstractContextManager[Any]:
        return PaintingOpener().open()

    monkeypatch.setattr(EngineOpener, "open", open_)
    path = tmp_path / "scenes"
    words = ["--count", "2", "--size", "64", "--views", "6", "--tiles-per-scene", "1", "--splits", "0.5,0,0.5", "-q"]
    assert main(["dump", "--task", "multi-view", *words, "-o", str(path)]) == 0
    assert "--format nerf" in (path / "README.md").read_text() and "--views 6" in (path / "README.md").read_text()
    capsys.readouterr()
    assert main(["inspect", str(path), "-q", "--sheet", str(tmp_path / "sheet.png")]) == 0
    out = capsys.readouterr().out
    assert "items: train 1, val 0, test 1" in out and "pixels of labels: nothing " in out and "road " in out
    assert f"files opened: {2 * (3 * 6 + 1)}" in out and "no faults" in out
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert len(sheet.convert("RGB").getcolors(1 << 22) or []) > 50
    depth, labels = min(path.rglob("depth/*.png")), min(path.rglob("labels/*.png"))
    depth.write_bytes(depth.read_bytes()[:-60])
    labels.unlink()
    transforms = min(path.rglob("transforms.json"))
    transforms.write_text(transforms.read_text().replace('"depth_unit_scale_factor": 0.01', '"k9": 1'))
    assert main(["inspect", str(path), "-q"]) == 1
    out = capsys.readouterr().out
    assert "depth/000.png is damaged" in out and "labels/000.png cannot be read" in out
    assert "transforms.json is not the file that was written" in out and "3 faults" in out
