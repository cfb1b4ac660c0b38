"""Which part of a pair an instruction is about, as a value that can be kept, sent and checked."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from perception.agent.ground import Place

MAX_CLASS_CHARACTERS = 100
ClassName = Annotated[str, Field(min_length=1, max_length=MAX_CLASS_CHARACTERS)]
Unit = Literal["auto", "m2", "ha", "km2", "percent", "pixels"]

_BETWEEN: dict[Place, str] = {
    "top left": "in the upper left",
    "top center": "in the upper middle",
    "top right": "in the upper right",
    "center left": "in the middle of the left",
    "center": "in the centre",
    "center right": "in the middle of the right",
    "bottom left": "in the lower left",
    "bottom center": "in the lower middle",
    "bottom right": "in the lower right",
    "top": "in the upper third",
    "bottom": "in the lower third",
    "left": "in the left third",
    "right": "in the right third",
    "upper half": "in the upper half",
    "lower half": "in the lower half",
    "left half": "in the left half",
    "right half": "in the right half",
}


class Selection(BaseModel):
    """Areas of a pair: what changed, or what lies on one of the dates, of a class, in a place, of a size."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    when: Literal["change", "before", "after"] = Field(
        default="change", description="What changed between the dates, or what is there on one of them."
    )
    subject: ClassName | None = Field(default=None, description="A class; none: any.")
    kind: Literal["any", "came", "went"] = Field(
        default="any", description="Of a change: the subject came, it went, or either."
    )
    other: ClassName | None = Field(
        default=None, description="What was there before the subject came, or came when it went."
    )
    place: Place | None = Field(default=None, description="Only what lies there; none: the whole picture.")
    least_m2: Annotated[float, Field(ge=0)] | None = Field(default=None, description="Areas of at least so many m2.")
    most_m2: Annotated[float, Field(ge=0)] | None = Field(default=None, description="Areas of at most so many m2.")
    least_pixels: Annotated[int, Field(ge=0)] | None = None
    most_pixels: Annotated[int, Field(ge=0)] | None = None
    rank: Literal["largest", "smallest"] | None = Field(default=None, description="Only the first of these.")
    first: Annotated[int, Field(ge=1, le=1000)] = Field(default=1, description="How many of them, with rank.")

    @model_validator(mode="after")
    def _makes_sense(self) -> Selection:
        if self.subject is None and (self.kind != "any" or self.other is not None):
            raise ValueError("kind and other need a subject")
        if self.other is not None and self.kind == "any":
            raise ValueError("other needs kind came or went")
        if self.when != "change" and self.kind != "any":
            raise ValueError("what is there on one date has neither come nor gone")
        return self

    @property
    def in_place(self) -> str:
        """The place in words, with a blank before it; "" for the whole picture."""
        return "" if self.place is None else f" {place_words(self.place)}"

    def words(self, count: int = 2) -> str:
        """What is selected, in words that follow a number: "areas that became building in the upper left"."""
        noun = "area" if count == 1 else "areas"
        were = "was" if count == 1 else "were"
        subject, other = self.subject, self.other
        if self.when != "change":
            date = "earlier" if self.when == "before" else "later"
            said = f"{noun} of {subject} in the {date} picture" if subject else f"{noun} in the {date} picture"
        elif subject is None:
            said = f"{noun} that changed"
        elif self.kind == "came":
            said = f"{noun} that became {subject}" if other is None else f"{noun} of {other} that became {subject}"
        elif self.kind == "went":
            said = f"{noun} of {subject} that {were} lost"
            said = said if other is None else f"{noun} of {subject} that became {other}"
        else:
            said = f"{noun} of {subject} that changed"
        size = ""
        if self.least_m2 is not None or self.least_pixels is not None:
            size += f" of at least {_size(self.least_m2, self.least_pixels)}"
        if self.most_m2 is not None or self.most_pixels is not None:
            size += f" of at most {_size(self.most_m2, self.most_pixels)}"
        ranked = f" ({self.first if self.first > 1 else 'the'} {self.rank})" if self.rank else ""
        return said + self.in_place + size + ranked

    @property
    def file_name(self) -> str:
        """A name for files of it: small letters, digits and dashes."""
        kind = {"came": "new", "went": "lost", "any": "changed"}[self.kind]
        words = [kind if self.when == "change" else self.when, self.subject or ("areas" if self.place else "")]
        text = "-".join(part for part in (*words, self.place or "", self.rank or "") if part)
        plain = "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower())
        return "-".join(part for part in plain.split("-") if part)[:60] or "areas"


def place_words(place: Place) -> str:
    """A place in words: "in the upper left"."""
    return _BETWEEN[place]


def format_area(square_metres: float, unit: Unit = "auto") -> str:
    """Square metres in a unit with the digits that mean something: "850 m²", "1.2 ha", "34 km²".

    Args:
        square_metres: how many.
        unit: "m2", "ha", "km2", or "auto" for the one that suits.
    """
    if unit == "auto":
        unit = "km2" if square_metres >= 1e6 else "ha" if square_metres >= 1e4 else "m2"
    size, name = {"m2": (1.0, "m²"), "ha": (1e4, "ha"), "km2": (1e6, "km²")}[unit]
    value = square_metres / size
    if value == 0 or value >= 100 or (unit == "m2" and value >= 1):
        return f"{value:,.0f} {name}"
    return f"{value:.3g} {name}"


def format_percent(share: float) -> str:
    """A share of 0 to 1 in per cent."""
    if 0 < share < 0.0005:
        return "less than 0.1 %"
    return f"{100 * share:.1f} %"


def _size(square_metres: float | None, pixels: int | None) -> str:
    return format_area(square_metres) if square_metres is not None else f"{pixels} pixels"
