"""Remake `static/vendor/`: the files of other people's libraries that the map needs, copied from pinned npm packages.

    python -m tileserver.vendor [--check]

Needs npm once, when a pin changes; nothing here runs when the map is served. Each package is checked against the
integrity that its registry published for this version, and each copied file against `SHA256SUMS` beside it, so the
same pins always give the same bytes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

VENDOR_FOLDER = Path(__file__).parent / "static" / "vendor"
SUMS = "SHA256SUMS"
LICENCE = "LICENSE.txt"


class VendorError(Exception):
    """A package or a copied file that is not what the pin says."""


@dataclass(frozen=True)
class Package:
    """One pinned package.

    Attributes:
        name: on npm.
        version: exact.
        integrity: of the archive, as its registry publishes it.
        members: what is copied out of the archive.
        licence: text to put beside the files, where the archive holds none.
        imports: names of other packages in `import` statements, and the addresses that stand in their place: a
            browser knows no packages, and a table of them (an import map) would need an inline script.
    """

    name: str
    version: str
    integrity: str
    members: tuple[str, ...]
    licence: str = ""
    imports: Mapping[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where the files lie. The version is part of its name, so that browsers may keep them for ever."""
        return VENDOR_FOLDER / f"{self.name}-{self.version}"

    @property
    def file_names(self) -> set[str]:
        """Names of the files in the folder, without the checksums."""
        return {Path(member).name for member in self.members} | ({LICENCE} if self.licence else set())


# Of https://github.com/JamesLMilner/terra-draw, whose packages say "MIT" and carry no text.
_TERRA_DRAW_LICENCE = """\
Copyright 2022 James Milner

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated \
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the \
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to \
permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the \
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE \
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR \
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR \
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""

PACKAGES = (
    Package(
        name="maplibre-gl",
        version="6.17.0",
        integrity="sha512-2chIZwpLGenoUQOcnm9Pk4SLbA8ppNFq8jlpXiq9vcYm3Y1wJ3fc82FL0GLwBaPYJCLzPv/mC46KEupVov75rQ==",
        members=(
            "package/LICENSE.txt",
            "package/dist/maplibre-gl.css",
            "package/dist/maplibre-gl.mjs",
            "package/dist/maplibre-gl-shared.mjs",
            "package/dist/maplibre-gl-worker.mjs",
        ),
    ),
    Package(
        name="terra-draw",
        version="1.35.0",
        integrity="sha512-uQI8lcPiUMqwVV29CexTfvT/AM4lGHtA+xWraW4njVExiM1+eGvRetYOBXmXEmgy5pL4X2dmjwMRH8JEYVtbgw==",
        members=("package/dist/terra-draw.modern.js",),
        licence=_TERRA_DRAW_LICENCE,
    ),
    Package(
        name="terra-draw-maplibre-gl-adapter",
        version="1.4.1",
        integrity="sha512-qZ/bc9bVPnyt0keLVTofV8xiTPkdkbO6RzqrfNLe9zH/edW5PsjvJw97m1EksPZeXNJtFxsVbhi12cPaoNiWfg==",
        members=("package/dist/terra-draw-maplibre-gl-adapter.modern.js",),
        licence=_TERRA_DRAW_LICENCE,
        imports={"terra-draw": "../terra-draw-1.35.0/terra-draw.modern.js"},
    ),
)


def main(arguments: list[str] | None = None) -> int:
    """Copy the files, or with --check compare those that are there; the exit code is 0 where all is well."""
    parser = argparse.ArgumentParser(prog="python -m tileserver.vendor", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="compare the files with their checksums and change nothing"
    )
    options = parser.parse_args(arguments)
    for package in PACKAGES:
        try:
            if options.check:
                check(package, package.folder)
            else:
                copy(package, package.folder)
        except VendorError as error:
            print(error, file=sys.stderr)
            return 2
        print(f"{package.name} {package.version}: {len(package.file_names)} files in {package.folder}")
    return 0


def copy(package: Package, folder: Path) -> None:
    """Fetch a pinned package with npm, check its integrity and write its files and their checksums to `folder`.

    Raises:
        VendorError: npm failed, or the package is not the pinned one.
    """
    pin = f"{package.name}@{package.version}"
    with tempfile.TemporaryDirectory() as scratch:
        command = ["npm", "pack", pin, "--silent", "--pack-destination", scratch]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise VendorError(
                "npm is not installed; it is needed to remake the vendored files, not to serve them"
            ) from error
        except subprocess.CalledProcessError as error:
            raise VendorError(f"{' '.join(command[:3])} failed: {error.stderr.strip()}") from error
        archive = Path(scratch) / f"{package.name}-{package.version}.tgz"
        found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != package.integrity:
            raise VendorError(f"{pin} has integrity {found}; the pin says {package.integrity}")

        files = {LICENCE: package.licence.encode()} if package.licence else {}
        with tarfile.open(archive) as tar:
            for member in package.members:
                stream = tar.extractfile(member)
                assert stream is not None, f"{member} is a regular file of the pinned package"
                files[Path(member).name] = _for_browsers(stream.read(), package)

    folder.mkdir(parents=True, exist_ok=True)
    lines = []
    for name, data in files.items():
        (folder / name).write_bytes(data)
        lines.append(f"{hashlib.sha256(data).hexdigest()}  {name}\n")
    (folder / SUMS).write_text("".join(lines))


def _for_browsers(data: bytes, package: Package) -> bytes:
    """A file with the packages that it imports replaced by their addresses."""
    for name, address in package.imports.items():
        old, new = f'from"{name}"'.encode(), f'from"{address}"'.encode()
        if data.count(old) != 1:
            raise VendorError(f"{package.name} {package.version} imports {name} {data.count(old)} times; 1 is expected")
        data = data.replace(old, new)
    return data


def check(package: Package, folder: Path) -> None:
    """Compare the files in `folder` with their checksums.

    Raises:
        VendorError: a file is missing, extra or different; the message names it.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise VendorError(f"{sums} is missing; `python -m tileserver.vendor` makes it")
    expected = {name: digest for digest, name in (line.split() for line in sums.read_text().splitlines())}
    present = {path.name for path in folder.iterdir()} - {SUMS}
    if present != set(expected) or present != package.file_names:
        raise VendorError(f"{folder} holds {sorted(present)}; {SUMS} names {sorted(expected)}")
    for name, digest in expected.items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != digest:
            raise VendorError(f"{folder / name} has SHA-256 {found}; {SUMS} says {digest}")


if __name__ == "__main__":
    sys.exit(main())
