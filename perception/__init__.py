"""What looks at worlds: change detection, captioning, segmentation and the validators built on them.

Nothing is here yet. The package holds the place in the order of imports, tileserver -> perception -> earthgen.
"""

__all__: list[str] = []
