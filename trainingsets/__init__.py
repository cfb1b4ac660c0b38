"""Labelled training sets from the engine: `earthgen dump` and `earthgen inspect`.

A dump is `count` items of one task in one format. An item is a pure function of the dump's specification and its index,
so any number of processes may make them in any order, and the folder's bytes do not depend on who did what when.

    spec.py        what a dump is: task, format, count, seed, sizes; one canonical spelling
    grounds.py     what worlds show, in words that the weights were taught
    places.py      where an item lies: scenes, splits that are apart on the ground, no tile twice
    areas.py       edits that change a part of a tile, and the pixels they change
    words.py       captions, phrases and questions from what changed
    sample.py      pictures, masks and words of one item
    posed_views.py places seen from all sides
    resampling.py  pictures with other pixels
    tasks.py       the tasks, each a function from an item to a sample
    formats/       folders that the field's loaders open
    keeping.py     conditions on scores, read and spelled
    scoring.py     the scores of an item, by what looks at worlds
    folder.py      the folder: items written whole, resumed, finished once
    running.py     serial, processes, Ray; limits and retries
    planning.py    what it will take, before it starts
    cards.py       README, picture, Croissant
    inspection.py  reading back: counts, duplicates, leakage, damage
    cli.py         the two commands
    demo.py        a small dump of each task

Two modules serve whoever learns from pairs, wherever these come from:

    changes.py          pairs with masks and classes, what days and sensors do to pictures
    change_captions.py  a grammar that describes pairs by what their masks justify
"""
