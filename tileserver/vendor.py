"""Remake `static/vendor/`: the files of MapLibre GL JS that the map needs, copied from a pinned npm package.

    python -m tileserver.vendor [--check]

Needs npm once, when the pin changes; nothing here runs when the map is served. The package is checked
against the integrity that its registry published for this version, and each copied file against
`SHA256SUMS` beside it, so the same pin always gives the same bytes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "maplibre-gl"
VERSION = "6.17.0"
INTEGRITY = "sha512-2chIZwpLGenoUQOcnm9Pk4SLbA8ppNFq8jlpXiq9vcYm3Y1wJ3fc82FL0GLwBaPYJCLzPv/mC46KEupVov75rQ=="
MEMBERS = (
    "package/LICENSE.txt",
    "package/dist/maplibre-gl.css",
    "package/dist/maplibre-gl.mjs",
    "package/dist/maplibre-gl-shared.mjs",
    "package/dist/maplibre-gl-worker.mjs",
)
# The version is part of the folder's name, so that the files may be cached for ever by browsers.
FOLDER = Path(__file__).parent / "static" / "vendor" / f"{PACKAGE}-{VERSION}"
SUMS = "SHA256SUMS"


class VendorError(Exception):
    """A package or a copied file that is not what the pin says."""


def main(arguments: list[str] | None = None) -> int:
    """Copy the files, or with --check compare those that are there; the exit code is 0 where all is well."""
    parser = argparse.ArgumentParser(prog="python -m tileserver.vendor", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="compare the files with their checksums and change nothing"
    )
    options = parser.parse_args(arguments)
    try:
        if options.check:
            check(FOLDER)
        else:
            copy(FOLDER)
    except VendorError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"{PACKAGE} {VERSION}: {len(MEMBERS)} files in {FOLDER}")
    return 0


def copy(folder: Path) -> None:
    """Fetch the pinned package with npm, check its integrity and write the files and their checksums to `folder`.

    Raises:
        VendorError: npm failed, or the package is not the pinned one.
    """
    with tempfile.TemporaryDirectory() as scratch:
        command = ["npm", "pack", f"{PACKAGE}@{VERSION}", "--silent", "--pack-destination", scratch]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise VendorError(
                "npm is not installed; it is needed to remake the vendored files, not to serve them"
            ) from error
        except subprocess.CalledProcessError as error:
            raise VendorError(f"{' '.join(command[:3])} failed: {error.stderr.strip()}") from error
        archive = Path(scratch) / f"{PACKAGE}-{VERSION}.tgz"
        found = "sha512-" + base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != INTEGRITY:
            raise VendorError(f"{PACKAGE} {VERSION} has integrity {found}; the pin says {INTEGRITY}")

        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        with tarfile.open(archive) as tar:
            for member in MEMBERS:
                stream = tar.extractfile(member)
                assert stream is not None, f"{member} is a regular file of the pinned package"
                data = stream.read()
                (folder / Path(member).name).write_bytes(data)
                lines.append(f"{hashlib.sha256(data).hexdigest()}  {Path(member).name}\n")
        (folder / SUMS).write_text("".join(lines))


def check(folder: Path) -> None:
    """Compare the files in `folder` with their checksums.

    Raises:
        VendorError: a file is missing, extra or different; the message names it.
    """
    sums = folder / SUMS
    if not sums.is_file():
        raise VendorError(f"{sums} is missing; `python -m tileserver.vendor` makes it")
    expected = {name: digest for digest, name in (line.split() for line in sums.read_text().splitlines())}
    present = {path.name for path in folder.iterdir()} - {SUMS}
    if present != set(expected) or present != {Path(member).name for member in MEMBERS}:
        raise VendorError(f"{folder} holds {sorted(present)}; {SUMS} names {sorted(expected)}")
    for name, digest in expected.items():
        found = hashlib.sha256((folder / name).read_bytes()).hexdigest()
        if found != digest:
            raise VendorError(f"{folder / name} has SHA-256 {found}; {SUMS} says {digest}")


if __name__ == "__main__":
    sys.exit(main())
