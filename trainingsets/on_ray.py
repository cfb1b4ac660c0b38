"""Dumps on Ray: one actor with an engine for each worker, on a cluster that runs or on this machine.

The folder has to be one that all machines see at the same path. Without one, shards into folders of their own do.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

from trainingsets.errors import DumpError, DumpSpecError
from trainingsets.folder import DumpFolder
from trainingsets.making import Maker, Opener


class _Actor:
    """Makes items with an engine of its own."""

    def __init__(self, folder: DumpFolder, opener: Opener, retries: int) -> None:
        self._folder, self._opener, self._retries = folder, opener, retries
        self._maker: Maker | None = None

    def make(self, index: int) -> int:
        """Make and write an item."""
        from trainingsets.running import make_one

        if self._maker is None:
            # Held as long as the actor lives.
            self._context = self._opener.open()
            self._maker = self._context.__enter__()
        return make_one(self._maker, self._folder, index, self._retries)


def on_ray(todo: Iterator[int], folder: DumpFolder, opener: Opener, workers: int, retries: int) -> Iterator[int]:
    """Make items on Ray; yields their sizes as they are done.

    Raises:
        DumpSpecError: Ray is not installed.
        DumpError: an item cannot be made, or actors keep dying.
    """
    if find_spec("ray") is None:
        raise DumpSpecError('backend ray needs Ray; install it: pip install "earthgen[ray]"')
    import ray
    from ray.exceptions import RayActorError, RayTaskError

    begun = not ray.is_initialized()
    if begun:
        ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
    try:
        # An actor that dies is begun again and its item made again.
        kind = ray.remote(_Actor).options(num_cpus=1, max_restarts=retries, max_task_retries=retries)
        actors: list[Any] = [kind.remote(folder, opener, retries) for _ in range(workers)]
        running: dict[Any, Any] = {}
        idle = list(actors)
        while True:
            while idle and (index := next(todo, None)) is not None:
                actor = idle.pop()
                running[actor.make.remote(index)] = actor
            if not running:
                return
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            idle.append(running.pop(done))
            try:
                size: int = ray.get(done)
            except RayTaskError as error:
                cause = error.cause
                raise DumpError(str(cause)) from error
            except RayActorError as error:
                raise DumpError(
                    f"Ray's actors died {retries + 1} times; finished items are kept: run the command with --resume"
                ) from error
            yield size
    finally:
        if begun:
            ray.shutdown()
