"""A diffusers scheduler, built from a checkpoint's numbers and cut into phases.

The class a checkpoint names is of no weight (Text2Earth's `model_index.json` says PNDM, its
`scheduler_config.json` DDIM): what the network was trained on are the numbers, and any solver may use them.

Between phases the state is replaced by a blend of neighbours, so a solver that remembers earlier steps starts
anew with each phase. Every phase therefore runs on a fresh scheduler that is set to its first step.
"""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import diffusers
import torch

from earthgen.errors import InvalidRequestError, WeightsError
from earthgen.latent.checkpoint import first_line

SCHEDULERS: tuple[str, ...] = (
    "DDIMScheduler",
    "DDPMScheduler",
    "DEISMultistepScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "LCMScheduler",
    "LMSDiscreteScheduler",
    "PNDMScheduler",
    "TCDScheduler",
    "UniPCMultistepScheduler",
)
"""The schedulers that integrate a discrete-time network like Stable Diffusion's."""
MAX_STEPS = 1000

_REQUIRED_NUMBERS = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule")
# Latents are not bounded by 1, without the Runge-Kutta warm-up PNDM runs the network once a step, and the step that
# ends without noise must be of first order.
_FORCED_NUMBERS = {"clip_sample": False, "thresholding": False, "skip_prk_steps": True, "lower_order_final": True}
_LMS_ORDER = 4

Predict = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Maps a state as the network wants it (n, c, h, w) and a timestep () to the network's guided output."""


class Schedule:
    """Steps of one solver in phases; immutable, and safe to use from many threads.

    Args:
        name: one of SCHEDULERS, with or without the word Scheduler at its end.
        numbers: what the checkpoint's `scheduler_config.json` holds.
        steps: denoising steps, 1 .. 1000.
        cuts: timesteps, 1 .. 999, at which a new phase begins; a cut that falls between the two halves of a
            second-order step waits for its end, and cuts that leave a phase without steps are dropped.

    Raises:
        InvalidRequestError: an unknown name, or steps or cuts out of range.
        WeightsError: the numbers do not make a scheduler.
    """

    def __init__(self, name: str, numbers: Mapping[str, Any], steps: int, cuts: Sequence[int] = ()) -> None:
        self.name = name if name.endswith("Scheduler") else f"{name}Scheduler"
        if self.name not in SCHEDULERS:
            raise InvalidRequestError(f"unknown scheduler {name!r}; allowed: {', '.join(SCHEDULERS)}")
        if not 1 <= steps <= MAX_STEPS:
            raise InvalidRequestError(f"{steps} denoising steps; 1 to {MAX_STEPS} are allowed")
        if not all(0 < cut < 1000 for cut in cuts):
            raise InvalidRequestError(f"phase cuts {tuple(cuts)}; timesteps in 1..999 are allowed")
        scheduler = _build(self.name, numbers)
        try:
            scheduler.set_timesteps(steps)
        except ValueError as error:
            raise InvalidRequestError(f"{self.name} cannot take {steps} steps: {first_line(error)}") from error
        self._prototype = scheduler
        timesteps = scheduler.timesteps
        if self.name == "PNDMScheduler":
            # Its list repeats the second step, for the warm-up of the first phase; each phase adds its own.
            timesteps = torch.unique(timesteps, sorted=True).flip(0)
        starts = {0}
        for cut in cuts:
            start = int((timesteps >= cut).sum())
            start += -start % scheduler.order
            starts.add(min(start, len(timesteps)))
        bounds = [*sorted(starts - {len(timesteps)}), len(timesteps)]
        self._bounds = bounds
        self._phases = [self._timesteps(timesteps[first:last]) for first, last in itertools.pairwise(bounds)]
        self._draws = "generator" in inspect.signature(scheduler.step).parameters
        self._noise_scale = float(scheduler.init_noise_sigma)

    @property
    def calls(self) -> tuple[int, ...]:
        """How often the network runs in each phase."""
        return tuple(map(len, self._phases))

    @property
    def noise_scale(self) -> float:
        """What standard normal noise is multiplied by to become the first state."""
        return self._noise_scale

    @torch.inference_mode()
    def run(
        self, phase: int, state: torch.Tensor, predict: Predict, seeds: Sequence[int] | None = None
    ) -> torch.Tensor:
        """Take a state through a phase.

        Args:
            phase: 0 .. len(calls) - 1.
            state: float32 (n, c, h, w).
            predict: the network, its condition bound.
            seeds: one for each of the n, 0 .. 2**63 - 1: solvers that add noise at every step draw it from them,
                never from torch's global generator.

        Returns:
            float32 (n, c, h, w), the state at the start of the next phase or, after the last, the sample.
        """
        scheduler = copy.deepcopy(self._prototype)
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(self._bounds[phase])
        extras: dict[str, Any] = {}
        if self._draws:
            extras["generator"] = [torch.Generator().manual_seed(seed) for seed in seeds or [0] * len(state)]
        for index, timestep in enumerate(self._phases[phase]):
            if self.name == "LMSDiscreteScheduler":
                # Its order is meant to grow with the steps taken, which it takes from the timestep.
                extras["order"] = min(index + 1, _LMS_ORDER)
            output = predict(scheduler.scale_model_input(state, timestep), timestep)
            state = scheduler.step(output, timestep, state, **extras).prev_sample
        return state

    def _timesteps(self, part: torch.Tensor) -> list[torch.Tensor]:
        steps = list(part)
        if self.name == "PNDMScheduler" and len(steps) > 1:
            # The linear multistep method warms up by taking its first step twice.
            steps.insert(1, steps[1])
        return steps


def _build(name: str, numbers: Mapping[str, Any]) -> Any:
    missing = [number for number in _REQUIRED_NUMBERS if number not in numbers]
    if missing:
        raise WeightsError(f"scheduler_config.json has no {missing[0]}")
    cls = getattr(diffusers, name)
    known = inspect.signature(cls.__init__).parameters
    try:
        return cls(**{key: value for key, value in {**numbers, **_FORCED_NUMBERS}.items() if key in known})
    except (ValueError, TypeError, NotImplementedError, ImportError) as error:
        raise WeightsError(f"scheduler_config.json does not make a {name}: {first_line(error)}") from error
