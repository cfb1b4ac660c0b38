"""What the pictures of the packs show, in the words that a person would type: looked at, one by one.

A scene is one picture, or several of one kind, at a range of resolutions. It names what a crop of it shows by
the cover that can be measured on the crop (`datasets.captions.measure`): one cover, a shore, which is water beside
another one, or two others mixed; where a cover has no words, the words
of "any" are true of every crop.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Cover = Literal["water", "forest", "grass", "bare", "built", "white", "shore", "mixed", "any"]
Nouns = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """One kind of picture.

    Attributes:
        pack: folder of the pack.
        pattern: regular expression that is found in the picture's name, pack and slash left out.
        nouns: what is seen, by measured cover; "any" is always there.
        place: where it is, for "... in PLACE"; "" says nothing.
        season: words such as "in winter"; "" says nothing.
        same: covers that are counted as another one here, such as bright roofs that look like bare ground.
        calm: what smooth dark ground is here, whatever its colour: water often looks as green as a field.
        finest: metres per pixel from which on the words hold.
        coarsest: metres per pixel up to which they hold.
    """

    pack: str
    pattern: str
    nouns: Mapping[Cover, Nouns]
    place: str = ""
    season: str = ""
    same: Mapping[Cover, Cover] = field(default_factory=dict)
    calm: Cover | None = None
    finest: float = 0.0
    coarsest: float = math.inf

    def fits(self, pack: str, name: str, gsd: float) -> bool:
        """Whether a picture is of this kind at this resolution."""
        return pack == self.pack and self.finest <= gsd < self.coarsest and re.search(self.pattern, name) is not None


def scene_of(pack: str, name: str, gsd: float) -> Scene:
    """The first scene that fits a picture.

    Args:
        pack: folder of the pack.
        name: name of the picture; the pack and a slash in front are allowed.
        gsd: metres per pixel.

    Raises:
        KeyError: nobody described this picture.
    """
    short = name.removeprefix(f"{pack}/")
    for scene in SCENES:
        if scene.fits(pack, short, gsd):
            return scene
    raise KeyError(f"no scene describes {pack}/{short} at {gsd:g} m: add one to datasets/scenes.py")


FOREST = ("dense forest", "forest", "woodland")
CONIFERS = ("dense forest", "coniferous forest", "forest", "mountain forest")
RAIN_FOREST = ("rain forest", "tropical forest", "jungle", "dense forest")
CLOUDS = ("clouds", "scattered white clouds")
SNOW = ("snow", "snow-covered land")
FIELDS = ("farmland with fields", "farmland", "fields", "patchwork of fields")
DESERT = ("desert", "arid land", "barren land")
SAND = ("sand desert", "desert", "sand dunes")
SUBURB = ("suburb with streets and houses", "suburb", "residential area", "houses along streets", "houses with gardens")
CITY = ("city", "dense city", "city with a street grid", "urban area")
OPEN_SEA = ("open sea", "sea", "ocean", "water")

_COARSE = 4.0

_MID: tuple[Scene, ...] = (
    Scene(
        "mid_scenes_10m-500m",
        "l7_bahamas",
        {
            "any": ("tropical islands in shallow sea", "coast with shallow turquoise sea"),
            "water": (*OPEN_SEA, "turquoise sea"),
            "white": ("clouds over the sea",),
        },
        "the Bahamas",
        calm="water",
    ),
    Scene(
        "mid_scenes_10m-500m",
        "l7_olinda",
        {
            "any": ("coastal city", "city by the sea"),
            "water": (*OPEN_SEA, "sea along a beach"),
            "forest": (*FOREST, "tropical forest"),
            "built": (*CITY, "coastal city"),
            "shore": ("coastal city", "coast", "beach and city"),
            "mixed": ("city and forest", "suburbs and forest"),
        },
        "Brazil",
    ),
    Scene(
        "mid_scenes_10m-500m",
        "l8_guangdong",
        {
            "any": ("hills", "hilly land", "forested hills"),
            "water": OPEN_SEA,
            "white": CLOUDS,
            "shore": ("coast", "coast with islands", "hilly coast"),
        },
        "China",
        calm="water",
    ),
    Scene(
        "mid_scenes_10m-500m",
        "l8_ottawa",
        {
            "any": ("forest with lakes", "forest and farmland in late autumn"),
            "white": (*SNOW, "snow-covered forest"),
            "bare": ("bare fields", "farmland with fields"),
        },
        "Canada",
        "in late autumn",
    ),
    Scene(
        "mid_scenes_10m-500m",
        "l8_tokyo",
        {
            "any": ("large city and its surroundings", "city by the sea", "metropolis"),
            "water": (*OPEN_SEA, "bay"),
            "forest": ("forested mountains", *FOREST),
            "built": (*CITY, "metropolis", "very large city"),
            "white": CLOUDS,
            "shore": ("coast", "city by the sea", "city on a bay"),
            "mixed": ("city and farmland", "city and forested mountains"),
        },
        "Japan",
    ),
    Scene(
        "mid_scenes_10m-500m",
        "modis_oregon",
        {
            "any": ("dry mountains", "mountains", "forest and dry land"),
            "forest": ("forested mountains", "mountains", "forest"),
            "bare": ("dry plateau", "arid land", "high desert"),
            "white": ("wildfire smoke", "smoke"),
        },
        "Oregon",
        "in summer",
    ),
    Scene(
        "mid_scenes_10m-500m",
        "s2_T3",
        {
            "any": (*FIELDS, "patchwork of fields and woods", "countryside with villages"),
            "white": ("clouds over farmland", *CLOUDS),
        },
        "central Europe",
    ),
    Scene(
        "mid_scenes_10m-500m",
        "s2_spain",
        {
            "any": (*FIELDS, "farmland with fields and villages", "countryside with villages"),
        },
        "Spain",
    ),
    Scene(
        "mid_scenes_10m-500m",
        "saltlake",
        {
            "any": ("dry mountains beside a city", "mountains"),
            "bare": ("dry mountains", "mountains", "mountain ridges", "bare hills"),
            "built": (*CITY, *SUBURB[:3]),
            "forest": ("mountain slopes with forest", "mountains"),
            "mixed": ("city at the foot of mountains", "dry mountains beside a city"),
        },
        "Utah",
    ),
    Scene(
        "mid_scenes_10m-500m",
        "l8_montreal",
        {
            "any": (*FIELDS, "farmland along a wide river", "farmland and forest"),
            "water": ("wide river", "river", "lake"),
            "forest": FOREST,
            "built": ("large city", "city by a river"),
            "shore": ("farmland along a wide river", "river and farmland", "river"),
        },
        "Canada",
        "in summer",
    ),
    Scene(
        "mid_scenes_10m-500m",
        "l8_rmnp",
        {
            "any": ("mountains", "mountains with lakes", "rocky mountains"),
            "forest": ("forested mountains", "mountain forest"),
            "white": ("mountains with snow", "snowy mountain peaks"),
            "water": ("mountain lake", "lake", "reservoir"),
            "bare": ("dry mountains", "bare mountains"),
        },
        "the Rocky Mountains",
    ),
    Scene(
        "mid_scenes_10m-500m",
        "netherlands_nrt",
        {
            "any": ("lowland farmland", "coastal lowland", "green lowland"),
            "water": (*OPEN_SEA, "shallow sea"),
            "white": CLOUDS,
            "shore": ("coast", "lowland coast"),
        },
        "the Netherlands",
    ),
    Scene("mid_scenes2_20m-320m", "denmark", {"any": (*FIELDS, "countryside with villages")}, "Denmark"),
    Scene(
        "mid_scenes2_20m-320m",
        "finland_lapland",
        {"any": ("tundra", "tundra hills", "bare hills in the far north"), "forest": ("boreal forest", "tundra")},
        "Lapland",
    ),
    Scene(
        "mid_scenes2_20m-320m",
        "amazon-delta",
        {
            "any": ("rain forest", "rain forest with rivers"),
            "forest": RAIN_FOREST,
            "bare": ("muddy river", "wide brown river", "river"),
            "mixed": ("river through rain forest", "river delta", "river mouth", "river"),
        },
        "the Amazon",
    ),
    Scene(
        "mid_scenes2_20m-320m",
        "roraima",
        {
            "any": ("rain forest", "table mountain in rain forest"),
            "forest": RAIN_FOREST,
            "white": ("clouds over rain forest", *CLOUDS),
        },
        "South America",
    ),
    Scene(
        "mid_scenes2_20m-320m",
        "vale-do-pati",
        {
            "any": ("plateau with canyons", "savanna with farmland"),
            "forest": ("forested plateau", "forest"),
            "bare": ("dry farmland", "savanna", "arid land"),
        },
        "Brazil",
    ),
    Scene(
        "mid_scenes2_20m-320m",
        "pivots-nm",
        {
            "any": ("circular irrigated fields", "centre pivot fields in dry land", "round fields in the desert"),
            "bare": ("dry plain", "arid land", "dry grassland"),
        },
        "New Mexico",
    ),
    Scene(
        "mid_scenes2_20m-320m",
        "playa-nv",
        {"any": (*DESERT, "desert with dry river beds", "dry lake in the desert")},
        "Nevada",
    ),
    Scene("mid_scenes2_20m-320m", "naip_wv", {"any": ("green farmland", "pastures and woods", "farmland with fields")}),
    Scene(
        "mid_scenes2_20m-320m",
        "s2_amazon",
        {
            "any": ("rain forest", "large river through rain forest", "jungle with a river"),
            "white": ("clouds over rain forest", *CLOUDS),
        },
        "the Amazon",
    ),
    Scene(
        "mid_scenes2_20m-320m",
        "beijing",
        {
            "any": ("large city and villages on a plain", "megacity and its surroundings"),
            "forest": ("forested mountains", "mountains"),
            "built": ("very large city", "metropolis", *CITY[:2]),
            "mixed": ("city and countryside", "villages on a plain"),
        },
        "China",
    ),
    Scene(
        "mid_scenes2_20m-320m",
        "great-barrier-reef",
        {
            "any": ("coral reef", "coral reefs in blue sea", "reef"),
            "water": (*OPEN_SEA, "tropical sea"),
            "shore": ("coral reef", "coral reefs in blue sea"),
            "white": ("clouds over the sea",),
        },
        "Australia",
        calm="water",
    ),
    Scene(
        "mid_scenes2_20m-320m",
        "ijsselmeer",
        {
            "any": ("lowland with a large lake", "coastal lowland"),
            "water": ("lake", "large lake", "sea", "water"),
            "shore": ("lake shore", "coast", "lowland with a large lake"),
        },
        "the Netherlands",
    ),
    Scene("mid_scenes2_20m-320m", "sahara", {"any": (*SAND, "desert with rocks and dunes")}, "the Sahara"),
    Scene(
        "mid_scenes2_20m-320m",
        "us-suburbs",
        {"any": ("suburbs and forest", "forest with towns", "wooded suburbs"), "forest": FOREST},
        "the United States",
    ),
    Scene(
        "mid_scenes2_20m-320m",
        "villarrica",
        {
            "any": ("volcanoes and lakes", "farmland, forest and lakes"),
            "forest": ("forested mountains", *FOREST),
            "white": ("volcano with snow", "snow-covered volcano"),
            "bare": (*FIELDS[:2], "dry farmland"),
            "water": ("lake", "large lake"),
        },
        "Chile",
        calm="water",
    ),
    Scene(
        "mid_scenes2_20m-320m",
        "s2_tokyo",
        {
            "any": ("large city and its surroundings", "city by the sea", "metropolis"),
            "water": (*OPEN_SEA, "bay"),
            "white": CLOUDS,
        },
        "Japan",
    ),
)

_EUROSAT_NOUNS: dict[str, Nouns] = {
    "AnnualCrop": ("farmland with fields", "farmland", "crop fields", "annual crops", "ploughed fields"),
    "Forest": ("dense forest", "forest", "woodland", "trees"),
    "HerbaceousVegetation": (
        "grassland with shrubs",
        "herbaceous vegetation",
        "scrubland",
        "heath",
        "natural grassland",
    ),
    "Highway": ("highway", "motorway", "highway through the countryside", "road"),
    "Industrial": ("industrial area", "industrial buildings", "factories and warehouses", "warehouses"),
    "Pasture": ("pasture", "meadow", "green pasture", "grazing land"),
    "PermanentCrop": ("vineyard", "orchard", "vineyards and orchards", "permanent crops", "olive grove"),
    "Residential": ("suburb with streets and houses", "residential area", "town", "houses along streets", "suburb"),
    "River": ("river", "river through the countryside", "river bank"),
    "SeaLake": ("open sea", "lake", "water", "sea"),
}

_SENTINEL: tuple[Scene, ...] = (
    *(Scene("s2_eurosat_10m", rf"^{name}/", {"any": nouns}, "Europe") for name, nouns in _EUROSAT_NOUNS.items()),
    Scene(
        "s2_ecomapper_10m",
        r"_1_",
        {
            "any": ("forest with clear-cuts", "forest with logging roads"),
            "forest": (*CONIFERS[:3], "boreal forest"),
            "bare": ("clear-cut forest", "clearing in a forest"),
        },
        season="in summer",
    ),
    *(
        Scene(
            "s2_ecomapper_10m",
            rf"_3842_2017-{month}",
            {"any": (*FIELDS, "large fields", "farmland with fields and villages")},
            season=f"in {season}",
        )
        for month, season in (("02", "winter"), ("05", "spring"), ("08", "summer"), ("10", "autumn"))
    ),
    Scene("s2_ecomapper_10m", r"_4024_", {"any": (*DESERT, "desert mountains", "rocky desert", "dry mountains")}),
    Scene("s2_ecomapper_10m", r"_4451_", {"any": ("savanna woodland", "woodland with clearings", "bush")}),
    Scene("s2_ecomapper_10m", r"_5284_", {"any": SAND}),
    Scene("s2_ecomapper_10m", r"_9137_", {"any": ("dry hills", "shrubland on dry hills", "scrubland")}),
    Scene("s2_ecomapper_10m", r"_13259_", {"any": ("savanna", "dry forest", "bush with straight roads")}),
)

_AIRBORNE: tuple[Scene, ...] = (
    Scene(
        "naip_nd_5m",
        "",
        {
            "any": (
                "farmland with ponds",
                "fields with ponds and small lakes",
                "prairie potholes",
                "farmland with fields",
                "farmland",
            )
        },
        "North Dakota",
        "in summer",
    ),
    Scene(
        "planet_california_3m",
        "planesnet_scene4",
        {"any": ("airport runway in the desert", "desert", "aircraft parked in the desert"), "bare": DESERT},
        "California",
    ),
    Scene(
        "planet_california_3m",
        "planesnet",
        {
            "any": ("airport runway", "airport", "airport and city"),
            "water": ("bay", "water", "sea"),
            "built": ("airport", "airport runway", "industrial area", "city"),
            "shore": ("airport beside a bay", "airport runway", "airport"),
        },
        "California",
        calm="water",
        same={"bare": "built", "white": "built"},
    ),
    Scene(
        "planet_california_3m",
        "shipsnet_scene[14]",
        {
            "any": ("city by the sea", "harbour"),
            "water": ("bay with ships", "ships on the sea", *OPEN_SEA),
            "built": (*CITY, "street grid"),
            "shore": ("harbour", "city waterfront", "harbour with piers", "coast", "city by the sea"),
        },
        "San Francisco",
        calm="water",
        same={"bare": "built", "white": "built"},
    ),
    Scene(
        "planet_california_3m",
        "shipsnet",
        {
            "any": ("harbour", "port", "harbour with docks and ships"),
            "water": ("ships on the sea", "harbour water with ships", *OPEN_SEA),
            "built": ("port", "docks with containers", "city by the sea", "port with warehouses"),
            "shore": ("harbour", "port", "harbour with docks and ships", "coast", "beach and sea"),
        },
        "California",
        calm="water",
        same={"bare": "built", "white": "built"},
    ),
    Scene(
        "swissimage_0.41m",
        "sw3",
        {
            "any": ("town in a valley", "town with a railway and a river"),
            "forest": CONIFERS,
            "grass": ("meadow", "green fields", "meadows"),
            "built": ("town", "houses and streets", "town with streets and houses", "railway and buildings"),
            "mixed": ("houses and trees", "houses with gardens", "edge of a town", "slope with trees and rock"),
        },
        "Switzerland",
        coarsest=_COARSE,
        calm="grass",
    ),
    Scene(
        "swissimage_0.41m",
        "sw0_1|sw0_0",
        {
            "any": ("valley with meadows and forest", "alpine valley"),
            "forest": CONIFERS,
            "grass": ("meadow", "alpine meadow", "farmland with fields", "green fields"),
            "built": ("village", "houses and roads", "farm buildings", "road and buildings"),
            "bare": ("bare soil", "rock", "ploughed field"),
            "mixed": ("meadows and trees", "edge of a forest", "farm with meadows and trees", "road through meadows"),
        },
        "Switzerland",
        coarsest=_COARSE,
        calm="grass",
    ),
    Scene(
        "swissimage_0.41m",
        "sw[12]",
        {
            "any": ("alpine meadow", "mountain slope"),
            "forest": CONIFERS,
            "grass": ("alpine meadow", "meadow", "mountain pasture", "green slope"),
            "built": ("village", "alpine village", "mountain village with houses"),
            "bare": ("rock", "rocky slope", "gravel"),
            "mixed": ("meadows and trees", "alpine meadow with trees", "edge of a forest", "mountain slope with trees"),
        },
        "the Alps",
        coarsest=_COARSE,
        calm="grass",
    ),
    Scene(
        "swissimage_0.41m",
        "sw[56]|sw0_3",
        {
            "any": ("mountain slope", "alpine pasture"),
            "forest": CONIFERS,
            "grass": ("alpine meadow", "mountain pasture", "grassy slope", "meadow"),
            "bare": ("rock", "rocky slope", "scree", "mountain"),
            "mixed": ("alpine pasture with trees", "mountain slope with trees and rock", "mountain slope"),
        },
        "the Alps",
        coarsest=_COARSE,
        calm="grass",
    ),
    Scene(
        "swissimage_0.41m",
        "",
        {
            "any": ("alpine valley", "mountain valley with forest and meadows", "mountains"),
            "forest": (*CONIFERS, "forested mountains"),
            "grass": ("alpine meadows", "mountain pasture", "green valley"),
            "built": ("village in a valley", "town in a valley", "mountain valley with villages"),
            "bare": ("rocky mountains", "mountains", "bare mountain"),
        },
        "the Alps",
        finest=_COARSE,
    ),
    Scene(
        "oam_banepa_0.13m",
        "",
        {
            "any": ("town", "dense old town"),
            "built": ("dense old town", "old town", "crowded houses", "dense city", "flat roofs", "town"),
            "grass": ("fields beside a town", "grass field", "vacant lot"),
            "forest": ("trees and fields beside a town",),
            "mixed": ("houses and gardens", "houses beside fields", "town", "edge of a town"),
        },
        "Nepal",
    ),
)

_TOWN: Mapping[Cover, Nouns] = {
    "any": SUBURB,
    "built": (*SUBURB, "street grid", "city with a street grid", "buildings and car parks"),
    "forest": ("trees", "houses among trees", "park with trees"),
    "grass": ("lawn and trees", "park", "playing field", "grass field"),
    "bare": ("bare lots and streets", "vacant lot", "dry bare ground"),
    "water": ("water", "sea"),
}

_PLACES = {
    "bishop": "California",
    "chico": "California",
    "claremont": "California",
    "eureka": "northern California",
    "long_beach": "Long Beach",
    "palm_springs": "the Californian desert",
    "riverside": "California",
    "santa_monica": "Santa Monica",
}

_COMMERCIAL = ("large buildings and car parks", "industrial area", "warehouses", "shopping centre", "commercial area")
_CHIPS: tuple[tuple[Nouns, Mapping[str, tuple[int, ...]]], ...] = (
    (
        ("car park", "parking lot", "parked cars", "large car park"),
        {
            "bishop": (2,),
            "chico": (70, 77, 81),
            "claremont": (82, 86),
            "eureka": (3,),
            "long_beach": (75, 88, 99),
            "palm_springs": (34, 40, 41, 44, 48, 63),
            "riverside": (9, 13, 16, 47, 48, 71, 85),
        },
    ),
    (
        ("highway", "motorway", "highway with cars", "wide road"),
        {
            "chico": (43, 53),
            "claremont": (22, 23, 24, 25, 26, 81, 85),
            "long_beach": (41, 83),
            "santa_monica": (41, 45),
        },
    ),
    (
        ("sports field", "playing field", "baseball field", "school with playing fields"),
        {
            "bishop": (8,),
            "chico": (21, 83),
            "claremont": (55, 57, 58, 59),
            "eureka": (13,),
            "riverside": (2, 37, 51, 76),
            "santa_monica": (31, 86),
        },
    ),
    (
        ("golf course", "golf course with bunkers", "lawns and trees"),
        {"palm_springs": (24, 52, 73, 74, 75, 76, 77, 79, 80, 97)},
    ),
    (
        ("desert", "arid land", "desert with shrubs", "dry sandy ground", "barren land"),
        {"palm_springs": (6, 18, 25, 27, 28, 43, 46, 47, 53, 57, 60, 64, 65, 66, 78, 89, 96)},
    ),
    (("road through the desert", "desert road", "highway through the desert"), {"palm_springs": (8, 16, 19, 35, 56)}),
    (
        ("scrubland", "dry shrubs", "dry grassland", "bush"),
        {"claremont": (11, 27, 44, 45, 46, 61), "riverside": (72, 88)},
    ),
    (("dry river bed", "river bed with plants"), {"long_beach": (61, 62)}),
    (
        ("grass field", "green field", "lawn", "park"),
        {"chico": (38, 84), "long_beach": (23, 33), "riverside": (22, 66, 77, 89)},
    ),
    (("park with a pond", "pond and trees", "lake in a park"), {"long_beach": (47,)}),
    (
        ("dense forest", "forest", "trees and houses", "woodland"),
        {"chico": (41, 46), "eureka": (7, 9, 15, 16, 20)},
    ),
    (("mobile homes", "mobile home park", "rows of small houses"), {"claremont": (31, 32), "riverside": (64,)}),
    (("construction site", "bare ground", "vacant lot"), {"claremont": (15, 17, 30, 36), "long_beach": (28, 46)}),
    (
        _COMMERCIAL,
        {
            "chico": (12, 15, 16, 22, 25, 28, 29, 33, 34, 52, 60, 61, 64, 67, 75, 76, 82, 88),
            "claremont": (37, 38, 39, 40, 41, 42, 49, 54, 64, 65, 67, 68, 69, 70, 72, 75, 78, 79, 89, 90),
            "long_beach": (1, 4, 19, 25, 37, 38, 39, 40, 51, 52, 53, 55, 70, 72, 73, 82, 84, 98),
            "palm_springs": (4, 5, 22, 31, 88, 93),
            "riverside": (4, 5, 7, 8, 11, 12, 20, 21, 27, 31, 33, 34, 45, 54, 61, 62, 67, 69, 73, 74, 84, 86, 87),
            "santa_monica": (24, 30, 39, 57, 58, 64, 66, 67, 71),
        },
    ),
)
"""Chips of the Californian towns that show something else than streets and houses, by eye, by running number."""


def _chip_scenes() -> tuple[Scene, ...]:
    return tuple(
        Scene(
            "naip_california_0.6m",
            rf"^{town}/{town}_2020_({'|'.join(map(str, numbers))})_",
            {"any": nouns},
            _PLACES[town],
        )
        for nouns, towns in _CHIPS
        for town, numbers in towns.items()
    )


_HIGH: tuple[Scene, ...] = (
    *_chip_scenes(),
    *(Scene("naip_california_0.6m", f"^{town}/", _TOWN, place) for town, place in _PLACES.items()),
    Scene(
        "hires_misc_0.25-2m",
        "alpine_winter",
        {
            "any": ("snowy slope with forest and a road", "mountain road in winter"),
            "white": ("snow", "snow-covered slope", "snowfield", "mountains with snow"),
            "forest": ("snowy forest", "winter forest"),
        },
        "the Alps",
        "in winter",
    ),
    Scene("hires_misc_0.25-2m", "dop_germany", {"any": ("forest and heath", "woodland", "forest")}, "Germany"),
    Scene(
        "hires_misc_0.25-2m",
        "netherlands_0.25m",
        {
            "any": ("river bank with buildings", "canal with buildings and trees"),
            "water": ("canal", "water", "river"),
            "built": ("industrial area", "warehouses", "industrial buildings and roads"),
            "forest": ("trees", "trees along water"),
        },
        "the Netherlands",
        calm="water",
    ),
    Scene(
        "hires_misc_0.25-2m",
        "kampala_1",
        {"any": ("slum", "crowded shacks with metal roofs", "informal settlement", "dense houses")},
        "Uganda",
    ),
    Scene(
        "hires_misc_0.25-2m",
        "kampala",
        {"any": ("houses with red roofs", "houses and red dirt roads", "suburb with dirt roads")},
        "Uganda",
    ),
    Scene(
        "hires_misc_0.25-2m",
        "spacenet_rio",
        {"any": ("houses among trees", "houses and dirt roads", "wooded suburb"), "forest": ("trees", "forest")},
        "Brazil",
    ),
    Scene(
        "hires_misc2_0.35-4m",
        "aukerman",
        {"any": ("park", "meadow with paths", "grass field"), "grass": ("meadow", "grass field", "park")},
    ),
    Scene("hires_misc2_0.35-4m", "chilliwack_forest", {"any": CONIFERS[:3]}, "Canada"),
    Scene(
        "hires_misc2_0.35-4m",
        "chilliwack_river",
        {
            "any": ("river", "wide river with islands", "braided river", "muddy river"),
            "forest": ("forest along a river", "wooded islands"),
            "bare": ("river", "muddy river", "wide river"),
            "mixed": ("river with wooded islands", "river bank", "river bend", "river"),
        },
        "Canada",
        same={"white": "bare", "built": "bare"},
    ),
    Scene("hires_misc2_0.35-4m", "hamburg", {"any": ("dense forest", "forest with clearings", "forest")}, "Germany"),
    Scene("hires_misc2_0.35-4m", "airport-apron", {"any": ("airport apron", "parked aircraft", "airport")}),
    Scene(
        "hires_misc2_0.35-4m",
        "desert-highway",
        {"any": ("highway through the desert", "desert road", "desert with shrubs")},
        "the United States",
    ),
    Scene(
        "hires_misc2_0.35-4m",
        "tonga",
        {
            "any": ("coconut palms", "palm plantation", "farm with palm trees"),
            "mixed": ("coconut palms and houses", "palm plantation", "tropical village"),
        },
        "Tonga",
    ),
)

_LATITUDES: tuple[tuple[str, str, Mapping[Cover, Nouns]], ...] = (
    (
        r"blue_marble_\+(75|60)_",
        "the far north",
        {
            "any": ("northern forest and tundra", "northern land with lakes"),
            "forest": ("boreal forest", "taiga"),
            "white": ("ice sheet", "snow and ice", "ice cap"),
            "bare": ("tundra", "bare northern land"),
        },
    ),
    (
        r"blue_marble_\+45_",
        "",
        {
            "any": ("continent with plains and mountains", "temperate land"),
            "forest": ("forest", "green land"),
            "bare": ("desert", "arid land", "dry highlands", "steppe"),
            "white": ("mountains with snow", "snow-covered mountains"),
        },
    ),
    (
        r"blue_marble_\+30_",
        "",
        {
            "any": ("savanna and desert", "desert and dry land"),
            "forest": ("tropical forest", "forest", "green land"),
            "bare": ("desert", "sand desert", "arid land"),
        },
    ),
    (
        r"blue_marble_\+(15|0)_",
        "the tropics",
        {
            "any": ("tropical forest and savanna", "savanna"),
            "forest": ("rain forest", "jungle", "tropical forest"),
            "bare": ("dry savanna", "arid land"),
        },
    ),
    (
        r"blue_marble_-(15|30)_",
        "the southern hemisphere",
        {
            "any": ("savanna and dry land", "southern land"),
            "forest": ("forest", "savanna"),
            "bare": ("desert", "arid land", "dry land"),
        },
    ),
    (
        r"blue_marble_-",
        "the far south",
        {"any": ("southern ocean", "southern coast"), "white": ("ice sheet", "snow and ice")},
    ),
)

_GLOBE: tuple[Scene, ...] = tuple(
    Scene(
        "global",
        pattern,
        {
            **nouns,
            "water": ("open sea", "ocean", "open ocean", "sea"),
            "shore": ("coast", "coast and sea", "land and sea"),
        },
        place,
    )
    for pattern, place, nouns in _LATITUDES
)

SCENES: tuple[Scene, ...] = (*_MID, *_SENTINEL, *_AIRBORNE, *_HIGH, *_GLOBE)
"""Every scene; the first that fits a picture is its own."""
