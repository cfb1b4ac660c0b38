"""What every adversarial run has: optimisers, a clock, sums for the log, ticks, and a checkpoint to go on from."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from training.checkpoint import load_checkpoint, save_checkpoint


class Run:
    """The state of a run beside its networks' outputs.

        run = Run(out, {"net": net, "heads": heads}, {"net": 3e-4, "heads": 5e-4}, (0.0, 0.99), average)
        resumed = run.resume()
        run.begin(minutes, tick_images, images_limit)
        while not run.finished:
            ...
            run.learn("heads")
            run.note(heads=loss)
            run.advance(batch)
            if run.tick_due:
                run.tick(config, settings)

    Args:
        out: folder of the run.
        learning: the modules that learn, by name.
        rates: AdamW's learning rate of each.
        betas: AdamW's.
        average: the averaged copy of the module that ships.

    Attributes:
        finished: whether the minutes are over or the images are seen.
    """

    finished: bool

    def __init__(
        self,
        out: Path,
        learning: Mapping[str, nn.Module],
        rates: Mapping[str, float],
        betas: tuple[float, float],
        average: nn.Module,
    ) -> None:
        self.out = out
        self.step, self.images, self.seconds = 0, 0, 0.0
        self._learning, self._rates, self._average = learning, rates, average
        self._optimisers = {
            name: torch.optim.AdamW(
                [parameter for parameter in module.parameters() if parameter.requires_grad],
                lr=rates[name],
                betas=betas,
                weight_decay=0.0,
                fused=True,
            )
            for name, module in learning.items()
        }
        self._sums: dict[str, float] = defaultdict(float)
        self._steps = 0

    def resume(self) -> dict[str, Any] | None:
        """Go on from the folder's checkpoint; its state, or None where there is none."""
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return None
        state = load_checkpoint(path)
        self._average.load_state_dict(state["ema"])
        for name, module in self._learning.items():
            module.load_state_dict(state[name])
            self._optimisers[name].load_state_dict(state["optimisers"][name])
            self.set_rate(name, self._rates[name])
        self.step, self.images, self.seconds = state["step"], state["images"], state["seconds"]
        return state

    def begin(self, minutes: float, tick_images: int, images_limit: int | None) -> None:
        """Start the clock."""
        self.out.mkdir(parents=True, exist_ok=True)
        self._begun, self._minutes = time.monotonic(), minutes
        self._tick_images, self._images_limit = tick_images, images_limit
        self._next_tick = self.images + tick_images
        self._progress = tqdm(initial=self.images, unit="img", smoothing=0.05)
        self.finished = self._limit_reached()

    def learn(self, *names: str) -> None:
        """One step of the modules' optimisers, then no gradients."""
        for name in names:
            self._optimisers[name].step()
            self._optimisers[name].zero_grad(set_to_none=True)

    def set_rate(self, name: str, rate: float) -> None:
        """Learn at another rate from now on."""
        for group in self._optimisers[name].param_groups:
            group["lr"] = rate

    def forget(self) -> None:
        """Drop all gradients."""
        for optimiser in self._optimisers.values():
            optimiser.zero_grad(set_to_none=True)

    def note(self, **values: torch.Tensor) -> None:
        """Add to the log's means over the steps of a tick."""
        for name, value in values.items():
            self._sums[name] += float(value.detach())

    def advance(self, images: int) -> None:
        """A step is done, on so many images."""
        self.step, self.images, self._steps = self.step + 1, self.images + images, self._steps + 1
        self._progress.update(images)
        # Decided once a step: were the clock asked again, a run could end between two questions without its last tick.
        over = time.monotonic() - self._begun > 60 * self._minutes
        self.finished = over or self._limit_reached()

    def _limit_reached(self) -> bool:
        return self._images_limit is not None and self.images >= self._images_limit

    @property
    def tick_due(self) -> bool:
        """Whether it is time to write down and look."""
        return self.images >= self._next_tick or self.finished

    def tick(
        self,
        config: Mapping[str, Any],
        settings: Mapping[str, Any],
        measured: Mapping[str, Any],
        more: Mapping[str, Any],
    ) -> None:
        """Append a JSON line to log.jsonl and replace the checkpoint.

        Args:
            config: of the network that ships.
            settings: of the run.
            measured: other entries of the line.
            more: other parts of the checkpoint.
        """
        seconds = self.seconds + time.monotonic() - self._begun
        line: dict[str, Any] = {"images": self.images, "hours": round(seconds / 3600, 3)}
        line |= {name: round(value / max(1, self._steps), 4) for name, value in self._sums.items()} | dict(measured)
        state = {
            "ema": self._average.state_dict(),
            "optimisers": {name: optimiser.state_dict() for name, optimiser in self._optimisers.items()},
            "config": dict(config),
            "settings": dict(settings),
            "step": self.step,
            "images": self.images,
            "seconds": seconds,
        }
        state |= {name: module.state_dict() for name, module in self._learning.items()}
        # The checkpoint first: whoever reads the line may rely on it.
        save_checkpoint(self.out / "checkpoint.pt", state | dict(more))
        with (self.out / "log.jsonl").open("a") as log:
            log.write(json.dumps(line) + "\n")
        self._progress.write(json.dumps(line))
        self._sums.clear()
        self._steps, self._next_tick = 0, self.images + self._tick_images
