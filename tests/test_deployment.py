"""The deployment examples name commands, settings and files that exist."""

from __future__ import annotations

import configparser
import re
import shlex
from pathlib import Path

import yaml
from typer.testing import CliRunner

from earthgen.cli import app
from tileserver.settings import Settings

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
KNOWN = {f"EARTHGEN_{name.upper()}" for name in Settings.model_fields}


def refused_only_for_its_address(command: list[str]) -> bool:
    """Whether `earthgen` understands the options: an address that is nobody's is all that it complains of."""
    host = command.index("--host") + 1
    result = CliRunner().invoke(app, [*command[1:host], "203.0.113.1", *command[host + 1 :]])
    return "cannot listen on 203.0.113.1" in str(result.exception) + result.output


def test_the_unit_starts_a_command_that_exists_with_settings_that_exist() -> None:
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(DEPLOY / "earthgen.service")
    name, _, value = unit["Service"]["Environment"].partition("=")
    assert name in KNOWN and value == f"/var/cache/{unit['Service']['CacheDirectory']}"
    command = shlex.split(unit["Service"]["ExecStart"])
    assert command[0].endswith("/earthgen")
    assert refused_only_for_its_address(command)


def test_the_compose_file_builds_what_is_there_and_sets_what_exists() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services["earthgen"]["environment"]) <= KNOWN
    build = services["earthgen"]["build"]
    assert (DEPLOY / build["context"] / build["dockerfile"]).resolve() == (DEPLOY / "Containerfile").resolve()
    assert (DEPLOY / services["proxy"]["volumes"][0].split(":")[0]).is_file()
    # What the service may write to is what the image gives to its user.
    image = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    for volume in services["earthgen"]["volumes"]:
        assert re.search(rf"chown earthgen .*{volume.split(':')[1]}", image)


def test_the_image_starts_a_command_that_exists_with_settings_that_exist() -> None:
    image = (DEPLOY / "Containerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"EARTHGEN_\w+", image)) <= KNOWN
    (command,) = re.findall(r"^CMD (\[.*\])$", image, flags=re.MULTILINE)
    assert refused_only_for_its_address(yaml.safe_load(command))
