"""A simple climate: temperature, moisture carried by the winds, rain shadow and distance to the sea.

It is not a model of the weather. It only has to tell deserts, forests, steppes and ice apart by the same rules
on the Earth, from which the colours are learned, and on a planet that has just been invented.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from earthgen.roots.grid import Plane, blur_km, row_latitude, row_spacing_km

LAPSE_RATE = 6.0
"""Degrees Celsius lost with each kilometre of height."""


@dataclass(frozen=True, slots=True)
class Climate:
    """Planes (n, n) of a coarse grid.

    Attributes:
        sea_level_temperature: degrees Celsius, annual mean, were the ground at sea level.
        moisture: about 0 .. 1, water that the winds still carry, as a share of what the air could hold.
        rain: about 0 .. 2, moisture times what makes it fall: rising air, slopes that face the wind.
        inland_near: 0 .. 1, share of land within some 200 km.
        inland_far: 0 .. 1, share of land within some 900 km.
    """

    sea_level_temperature: Plane
    moisture: Plane
    rain: Plane
    inland_near: Plane
    inland_far: Plane

    def planes(self) -> tuple[Plane, ...]:
        """All planes in a fixed order."""
        return (self.sea_level_temperature, self.moisture, self.rain, self.inland_near, self.inland_far)


def climate_of(land: Plane, height: Plane, latitude_shift: Plane | float = 0.0) -> Climate:
    """Climate of a world.

    Args:
        land: (n, n) share of land, 0 .. 1.
        height: (n, n) kilometres, 0 over the sea.
        latitude_shift: degrees by which climate bands are moved, so that they need not run along parallels.

    Returns:
        Planes of the same size.
    """
    size = land.shape[0]
    degrees = np.abs(np.degrees(row_latitude(size))[:, None] + latitude_shift).astype(np.float32)
    degrees = np.broadcast_to(np.minimum(degrees, 90), (size, size))
    sea_level = np.asarray(-24.0 + 52.0 * np.clip(np.cos(np.radians(degrees)), 0, 1) ** 1.4, dtype=np.float32)
    wind_blown = blur_km(height, 60.0)

    eastward, lift_east = _carried(land, wind_blown, sea_level, 1)
    westward, lift_west = _carried(land, wind_blown, sea_level, -1)
    # Trade winds blow westward, mid-latitude winds eastward, polar winds westward again.
    from_west = _step(degrees, 24, 36) * (1 - 0.6 * _step(degrees, 62, 72))
    moisture = from_west * eastward + (1 - from_west) * westward
    lift = from_west * lift_east + (1 - from_west) * lift_west
    # Air rises at the equator and in the temperate storms, and sinks over the subtropics.
    rising = 0.25 + np.exp(-((degrees / 11) ** 2)) + 0.6 * _step(degrees, 30, 48)
    near, far = blur_km(land, 200.0), blur_km(land, 900.0)
    rain = moisture * rising * (1 + lift)
    return Climate(
        sea_level, blur_km(moisture.astype(np.float32), 50.0, 1), blur_km(rain.astype(np.float32), 50.0, 1), near, far
    )


def _carried(land: Plane, height: Plane, temperature: Plane, direction: int) -> tuple[Plane, Plane]:
    """Moisture carried along parallels, and how much the ground lifts the air; `direction` 1 is eastward."""
    size = land.shape[0]
    step = row_spacing_km(size)[:, 0]
    capacity = np.clip(0.15 + 0.85 * (temperature + 8) / 34, 0.08, 1.0)
    rise = (np.roll(height, -1, 1) - np.roll(height, 1, 1)) * (0.5 * direction) / step[:, None]
    lift = np.clip(rise * 180, 0, 2.5)
    gain = 1 - np.exp(-step / 600)
    # Warm wet ground gives back part of what falls on it, so air over it dries slowly.
    length = 1500 + 2500 * np.clip((temperature - 18) / 10, 0, 1)
    loss = 1 - np.exp(-step[:, None] / length * (1 + 2.0 * lift + 0.5 * np.clip(height, 0, 4)))
    carried = np.zeros((size, size), dtype=np.float32)
    air = capacity.mean(1) * 0.6
    columns = list(range(size))[::direction]
    # The first round only fills the air before the second is kept.
    for _ in range(2):
        for column in columns:
            ground = land[:, column]
            air = air + (1 - ground) * gain * (capacity[:, column] - air) - ground * loss[:, column] * (air - 0.04)
            mixed = air.copy()
            mixed[1:-1] += 0.12 * (air[2:] + air[:-2] - 2 * air[1:-1])
            air = mixed
            carried[:, column] = air / capacity[:, column]
    return carried, lift.astype(np.float32)


def _step(x: Plane, start: float, end: float) -> Plane:
    """0 below start, 1 above end, smooth between."""
    t = np.clip((x - start) / (end - start), 0, 1)
    return np.asarray(t * t * (3 - 2 * t))
