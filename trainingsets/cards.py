"""What stands beside the data: README.md, a picture of the first items, Croissant metadata, classes for torchgeo."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

from trainingsets.folder import DROPPED_LIST, HIDDEN, MANIFEST, DumpFolder, Record, line_of
from trainingsets.formats import format_of
from trainingsets.formats.base import json_bytes
from trainingsets.keeping import SCORES, parse
from trainingsets.sheet import sheet
from trainingsets.spec import SPLITS
from trainingsets.tasks import kind_of, task_of

LICENCE = "apache-2.0"
CROISSANT = "croissant.json"
READER = "earthgen_dump.py"


class Counts:
    """What a dump holds, counted record by record."""

    def __init__(self) -> None:
        self.items: Counter[str] = Counter()
        self.labels: Counter[tuple[str, str]] = Counter()
        self.things: Counter[tuple[str, str]] = Counter()
        self.pixels: Counter[tuple[str, str]] = Counter()
        self.scenes: dict[str, set[int]] = {}
        self.metres: Counter[str] = Counter()
        self.bytes = self.captions = self.questions = self.phrases = self.unchanged = 0

    def add(self, record: Record) -> None:
        """Count an item."""
        split = record["split"]
        self.items[split] += 1
        self.scenes.setdefault(split, set()).add(record["scene"])
        self.metres[f"{record['metres']:.1f}"] += 1
        if record["label"]:
            self.labels[record["label"], split] += 1
        for thing in record["things"]:
            self.things[thing["category"], split] += 1
            self.phrases += bool(thing["phrase"])
        for role, mask in record["masks"].items():
            for name, count in mask["pixels"].items():
                self.pixels[kind_of(role), name] += count
        self.captions += len(record["captions"])
        self.questions += len(record["questions"])
        self.unchanged += "before" in record["views"] and not record["things"]
        self.bytes += record["bytes"]

    def table(self, counts: Counter[tuple[str, str]]) -> list[str]:
        """Rows of a Markdown table: name, and how many in each split."""
        names = sorted({name for name, _ in counts})
        head = f"| class | {' | '.join(SPLITS)} |"
        rows = [f"| {name} | {' | '.join(str(counts[name, split]) for split in SPLITS)} |" for name in names]
        return [head, "| --- " * (1 + len(SPLITS)) + "|", *rows]


def write_cards(folder: DumpFolder) -> None:
    """Write them; equal dumps get equal bytes."""
    counts = Counts()
    words: dict[int, str] = {}
    for record in folder.records():
        counts.add(record)
        if (folder.path / _preview(record["index"])).exists():
            words[record["index"]] = caption_of(record)
    rows = [((folder.path / _preview(index)).read_bytes(), text) for index, text in sorted(words.items())]
    folder.write("sheet.png", sheet(rows))
    folder.write("README.md", readme(folder, counts).encode())
    folder.write(READER, Path(__file__).with_name("torchgeo_sets.py").read_bytes())
    folder.write(CROISSANT, json_bytes(croissant(folder)))


def caption_of(record: Record) -> str:
    """Two lines about an item for its picture."""
    said = f"{record['key']}, {record['metres']:.3g} m\n"
    if record["label"]:
        return said + str(record["label"])
    if record["captions"]:
        return said + str(record["captions"][0])
    if record["questions"]:
        asked = record["questions"][-1]
        return f"{said}{asked['question']} {asked['answer']}"
    phrases = [thing["phrase"] for thing in record["things"] if thing["phrase"]]
    if phrases:
        return said + "; ".join(phrases)
    changes = record["about"].get("changes")
    if changes is not None:
        told = [
            f"{change['before'] or '?'} to {change['after']} {change.get('from', '')}".strip() for change in changes
        ]
        return said + ("; ".join(told) or "no change")
    return said + str(next(iter(record["worlds"].values())).get("prompt", ""))


def readme(folder: DumpFolder, counts: Counts) -> str:
    """The datasheet, with the head that Hugging Face reads."""
    spec, task, form = folder.spec, task_of(folder.spec.task), format_of(folder.spec.format)
    total = sum(counts.items.values())
    lines = [
        "---",
        f"license: {LICENCE}",
        f"pretty_name: earthgen {task.title.lower()}",
        "tags: [synthetic, earthgen, remote-sensing]",
    ]
    if spec.format == "parquet":
        lines += ["configs:", "- config_name: default", "  data_files:"]
        lines += [f"  - {{split: {split}, path: data/{split}-*}}" for split in SPLITS if counts.items[split]]
    if spec.format == "hf":
        lines += ["configs:", "- config_name: default", "  drop_labels: true", "  data_files:"]
        lines += [f"  - {{split: {split}, path: {split}/**}}" for split in SPLITS if counts.items[split]]
    lines += [
        "---",
        "",
        f"# {task.title}: {total} generated items",
        "",
        "**Every picture here is generated; none was observed, and no place looks so.** Made by earthgen.",
        "",
        "![The first items](sheet.png)",
        "",
        "## How the labels are known",
        "",
        task.labels,
        "",
        "## Counts",
        "",
        *_kept_lines(folder, total),
        f"| | {' | '.join(SPLITS)} |",
        "| --- " * (1 + len(SPLITS)) + "|",
        f"| items | {' | '.join(str(counts.items[split]) for split in SPLITS)} |",
        f"| scenes | {' | '.join(str(len(counts.scenes.get(split, ()))) for split in SPLITS)} |",
        "",
        f"Pictures have {spec.size} x {spec.size} pixels. Metres per pixel: "
        + ", ".join(f"{metres} ({count} items)" for metres, count in sorted(counts.metres.items(), key=_first_number))
        + f". All files of items have {counts.bytes:,} bytes.",
        "",
        f"Detail is of quality `{spec.quality}`.",
        "",
    ]
    if task.paired:
        lines += [f"{counts.unchanged} pairs have no change.", ""]
    for count, what in ((counts.captions, "captions"), (counts.questions, "questions"), (counts.phrases, "phrases")):
        if count:
            lines += [f"{count} {what}.", ""]
    if counts.labels:
        lines += ["Items by class:", "", *counts.table(counts.labels), ""]
    if counts.things:
        lines += ["Areas by class:", "", *counts.table(counts.things), ""]
    roles = sorted({role for role, _ in counts.pixels})
    for role in roles if len(roles) <= 4 else roles[-1:]:
        mine = {name: count for (mask, name), count in counts.pixels.items() if mask == role}
        whole = sum(mine.values()) or 1
        shares = ", ".join(f"{name} {count / whole:.1%}" for name, count in mine.items())
        lines += [f"Pixels of `{role}`: {shares}.", ""]
    lines += [
        "## Splits",
        "",
        "Splits are apart on the ground: the ground is divided into cells of 8 degrees that belong to one split each,"
        " and tiles keep half a degree from the borders. Every scene has a world of its own, and no tile occurs twice.",
        "",
        "## Reading",
        "",
        f"{form.title}: {(form.__doc__ or '').strip().splitlines()[0]}",
        "",
        "```python",
        form.reading(spec),
        "```",
        "",
        f"`{MANIFEST}` has a line of JSON for each item: worlds, boxes, dates, labels, and the SHA-256 of its files."
        f" `{READER}` has classes for torchgeo.",
        "",
        "## Making it again",
        "",
        "```sh",
        spec.command,
        "```",
        "",
        f"Weights `{folder.made_by['weights']}`, engine fingerprint `{folder.made_by['fingerprint']}`: with equal ones"
        " the bytes are equal, whatever the backend and the number of workers.",
        "",
        "## Licence",
        "",
        "Apache-2.0, as the weights that made it. Worlds of root `earth` start from NASA's Blue Marble, which is in the"
        " public domain.",
        "",
    ]
    return "\n".join(lines)


def _kept_lines(folder: DumpFolder, kept: int) -> list[str]:
    """What a dump that keeps by scores says of that."""
    spec = folder.spec
    if not spec.keep_if:
        return []
    used = dict.fromkeys(condition.name for condition in parse(spec.keep_if))
    return [
        f"Of {spec.count} items that were made {kept} are here: those with `{spec.keep_if}`. Scores are in"
        f" `{MANIFEST}`, those of the others in `{DROPPED_LIST}`; they come from `{folder.made_by['scores']}`.",
        "",
        *(f"- `{name}`: {SCORES[name]}" for name in used),
        "",
    ]


def croissant(folder: DumpFolder) -> dict[str, Any]:
    """Croissant 1.0: the manifest as records, and the files of the dump."""
    spec, task = folder.spec, task_of(folder.spec.task)
    manifest = hashlib.sha256()
    for record in folder.records():
        manifest.update(line_of(record))
    text = {"dataType": "sc:Text"}
    number = {"dataType": "sc:Integer"}
    columns: list[tuple[str, dict[str, str], str]] = [
        ("index", number, "address of the item"),
        ("key", text, "name of the item in files"),
        ("split", text, "train, val or test"),
        ("scene", number, "items of one scene are neighbours in one world"),
        ("label", text, "class of the whole picture, if the task has one"),
    ]
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": f"earthgen-{spec.task}-{spec.seed}",
        "description": f"{task.title}, generated by earthgen. {task.labels}",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "license": "https://www.apache.org/licenses/LICENSE-2.0",
        "version": "1.0.0",
        "datePublished": "2026-01-01",
        "creator": {"@type": "Organization", "name": "The earthgen developers"},
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "manifest",
                "name": "manifest",
                "contentUrl": MANIFEST,
                "encodingFormat": "application/jsonlines",
                "sha256": manifest.hexdigest(),
            }
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "items",
                "name": "items",
                "key": {"@id": "items/index"},
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"items/{name}",
                        "name": name,
                        "description": description,
                        **kind,
                        "source": {"fileObject": {"@id": "manifest"}, "extract": {"column": name}},
                    }
                    for name, kind, description in columns
                ],
            }
        ],
    }


def _preview(index: int) -> str:
    return f"{HIDDEN}/previews/{index:08d}.png"


def _first_number(pair: tuple[str, int]) -> float:
    return float(pair[0])


_CONTEXT: dict[str, Any] = json.loads("""{
 "@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/",
 "cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/",
 "dct": "http://purl.org/dc/terms/", "citeAs": "cr:citeAs", "column": "cr:column", "conformsTo": "dct:conformsTo",
 "data": {"@id": "cr:data", "@type": "@json"}, "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
 "examples": {"@id": "cr:examples", "@type": "@json"}, "extract": "cr:extract", "field": "cr:field",
 "fileProperty": "cr:fileProperty", "fileObject": "cr:fileObject", "fileSet": "cr:fileSet", "format": "cr:format",
 "includes": "cr:includes", "isLiveDataset": "cr:isLiveDataset", "jsonPath": "cr:jsonPath", "key": "cr:key",
 "md5": "cr:md5", "parentField": "cr:parentField", "path": "cr:path", "recordSet": "cr:recordSet",
 "references": "cr:references", "regex": "cr:regex", "repeated": "cr:repeated", "replace": "cr:replace",
 "separator": "cr:separator", "source": "cr:source", "subField": "cr:subField", "transform": "cr:transform"
}""")
