"""The deployment examples name commands, settings and files that exist."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from typer.testing import CliRunner

from earthgen.cli import app
from tests.conftest import program
from tileserver.settings import Settings

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "docs" / "deploy"
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


Instruction = tuple[str, str]


def instructions() -> list[Instruction]:
    """The container file's instructions and what they are given, a continued line as one."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Containerfile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_container_file_has_stages_that_end_in_one_and_copies_what_is_there() -> None:
    stages: list[str] = []
    for word, given in instructions():
        if word == "FROM":
            image, *name = given.split(" AS ")
            # A moving tag would make another image of the same checkout.
            assert re.fullmatch(r"docker\.io/library/python:3\.1[1-9]-slim", image)
            stages.append(name[0] if name else "")
        elif word == "COPY":
            flags = dict(re.findall(r"--(\w+)=(\S+)", given))
            *sources, _ = [part for part in given.split() if not part.startswith("--")]
            if "from" in flags:
                assert flags["from"] in stages[:-1], "an earlier stage"
            else:
                assert all((ROOT / source).exists() for source in sources)
        elif word in ("CMD", "HEALTHCHECK"):
            command = json.loads(given[given.index("[") :])
            assert all(isinstance(part, str) for part in command)
        elif word == "RUN":
            subprocess.run(["sh", "-n", "-c", given], check=True)
        else:
            assert word in {"ARG", "ENV", "EXPOSE", "USER", "VOLUME", "WORKDIR"}
    assert stages == ["build", ""]
    order = [word for word, _ in instructions()]
    assert order.index("USER") < order.index("CMD"), "it does not run as root"


def test_the_health_check_is_a_program_and_asks_for_the_port_that_is_served() -> None:
    given = dict(instructions())
    _, flag, code = json.loads(given["HEALTHCHECK"][given["HEALTHCHECK"].index("[") :])
    assert flag == "-c"
    compile(code, "HEALTHCHECK", "exec")
    command = json.loads(given["CMD"])
    port = command[command.index("--port") + 1]
    assert given["EXPOSE"] == port and f"127.0.0.1:{port}/readyz" in code
    assert f"server earthgen:{port};" in (DEPLOY / "nginx.conf").read_text(encoding="utf-8")


def test_an_image_is_built_from_what_the_wheel_needs_and_not_from_the_whole_checkout() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    rules = [line for line in lines if not line.startswith("#")]
    assert rules[0] == "*", "nothing goes in that is not named"
    named = {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((ROOT / name).exists() for name in named)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    licences = project["project"].get("license-files", ["LICENSE"])
    assert {*packages, *licences, project["project"]["readme"], "pyproject.toml"} == named


def test_compose_says_only_what_compose_knows() -> None:
    file = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    assert set(file) == {"services", "volumes"}
    keys = {
        *("build", "cap_drop", "depends_on", "deploy", "environment", "image"),
        *("ports", "read_only", "restart", "security_opt", "tmpfs", "volumes"),
    }
    for name, service in file["services"].items():
        assert set(service) <= keys, name
        assert ("build" in service) != ("image" in service)
        assert set(service.get("depends_on", ())) <= set(file["services"])
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert source in file["volumes"] or (DEPLOY / source).exists()
    upstream = re.findall(r"server (\w+):", (DEPLOY / "nginx.conf").read_text(encoding="utf-8"))
    assert set(upstream) <= set(file["services"])


def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    unit = (DEPLOY / "earthgen.service").read_text(encoding="utf-8")
    # A program that is on this machine in place of the one that will be on that.
    path = tmp_path / "earthgen.service"
    path.write_text(unit.replace("/opt/earthgen/bin/earthgen", sys.executable), encoding="utf-8")
    check = [program("systemd-analyze"), "verify", str(path)]
    outcome = subprocess.run(check, capture_output=True, text=True, check=False)
    assert (outcome.returncode, outcome.stdout + outcome.stderr) == (0, "")
    path.write_text(unit.replace("Restart=on-failure", "Restart=sometimes"), encoding="utf-8")
    outcome = subprocess.run(check, capture_output=True, text=True, check=False)
    assert "sometimes" in outcome.stderr, "it looks at what is there"
