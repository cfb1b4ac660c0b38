"""What every test may use: Hypothesis profiles and the programs of the machine."""

from __future__ import annotations

import os
import shutil

import pytest
from hypothesis import HealthCheck, settings

# A run in CI tries the same examples every time; `HYPOTHESIS_PROFILE=thorough` looks for new ones.
_patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", _patient, derandomize=True, database=None, max_examples=100)
settings.register_profile("dev", _patient, max_examples=50)
settings.register_profile("thorough", _patient, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "dev"))


def program(name: str) -> str:
    """Path of a program of the machine; without it a test skips, or fails where CI promises that it is there."""
    path = shutil.which(name)
    if path is None:
        message = f"this machine has no {name}"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return path


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium browser."""
    return program("chromium")


@pytest.fixture(scope="session")
def gdal_translate() -> str:
    """Path of GDAL's own gdal_translate."""
    return program("gdal_translate")
