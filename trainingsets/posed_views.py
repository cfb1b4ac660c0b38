"""Posed views of a planned place: what `earthgen views --plan` makes, as an item of a dump."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from earthgen.bands import LAND_COVER, BandClass
from trainingsets.places import class_of
from trainingsets.sample import Legend, Sample, View
from trainingsets.spec import DumpSpec

if TYPE_CHECKING:
    from trainingsets.making import Maker
    from trainingsets.tasks import Item

LABELS: Legend = (BandClass(0, "nothing", (255, 255, 255)), *LAND_COVER)
"""Classes of what a pixel of a view shows."""
_LABELLED = 4
"""Views of a scene whose labels may be learned from, where a method is to learn from few."""


def view_names(spec: DumpSpec) -> tuple[str, ...]:
    """Roles of the pictures of a scene, in order."""
    return tuple(f"v{number:03d}" for number in range(spec.views))


def labels_role(view: str) -> str:
    """The role of the labels of a view."""
    return f"labels_{view}"


def posed_views(maker: Maker, item: Item, day: str) -> Sample:
    """A place that is planned and painted, seen from all sides. Classes are those of the plan.

    Args:
        maker: an open one.
        item: whose box is the ground.
        day: ISO date that the views stand for.

    Raises:
        DependencyError: embreex is not installed.
    """
    from perception.multiview.cameras import orbit
    from perception.multiview.plan import GROUNDS, planned_world
    from perception.multiview.posed import posed_set
    from perception.multiview.rendering import render_views
    from perception.multiview.scene import scene_of

    spec = item.spec
    ground = class_of(GROUNDS, spec, item.scene.number)
    world = replace(planned_world(item.box, item.scene.seed, ground), quality=spec.quality)
    scene = scene_of(maker.engine, world, item.box)
    cameras = orbit(scene, spec.views, spec.size, int(item.random(8).integers(2**31)))
    told = {"synthetic": True, "weights": maker.engine.weights_id}
    posed = posed_set(scene, render_views(scene, cameras), _LABELLED, told)
    names = view_names(spec)
    seen = dict(zip(names, posed.views, strict=True))
    about = {
        "ground": ground,
        "buildings": len(scene.buildings),
        "held_out": [names[number] for number in posed.held_out],
        "labelled": [names[number] for number in posed.labelled],
    }
    return Sample(
        {
            name: View(np.concatenate([view.colours, view.seen[..., None]], axis=2), world, item.box, day)
            for name, view in seen.items()
        },
        {labels_role(name): view.labels for name, view in seen.items()},
        about=about,
        posed=posed,
    )
