"""Fitting a field to posed views: first colours, then classes, with a progress bar; it stops and goes on.

The first stage learns density and colour from all views that are not held out. Then these stand still. The second
learns classes from the labelled views. The image encoder looks at views as the field renders them, so that it sees the
same kind of picture at a new pose, of which there is no other; and it looks at the true pictures of the views that are
not held out, in which it is looked up what it saw of a place. Views without labels add pseudo-labels where a decoder on
the encoder, or contrasting its features, is clear about a pixel.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from earthgen.errors import WeightsError
from perception.errors import SceneError, first_line
from perception.multiview.cameras import Camera
from perception.multiview.field import Field, FieldConfig, Rays, Rendered, distortion, rendered
from perception.multiview.gathering import Gathered
from perception.multiview.posed import PosedSet, transforms
from perception.multiview.prior import Basis, Encoder, contrasted, encoder_of
from perception.multiview.rendering import View
from perception.multiview.semantics import KINDS, Head, Kind, head_of
from perception.multiview.teaching import guessed, rarity, taught

CHECKPOINT = "field.pt"
_VERSION = 2
_EVERY_SECONDS = 60.0
"""Between two checkpoints."""
_CHUNK = 4096
"""Rays that are rendered at once."""
_OPACITY, _SMOOTH, _DISTORTION = 0.1, 1e-3, 1e-4
"""Weights of the losses beside that of colours. Ten times the distortion lifts the ground: 2.1 m off, not 1.2 m."""
_DROPPED = 0.2
"""Share of the encoder's features that a step of learning hides. Few labels of few pictures are otherwise learned by
heart from them."""
Pseudo = Literal["decoder", "contrast", "none"]
PSEUDO: tuple[Pseudo, ...] = ("decoder", "contrast", "none")
_PSEUDO: dict[Pseudo, tuple[float, float]] = {"decoder": (0.6, 0.5), "contrast": (0.8, 0.25), "none": (1.0, 0.0)}
"""Margin from which on a pseudo-label is taken, and weight of the loss. Of planned scenes, 98 of 100 of the decoder's
were right, and 99 of contrast's; 97 of those from 0.6 on and 90 from 0.3."""
_REFRESH = 16
"""Steps between two refreshes of the grid of densities."""

Progress = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class FitSettings:
    """How a field is fitted.

    Attributes:
        colour_steps: of the first stage.
        semantic_steps: of the second.
        rays: of a step.
        rate: Adam's learning rate of the planes; the networks have a quarter of it.
        head: what makes classes; "convolution" uses no prior.
        prior: whether the head is told what the image encoder sees.
        pseudo: what labels the views without labels: a decoder on the encoder, contrast of its features, or nothing.
        sam: a checkpoint of SAM for the encoder; None for EfficientNet-Lite0.
        seed: of all chance.
    """

    colour_steps: int = 900
    semantic_steps: int = 400
    rays: int = 1024
    rate: float = 0.02
    head: Kind = "transformer"
    prior: bool = True
    pseudo: Pseudo = "contrast"
    sam: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, least, most in (
            ("colour steps", self.colour_steps, 1, 1_000_000),
            ("semantic steps", self.semantic_steps, 0, 1_000_000),
            ("rays", self.rays, 16, 65536),
        ):
            if not least <= value <= most:
                raise SceneError(f"{name} are {value}; {least} to {most} are allowed")
        if self.head not in KINDS:
            raise SceneError(f"head is {self.head!r}; allowed: {', '.join(KINDS)}")
        if self.pseudo not in PSEUDO:
            raise SceneError(f"pseudo-labels are {self.pseudo!r}; allowed: {', '.join(PSEUDO)}")

    @property
    def told(self) -> bool:
        """Whether an image encoder is needed for rendering."""
        return self.prior and self.head == "transformer"

    @property
    def steps(self) -> int:
        """Of both stages."""
        return self.colour_steps + self.semantic_steps


class FittedField:
    """A field that renders views from any pose.

    Args:
        field: density and colour.
        codes: classes that the labelled views have.
        head: makes classes; None before the second stage.
        encoder: what looks at rendered views; None if the head is told nothing.
        basis: of its features of rendered views.
        gathered: what it saw in the true pictures.
    """

    def __init__(
        self,
        field: Field,
        codes: torch.Tensor,
        head: Head | None = None,
        encoder: Encoder | None = None,
        basis: Basis | None = None,
        gathered: Gathered | None = None,
    ) -> None:
        self.field, self.codes, self.head = field, codes, head
        self.encoder, self.basis, self.gathered = encoder, basis, gathered

    @torch.no_grad()
    def colours(self, camera: Camera) -> Rendered:
        """Colours (h, w, 3), depths (h, w) and opacities (h, w) from a pose."""
        rays, shape = rays_of(camera), (camera.height, camera.width)
        parts = [rendered(self.field.sample(part)) for part in _chunks(rays)]
        colours, depths, opacities = (torch.cat(each) for each in zip(*parts, strict=True))
        return Rendered(colours.view(*shape, 3), depths.view(shape), opacities.view(shape))

    @torch.no_grad()
    def features(self, camera: Camera, seen: Rendered, without: int | None = None) -> torch.Tensor:
        """What the encoder sees of a rendered view, and what it saw in the true pictures of the same places.

        Args:
            camera: the pose.
            seen: what `colours` gives for it.
            without: the true picture that does not count.

        Returns:
            Numbers of the pixels, row by row, (h * w, c).
        """
        assert self.encoder is not None and self.basis is not None and self.gathered is not None
        maps = self.encoder(seen.colours.permute(2, 0, 1)[None].clamp(0, 1))
        own = self.basis(maps, *seen.depths.shape)[0].flatten(0, 1)
        rays = rays_of(camera)
        places = rays.origins + seen.depths.view(-1, 1) * rays.directions
        return torch.cat([own, self.gathered.at(places, without)], dim=1)

    @torch.no_grad()
    def render(self, camera: Camera) -> View:
        """A view from any pose; labels are 0 everywhere before the second stage."""
        seen = self.colours(camera)
        labels = torch.zeros(seen.depths.shape, dtype=torch.uint8)
        solid = seen.opacities > 0.5
        if self.head is not None:
            prior = None if self.encoder is None else self.features(camera, seen)
            found = []
            for number, part in enumerate(_chunks(rays_of(camera))):
                told = None if prior is None else prior[number * _CHUNK : number * _CHUNK + len(part.origins)]
                found.append(self.head(self.field.sample(part), told).argmax(dim=1))
            labels = torch.where(solid, self.codes[torch.cat(found)].view_as(labels), labels)
        return View(
            camera,
            _bytes(seen.colours),
            _bytes(seen.opacities),
            torch.where(solid, seen.depths, torch.zeros(())).numpy().astype(np.float32),
            labels.numpy(),
        )


class FieldRun:
    """A run that fits a field.

    Args:
        posed: views of one scene.
        settings: how.
        out: folder of the checkpoint; None keeps none.
        config: sizes of the field.

    Attributes:
        step: steps that are done, of both stages.
        seconds: that they took.

    Raises:
        SceneError: the labelled views show no class.
        WeightsError: the checkpoint of SAM cannot be used.
    """

    def __init__(
        self, posed: PosedSet, settings: FitSettings, out: Path | None = None, config: FieldConfig | None = None
    ) -> None:
        self.posed, self.settings, self.out = posed, settings, out
        self.config = FieldConfig() if config is None else config
        self.step, self.seconds = 0, 0.0
        self._chance = torch.Generator().manual_seed(settings.seed)
        # Layers draw their first weights from torch's global chance, which is left as it was.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            self.field = Field(self.config, torch.tensor(posed.box))
            self._encoder = encoder_of(settings.sam) if settings.told or settings.pseudo != "none" else None
        networks = [*self.field.density_net.parameters(), *self.field.colour_net.parameters()]
        self._optimiser = torch.optim.Adam(
            [{"params": list(self.field.planes), "share": 1.0}, {"params": networks, "share": 0.25}],
            lr=settings.rate,
        )
        labels = np.stack([posed.views[number].labels for number in posed.labelled])
        self.codes = torch.tensor(np.setdiff1d(labels, [0]).astype(np.uint8))
        if not len(self.codes):
            raise SceneError("the labelled views show no class; views with labels are needed")
        self._rays, self._colours, self._seen = self._pixels()
        self._head: Head | None = None
        self._head_optimiser: torch.optim.Optimizer | None = None
        self._basis: Basis | None = None
        self._gathered: Gathered | None = None
        self._features = torch.zeros(0)
        self._targets = torch.zeros(0)

    # --- What is learned from ---

    def _pixels(self) -> tuple[Rays, torch.Tensor, torch.Tensor]:
        """Rays, colours and opacities of all pixels of the views that are not held out, view by view."""
        views = [self.posed.views[number] for number in self.posed.seen]
        origins, directions = zip(*(rays_of(view.camera) for view in views), strict=True)
        colours = torch.tensor(np.stack([view.colours for view in views])).view(-1, 3)
        seen = torch.tensor(np.stack([view.seen for view in views])).view(-1)
        return Rays(torch.cat(origins), torch.cat(directions)), colours, seen

    @property
    def _pictures(self) -> torch.Tensor:
        """The true pictures of the views that are not held out: (v, 3, h, w) in 0..1."""
        camera = self.posed.views[0].camera
        pixels = self._colours.view(-1, camera.height, camera.width, 3)
        return pixels.permute(0, 3, 1, 2).float() / 255

    def _at(self, picked: torch.Tensor) -> Rays:
        return Rays(self._rays.origins[picked], self._rays.directions[picked])

    # --- The run ---

    @property
    def fitted(self) -> FittedField:
        """What has been fitted so far."""
        if self._head is None or not self.settings.told:
            return FittedField(self.field, self.codes, self._head)
        return FittedField(self.field, self.codes, self._head, self._encoder, self._basis, self._gathered)

    def run(self, progress: Progress | None = None, until: int | None = None) -> FittedField:
        """Go on to the end, or up to a step.

        A checkpoint is written each minute, at the end, and when the run is interrupted; KeyboardInterrupt goes on
        its way after that.

        Args:
            progress: told steps that are done, and of how many.
            until: the step to stop at.
        """
        end = self.settings.steps if until is None else min(until, self.settings.steps)
        written = time.monotonic()
        try:
            while self.step < end:
                begun = time.monotonic()
                if self.step < self.settings.colour_steps:
                    self._colour_step()
                else:
                    self._semantic_step()
                self.step += 1
                self.seconds += time.monotonic() - begun
                if progress is not None:
                    progress(self.step, self.settings.steps)
                if self.out is not None and time.monotonic() - written > _EVERY_SECONDS:
                    self.save()
                    written = time.monotonic()
        finally:
            if self.out is not None:
                self.save()
        return self.fitted

    def _colour_step(self) -> None:
        settings = self.settings
        # A short warm-up, then an exponential fall to a fiftieth.
        rate = settings.rate * min(1.0, (self.step + 1) / 50) * 0.02 ** (self.step / settings.colour_steps)
        for group in self._optimiser.param_groups:
            group["lr"] = rate * group["share"]
        picked = torch.randint(len(self._colours), (settings.rays,), generator=self._chance)
        samples = self.field.sample(self._at(picked), self._chance)
        seen = rendered(samples)
        loss = F.mse_loss(seen.colours, self._colours[picked] / 255)
        loss = loss + _OPACITY * F.mse_loss(seen.opacities, self._seen[picked] / 255)
        loss = loss + _SMOOTH * self.field.smoothness() + _DISTORTION * distortion(samples)
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        if self.step % _REFRESH == _REFRESH - 1:
            self.field.refresh(self._chance)

    def _semantic_step(self) -> None:
        if self._head is None:
            self._begin_semantics()
        assert self._head is not None and self._head_optimiser is not None
        settings, done = self.settings, self.step - self.settings.colour_steps
        for group in self._head_optimiser.param_groups:
            group["lr"] = 3e-3 * min(1.0, (done + 1) / 20) * 0.05 ** (done / settings.semantic_steps)
        certain = torch.nonzero(self._targets >= 0)[:, 0]
        weights = rarity(self._targets[certain], len(self.codes))
        picked = certain[torch.randint(len(certain), (settings.rays // 2,), generator=self._chance)]
        loss = F.cross_entropy(self._logits(picked), self._targets[picked], weights)
        guessed = torch.nonzero(self._targets < -1)[:, 0]
        if len(guessed):
            picked = guessed[torch.randint(len(guessed), (settings.rays // 2,), generator=self._chance)]
            # Pseudo-labels are kept as -2 - class.
            share = _PSEUDO[settings.pseudo][1]
            loss = loss + share * F.cross_entropy(self._logits(picked), -2 - self._targets[picked], weights)
        self._head_optimiser.zero_grad()
        loss.backward()
        self._head_optimiser.step()

    def _logits(self, picked: torch.Tensor) -> torch.Tensor:
        assert self._head is not None
        with torch.no_grad():
            samples = self.field.sample(self._at(picked), self._chance)
        told = None
        if self.settings.told:
            told = self._features[picked].float()
            kept = torch.rand(told.shape, generator=self._chance) >= _DROPPED
            told = told * kept / (1 - _DROPPED)
        logits: torch.Tensor = self._head(samples, told)
        return logits

    def _begin_semantics(self) -> None:
        """Freeze the field, look at the views as it renders them, and label what can be labelled."""
        self.field.requires_grad_(False)
        if self._encoder is not None and (self.settings.told or self.settings.pseudo == "contrast"):
            self._features = self._looked(self._encoder).half()
        self._targets = self._labelled()
        if self.settings.pseudo != "none":
            self._guess()
        self._make_head()

    def _looked(self, encoder: Encoder) -> torch.Tensor:
        """Features of all pixels of the views that are not held out, view by view, as `FittedField.features` has them.

        What the true pictures show of a labelled pixel's place is gathered without its own picture: at a new pose
        there is none either.
        """
        cameras = [self.posed.views[number].camera for number in self.posed.seen]
        seen = [self.fitted.colours(camera) for camera in cameras]
        rendered_maps = [encoder(one.colours.permute(2, 0, 1)[None].clamp(0, 1)) for one in seen]
        self._basis = Basis.of(rendered_maps)
        self._gathered = Gathered.of(cameras, torch.stack([one.depths for one in seen]), self._pictures, encoder)
        told = FittedField(self.field, self.codes, None, encoder, self._basis, self._gathered)
        return torch.cat(
            [told.features(camera, one, n) for n, (camera, one) in enumerate(zip(cameras, seen, strict=True))]
        )

    def _make_head(self) -> None:
        prior = self._features.shape[-1] if self.settings.told else 0
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.settings.seed + 1)
            self._head = head_of(self.settings.head, self.config.width, prior, len(self.codes))
        self._head_optimiser = torch.optim.AdamW(self._head.parameters(), weight_decay=1e-3)

    def _labelled(self) -> torch.Tensor:
        """The class of each pixel by its place in `codes`; -1 where there is no label."""
        parts = []
        for number in self.posed.seen:
            labels = torch.tensor(self.posed.views[number].labels).view(-1)
            known = (labels[:, None] == self.codes).int()
            found = torch.where(known.any(dim=1), known.argmax(dim=1), -1)
            parts.append(found if number in self.posed.labelled else torch.full_like(found, -1))
        return torch.cat(parts)

    def _guess(self) -> None:
        """Give pixels of unlabelled views the class that is clear, as -2 - class."""
        assert self._encoder is not None
        settings, margin = self.settings, _PSEUDO[self.settings.pseudo][0]
        pixels = len(self._targets) // len(self.posed.seen)
        with_labels = torch.tensor([number in self.posed.labelled for number in self.posed.seen])
        unknown = torch.nonzero(~with_labels[torch.arange(len(self._targets)) // pixels] & (self._seen > 127))[:, 0]
        if settings.pseudo == "decoder":
            pictures = self._pictures
            truths = self._targets.view(len(pictures), *pictures.shape[-2:])[with_labels]
            decoder = taught(
                self._encoder,
                pictures[with_labels],
                truths,
                len(self.codes),
                settings.semantic_steps,
                settings.seed + 2,
            )
            classes, margins = (part.flatten() for part in guessed(decoder, self._encoder, pictures))
            clear = unknown[margins[unknown] > margin]
            self._targets[clear] = -2 - classes[clear]
            return
        known = torch.nonzero(self._targets >= 0)[:, 0]
        labelled, codes = self._features[known].float(), self._targets[known].clone()
        for part in unknown.split(_CHUNK):
            found, margins = contrasted(self._features[part].float(), labelled, codes, self._chance)
            self._targets[part[margins > margin]] = -2 - found[margins > margin]

    # --- Stopping and going on ---

    @property
    def _identity(self) -> str:
        """Changes whenever another run is meant."""
        settings = dataclasses.asdict(self.settings)
        about = repr((_VERSION, settings, dataclasses.asdict(self.config), transforms(self.posed)["frames"]))
        digest = hashlib.sha256(about.encode())
        for view in self.posed.views:
            digest.update(view.colours.tobytes())
        for number in self.posed.labelled:
            digest.update(self.posed.views[number].labels.tobytes())
        return digest.hexdigest()

    def save(self) -> Path:
        """Write the checkpoint, whole or not at all."""
        assert self.out is not None
        self.out.mkdir(parents=True, exist_ok=True)
        state: dict[str, Any] = {
            "identity": self._identity,
            "step": self.step,
            "seconds": self.seconds,
            "chance": self._chance.get_state(),
            "field": self.field.state_dict(),
            "optimiser": self._optimiser.state_dict(),
        }
        if self._head is not None and self._head_optimiser is not None:
            basis, gathered = self._basis, self._gathered
            state |= {
                "head": self._head.state_dict(),
                "head_optimiser": self._head_optimiser.state_dict(),
                "targets": self._targets,
                "features": self._features,
                "basis": None if basis is None else [basis.mean, basis.axes, basis.scale],
                "gathered": None if gathered is None else [gathered.depths, gathered.maps],
            }
        path = self.out / CHECKPOINT
        partial = path.with_name(f".{CHECKPOINT}.{os.getpid()}.tmp")
        try:
            torch.save(state, partial)
            os.replace(partial, path)
        except OSError as error:
            raise SceneError(f"{path} cannot be written: {error.strerror or error}") from error
        finally:
            partial.unlink(missing_ok=True)
        return path

    def resume(self) -> bool:
        """Go on from the folder's checkpoint; False if there is none.

        Raises:
            WeightsError: it is damaged, or of other views, settings or sizes.
        """
        assert self.out is not None
        path = self.out / CHECKPOINT
        if not path.is_file():
            return False
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            same = state["identity"] == self._identity
        except Exception as error:
            raise WeightsError(f"{path} is no checkpoint of a field, or is damaged: {first_line(error)}") from error
        if not same:
            raise WeightsError(
                f"{path} is a checkpoint of other views, settings or sizes; remove it, or name another folder"
            )
        self.step, self.seconds = state["step"], state["seconds"]
        self._chance.set_state(state["chance"])
        self.field.load_state_dict(state["field"])
        self._optimiser.load_state_dict(state["optimiser"])
        if "head" in state:
            self.field.requires_grad_(False)
            self._targets, self._features = state["targets"], state["features"]
            self._basis = None if state["basis"] is None else Basis(*state["basis"])
            cameras = [self.posed.views[number].camera for number in self.posed.seen]
            self._gathered = None if state["gathered"] is None else Gathered(cameras, *state["gathered"])
            self._make_head()
            assert self._head is not None and self._head_optimiser is not None
            self._head.load_state_dict(state["head"])
            self._head_optimiser.load_state_dict(state["head_optimiser"])
        return True


def rays_of(camera: Camera) -> Rays:
    """The rays of all pixels of a camera, row by row."""
    rows, columns = np.meshgrid(np.arange(camera.height), np.arange(camera.width), indexing="ij")
    directions = torch.tensor(camera.directions(rows, columns).reshape(-1, 3), dtype=torch.float32)
    return Rays(torch.tensor(camera.position, dtype=torch.float32).expand_as(directions), directions)


def _chunks(rays: Rays) -> list[Rays]:
    return [Rays(*part) for part in zip(rays.origins.split(_CHUNK), rays.directions.split(_CHUNK), strict=True)]


def _bytes(values: torch.Tensor) -> npt.NDArray[np.uint8]:
    found: npt.NDArray[np.uint8] = (values.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    return found
