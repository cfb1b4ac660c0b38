"""Sentences about pairs: each is true of the masks and says its claims; where nobody knows, nothing is said."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.captions import Corpus, compared, made_samples, main
from trainingsets.change_captions import (
    _AREAS,
    _GROUND,
    _LEAST,
    _PLACES,
    SENTENCES,
    Claim,
    Sentence,
    captions_of,
    describe,
    record_of,
    within,
    words,
)
from trainingsets.changes import CLASSES, ChangeSample, Mask

SIDE = 96
NAMES = CLASSES


def pair(
    base: str | None,
    laid: list[tuple[Mask, str]],
    changing: list[tuple[Mask, str]],
    fade: int = 0,
    source: str = "made",
) -> ChangeSample:
    """Ground of one class, areas that both dates have, and areas that change; borders of those are unknown."""
    before = np.full((SIDE, SIDE), 0 if base is None else 1 + CLASSES.index(base), dtype=np.uint8)
    for mask, name in laid:
        before[mask] = 1 + CLASSES.index(name)
    after, known = before.copy(), np.ones((SIDE, SIDE), dtype=bool)
    touched = np.zeros((SIDE, SIDE), dtype=bool)
    for mask, name in changing:
        after[mask] = 1 + CLASSES.index(name)
        touched |= mask
        known &= ~(grown(mask, fade) & grown(~mask, fade)) if fade else known
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    return ChangeSample(source, "one", "one", image, image, touched & (before != after), known, before, after)


def grown(mask: Mask, by: int) -> Mask:
    """A mask and its eight neighbours, `by` times."""
    for _ in range(by):
        padded = np.pad(mask, 1)
        mask = np.any([padded[r : r + SIDE, c : c + SIDE] for r in range(3) for c in range(3)], axis=0)
    return mask


def box(top: int, left: int, height: int, width: int) -> Mask:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[top : top + height, left : left + width] = True
    return mask


boxes = st.builds(box, st.integers(-4, 90), st.integers(-4, 90), st.integers(3, 70), st.integers(3, 70)).filter(
    lambda mask: bool(mask.any())
)
areas = st.tuples(boxes, st.sampled_from(NAMES))
samples = st.builds(
    pair,
    st.sampled_from((*NAMES, None)),
    st.lists(areas, max_size=3),
    st.lists(areas, max_size=4),
    st.sampled_from((0, 0, 2, 5)),
    st.sampled_from(("made", "kampala")),
)

# --- The masks, asked again and in another way ---


def pieces(mask: Mask) -> int:
    """Connected areas, counted by walking over them."""
    left, count = {(int(r), int(c)) for r, c in np.argwhere(mask)}, 0
    while left:
        count += 1
        queue = deque([left.pop()])
        while queue:
            row, column = queue.popleft()
            for near in [(row + r, column + c) for r in (-1, 0, 1) for c in (-1, 0, 1)]:
                if near in left:
                    left.remove(near)
                    queue.append(near)
    return count


def code_of(name: str) -> int:
    return 1 + CLASSES.index(name)


def in_place(place: str) -> Mask:
    """A place of a picture whose side is divisible by two and three."""
    third, half = SIDE // 3, SIDE // 2
    rows = {
        "top": slice(0, third),
        "bottom": slice(2 * third, None),
        "upper": slice(0, half),
        "lower": slice(half, None),
    }
    columns = {"left": slice(0, third), "right": slice(2 * third, None), "center": slice(third, 2 * third)}
    if place.endswith("half"):
        halves = {"left": slice(0, half), "right": slice(half, None)}
        first = place.split()[0]
        return region(rows.get(first, slice(None)), halves.get(first, slice(None)))
    if place == "center":
        return region(slice(third, 2 * third), columns["center"])
    words = place.split()
    if words[0] == "center":
        return region(slice(third, 2 * third), columns[words[1]])
    return region(rows.get(words[0], slice(None)), columns.get(words[-1], slice(None)))


def region(rows: slice, columns: slice) -> Mask:
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[rows, columns] = True
    return mask


def holds(claim: Claim, sample: ChangeSample) -> bool:
    """Whether a claim is true."""
    change = sample.change & sample.known
    before, after = sample.cover_before, sample.cover_after
    still = sample.known & ~sample.change
    if claim.kind == "nothing":
        return bool(sample.known.all() and not sample.change.any())
    if claim.kind == "changed":
        return bool(change.any()) and claim.number in (None, pieces(change))
    subject = change if claim.subject == "" else change & (after == code_of(claim.subject))
    if claim.kind == "went":
        return bool((change & (before == code_of(claim.subject))).any())
    if claim.kind == "vanished":
        had = before == code_of(claim.subject)
        return bool(
            (had & change).any() and not (sample.known & had & ~change).any() and not (still & (before == 0)).any()
        )
    if claim.kind == "became":
        mask = change & (after == code_of(claim.other))
        return bool((before[mask] == code_of(claim.subject)).mean() >= 0.9)
    assert subject.any()
    if claim.kind == "came":
        known_before = bool((before[subject] > 0).all())
        return known_before and claim.number in (None, pieces(subject))
    if claim.kind == "grew":
        own = still & (after == code_of(claim.subject))
        return bool((grown(own, 20) & subject).any()) and bool((before[subject] > 0).all())
    if claim.kind == "size":
        return bool(subject.mean() >= 0.12 if claim.other == "large" else subject.mean() <= 0.02)
    if claim.kind == "where":
        assert claim.place is not None
        if claim.place == "most":
            return bool(subject.mean() >= 0.6)
        share = float((subject & in_place(claim.place)).sum() / subject.sum())
        return share >= (0.95 if claim.place.endswith("half") else 0.7)
    if claim.kind in ("within", "beside"):
        reach = next(by for by in range(SIDE) if (grown(subject, by) & still).any())
        ring = after[grown(subject, reach + 7) & still]
        share = float((ring == code_of(claim.other)).mean())
        edge = subject[0].any() or subject[-1].any() or subject[:, 0].any() or subject[:, -1].any()
        # Around corners this ring is square and the other is round.
        return bool(share >= 0.7 and not edge) if claim.kind == "within" else 0.02 < share < 0.97
    other = change & (after == code_of(claim.other))
    axis = 1 if claim.kind == "left of" else 0
    return bool(np.argwhere(subject)[:, axis].max() < np.argwhere(other)[:, axis].min())


# --- The text, read again ---

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six")
_PHRASES = {phrase: place for place, phrases in _PLACES.items() for phrase in phrases}
_PLACE = re.compile(r"\b(" + "|".join(sorted(_PHRASES, key=len, reverse=True)) + r")\b(?! of the new)")
_NOUNS = {noun.text: name for name, nouns in _GROUND.items() for noun in nouns}
for _name, _pairs in _AREAS.items():
    _NOUNS |= {noun: _name for pair_ in _pairs for noun in pair_}
_NOUNS |= {"building": "building"}
_NOUN = re.compile(r"\b(" + "|".join(sorted(_NOUNS, key=len, reverse=True)) + r")\b")


def read_again(sentence: Sentence, sample: ChangeSample) -> None:
    """What the words say is claimed, and what is claimed is said."""
    text, claims = sentence.text, sentence.claims
    assert set(text.split()) <= set(words())
    assert text == text.lower() and not re.search(r"[.,;?]|  ", text)
    places = [_PHRASES[found] for found in _PLACE.findall(text)]
    assert sorted(places) == sorted(claim.place for claim in claims if claim.place is not None)
    without_places = _PLACE.sub("", text)
    nouns = {_NOUNS[found] for found in _NOUN.findall(without_places)}
    claimed = {claim.subject for claim in claims} | {claim.other for claim in claims if claim.other in CLASSES}
    assert nouns == claimed - {""}, (text, claims)
    change = sample.change & sample.known
    for number, word in enumerate(_NUMBERS[1:], start=1):
        if re.search(rf"\b{word}\b", without_places):
            assert number in {claim.number for claim in claims}
    for word, least in (("several", 3), ("many", 5)):
        if re.search(rf"\b{word}\b", without_places):
            assert max(pieces(change & (sample.cover_after == code_of(name))) for name in nouns) >= least
    for word in ("large", "small"):
        assert bool(re.search(rf"\b{word}\b", text)) == any(claim.other == word for claim in claims)
    for way, kind in (("surrounded by|amid", "within"), ("beside|next to|near", "beside"), ("above", "above")):
        assert bool(re.search(rf"\b({way})\b", without_places)) == any(claim.kind == kind for claim in claims)


@settings(max_examples=150, deadline=None)
@given(samples, st.integers(0, 1000))
def test_every_sentence_is_true_and_says_what_it_claims(sample: ChangeSample, seed: int) -> None:
    record = record_of(sample)
    if record is None:
        return
    sentences = describe(record, np.random.default_rng(seed))
    assert len({sentence.text for sentence in sentences}) == SENTENCES
    for sentence in sentences:
        for claim in sentence.claims:
            assert holds(claim, sample), (sentence, claim)
        read_again(sentence, sample)


@settings(max_examples=40, deadline=None)
@given(samples, st.integers(0, 3), st.booleans())
def test_everything_that_can_be_said_is_true_however_the_picture_is_turned(
    sample: ChangeSample, quarters: int, mirrored: bool
) -> None:
    sample = sample.turned(quarters, mirrored)
    record = record_of(sample)
    if record is None:
        return
    for sentence in describe(record, np.random.default_rng(0), count=400):
        assert all(holds(claim, sample) for claim in sentence.claims), sentence
        read_again(sentence, sample)


@settings(max_examples=30, deadline=None)
@given(samples, st.integers(0, 1000))
def test_the_same_chance_says_the_same(sample: ChangeSample, seed: int) -> None:
    first, second = (captions_of(sample, np.random.default_rng(seed)) for _ in range(2))
    assert first == second


# --- What each kind of change is called ---


def said(sample: ChangeSample) -> set[str]:
    """All that can be said, in many ways."""
    return {text for seed in range(40) for text in captions_of(sample, np.random.default_rng(seed), 300)}


def kinds(sample: ChangeSample) -> set[str]:
    record = record_of(sample)
    assert record is not None
    return {claim.kind for sentence in describe(record, np.random.default_rng(0), 400) for claim in sentence.claims}


def test_buildings_in_a_forest() -> None:
    sentences = said(pair("tree", [], [(box(4, 4, 20, 20), "building")]))
    assert "a group of buildings is built in the top left corner" in sentences
    assert any(re.match(r"some trees (are|have been) replaced by buildings", sentence) for sentence in sentences)
    assert any("surrounded by trees" in sentence or "amid trees" in sentence for sentence in sentences)
    assert not any("vegetation" in sentence or "water" in sentence for sentence in sentences)


def test_time_running_backwards_tells_the_opposite() -> None:
    sample = pair("tree", [], [(box(4, 4, 20, 20), "building")])
    sentences = said(sample.swapped())
    assert any(re.search(r"buildings (have disappeared|are removed)", sentence) for sentence in sentences)
    assert not any(re.search(r"buildings? (is|are|has been|have been) (built|constructed)", s) for s in sentences)
    assert not any(re.match(r"some trees (disappear|are removed|are replaced)", sentence) for sentence in sentences)


def test_nothing_changed_has_sentences_of_its_own() -> None:
    sentences = said(pair("tree", [(box(4, 4, 20, 20), "water")], []))
    assert len(sentences) >= SENTENCES
    assert "nothing has changed" in sentences
    assert not any(re.search(r"appear|replaced|built", sentence) for sentence in sentences)


def test_areas_are_counted_where_that_is_sure() -> None:
    apart = [(box(4, 4, 15, 15), "water"), (box(60, 60, 15, 15), "water")]
    assert any(
        sentence.startswith(("two water areas", "two areas of water")) for sentence in said(pair("tree", [], apart))
    )
    crumb = [*apart, (box(40, 40, 2, 2), "water")]
    assert not any(re.match(r"(one|two|three|several)\b", sentence) for sentence in said(pair("tree", [], crumb)))
    # A border that may or may not divide an area: two for certain, one if it counts.
    touching = [(box(20, 4, 40, 30), "water"), (box(20, 34, 40, 30), "water")]
    unsure = pair("tree", [], touching, fade=2)
    assert not any(re.match(r"(a|one|two) (large )?(water area|area of water)", sentence) for sentence in said(unsure))


def test_single_objects_are_counted_as_such() -> None:
    roofs = [(box(4, 4, 8, 8), "building"), (box(40, 40, 8, 8), "building"), (box(70, 10, 8, 8), "building")]
    real, engine = pair("bare ground", [], roofs, source="kampala"), pair("bare ground", [], roofs)
    assert any(sentence.startswith("three buildings") for sentence in said(real))
    assert not any(re.search(r"three buildings|a building", sentence) for sentence in said(engine))
    assert any(re.match(r"three (groups of buildings|built-up areas)", sentence) for sentence in said(engine))


def test_what_joins_more_of_its_kind_grows_and_does_not_appear() -> None:
    lake = pair("tree", [(box(10, 10, 30, 30), "water")], [(box(10, 40, 30, 20), "water")])
    assert kinds(lake) >= {"grew", "became"}
    assert any("has become larger" in sentence for sentence in said(lake))
    assert not any(
        re.search(r"water( area)? (appears|shows up|has appeared)", s) for s in said(lake) if "more" not in s
    )


def test_how_two_things_lie_is_told() -> None:
    two = pair("low vegetation", [], [(box(4, 4, 20, 20), "water"), (box(60, 60, 20, 20), "building")])
    sentences = said(two)
    assert kinds(two) >= {"left of", "above", "within", "where", "came"}
    assert any(re.fullmatch(r"the new (open )?water is on the left of the new buildings", s) for s in sentences)
    assert any(" and " in s and "water" in s and "building" in s for s in sentences)


def test_all_of_it_and_a_part_of_it_differ() -> None:
    grove = box(10, 10, 30, 30)
    cut, half = (
        pair("bare ground", [(grove, "tree")], [(grove, "water")]),
        pair("bare ground", [(grove, "tree")], [(box(10, 10, 15, 30), "water")]),
    )
    assert any(sentence.startswith("the trees") for sentence in said(cut))
    assert not any(sentence.startswith("the trees") for sentence in said(half))
    assert any(sentence.startswith("some trees") for sentence in said(half))


def test_where_the_ground_was_unknown_nothing_appears() -> None:
    unknown = pair(None, [], [(box(4, 4, 20, 20), "water")])
    sentences = said(unknown)
    assert len(sentences) >= SENTENCES
    assert "one area has changed in the top left corner" in sentences
    assert not any("water" in sentence for sentence in sentences)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: replace(s, known=s.known & ~box(70, 70, 20, 20)),
        lambda s: replace(s, known=s.known & ~box(26, 30, 2, 2)),
        lambda s: replace(s, cover_after=np.where(s.change, 0, s.cover_after).astype(np.uint8)),
        lambda s: replace(s, change=np.zeros_like(s.change), cover_after=s.cover_before, known=~box(0, 0, 3, 3)),
    ],
    ids=["far away", "near but apart", "what came", "no change elsewhere"],
)
def test_doubtful_samples_have_no_captions(spoil: object) -> None:
    sample = pair("tree", [], [(box(4, 4, 20, 20), "building")])
    assert captions_of(sample, np.random.default_rng(0))
    assert captions_of(spoil(sample), np.random.default_rng(0)) == ()  # type: ignore[operator]


def test_places_are_the_thirds_and_halves_of_the_picture() -> None:
    for place in _LEAST:
        expected = np.ones((SIDE, SIDE), dtype=bool) if place == "most" else in_place(place)
        assert np.array_equal(within(place, (SIDE, SIDE)), expected), place


def test_a_picture_that_is_all_new() -> None:
    sentences = said(pair("tree", [], [(box(0, 0, SIDE, SIDE), "water")]))
    assert len(sentences) >= SENTENCES
    assert not any("part" in sentence or "amid" in sentence for sentence in sentences)


def test_no_word_is_listed_that_is_never_said() -> None:
    roofs = [(box(4 + 16 * number, 4, 8, 8), "building") for number in range(6)]
    cases = [pair("bare ground", [], roofs[:few], source=name) for few in range(1, 7) for name in ("kampala", "made")]
    cases += [pair("tree", [], [(box(6, 6, 80, 80), "water")]), *made_samples(50)]
    said = {word for seed in range(4) for case in cases for text in _texts(case, seed) for word in text.split()}
    assert set(words()) - said == set()


def _texts(sample: ChangeSample, seed: int) -> tuple[str, ...]:
    return captions_of(sample, np.random.default_rng(seed), 200)


# --- Beside real captions ---


def test_statistics_compare_words_and_lengths() -> None:
    real = Corpus("real", (("a road is built", "a house appears"), ("nothing changed",)))
    ours = Corpus("ours", (("a road appears", "the road is wide"),))
    table = compared([ours, real])
    assert table["ours"]["sentences"] == 2
    assert table["ours"]["words"] == pytest.approx(3.5)
    assert table["ours"]["vocabulary"] == 6
    # Of our six words, "a", "road", "appears" and "is" are among the real ones: 5 of 7 that were said.
    assert table["ours"]["known to real"] == pytest.approx(5 / 7)
    assert table["real"]["known to ours"] == pytest.approx(5 / 9)


def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    main(made=20)
    out = capsys.readouterr().out
    assert "grammar" in out and "| sentences |" in out


def test_made_samples_can_be_described() -> None:
    assert sum(record_of(sample) is not None for sample in made_samples(20)) >= 15
