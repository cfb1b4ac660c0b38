"""Words, the three language decoders against their references, and the search for a sentence."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from earthgen.errors import InvalidRequestError, WeightsError
from perception.caption_decoders import DecoderConfig, Kind, Nothing, build, caption_loss, padded, search
from perception.rscama import _own_decoder, _turn
from perception.vocabulary import END, MARKS, NULL, START, UNKNOWN, Vocabulary, words_of

KINDS: tuple[Kind, ...] = ("transformer", "gpt", "mamba")


def config(kind: Kind, words: int = 11, longest: int = 8) -> DecoderConfig:
    return DecoderConfig(words, width=16, kind=kind, layers=2, heads=2, gpt_heads=2, longest=longest)


def tokens(count: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, 5, 16, generator=torch.Generator().manual_seed(seed))


# --- Words ---


def test_a_vocabulary_begins_with_its_marks() -> None:
    with pytest.raises(InvalidRequestError, match="begins with"):
        Vocabulary(("a", "b"))
    with pytest.raises(InvalidRequestError, match="'a' twice"):
        Vocabulary((*MARKS, "a", "a"))


def test_words_are_lower_case_and_without_full_stops() -> None:
    assert words_of("A road, is built? in the Woods.") == ("a", "road", ",", "is", "built", "in", "the", "woods")


def test_rare_words_are_unknown_and_long_sentences_are_cut() -> None:
    words = Vocabulary.of_sentences(["a house appears", "a house", "a road"], least=2)
    assert words.words == (*MARKS, "a", "house")
    assert words.encode("a big house", 10) == [START, 4, UNKNOWN, 5, END]
    assert words.encode("a a a a a", 4) == [START, 4, 4, END]
    assert words.decode([4, NULL, 5, END, 4]) == ("a", "house")


@given(st.lists(st.text("abc ,.?", max_size=30), min_size=1, max_size=5))
def test_what_is_encoded_comes_back(sentences: list[str]) -> None:
    words = Vocabulary.of_sentences(sentences)
    for sentence in sentences:
        numbers = words.encode(sentence, 100)
        assert words.decode(numbers[1:]) == words_of(sentence)
        assert UNKNOWN not in numbers


@pytest.mark.parametrize(
    "text", ["no json", "[1]", '{"<NULL>": 0}', json.dumps({word: 2 * i for i, word in enumerate(MARKS)}), '{"a": "b"}']
)
def test_a_file_that_is_no_vocabulary_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "vocab.json").write_text(text)
    with pytest.raises(WeightsError, match=r"vocab\.json is no vocabulary"):
        Vocabulary.read(tmp_path / "vocab.json")
    with pytest.raises(WeightsError, match="no vocabulary at"):
        Vocabulary.read(tmp_path / "other.json")


# --- Decoders ---


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_no_word_sees_a_later_one_and_all_see_the_picture(kind: Kind) -> None:
    torch.manual_seed(0)
    decoder = build(config(kind)).eval()
    words = torch.tensor([[START, 5, 6, 7], [START, 8, 9, 10]])
    logits = decoder(tokens(), words)
    other = words.clone()
    other[:, 3] = 4
    assert torch.allclose(decoder(tokens(), other)[:, :3], logits[:, :3], atol=1e-6)
    assert not torch.allclose(decoder(tokens(), other)[:, 3], logits[:, 3], atol=1e-3)
    assert (decoder(tokens(seed=1), words) - logits).abs().amax(dim=(0, 2)).min() > 1e-3
    assert torch.allclose(decoder(tokens()[1:], words[1:]), logits[1:], atol=1e-5)
    with pytest.raises(InvalidRequestError, match="at most 8 fit"):
        decoder(tokens(), words.repeat(1, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_reach_every_parameter(kind: Kind) -> None:
    torch.manual_seed(0)
    decoder = build(config(kind))
    words = torch.tensor([[START, 5, 6, END], [START, 8, END, NULL]])
    caption_loss(decoder(tokens(), words[:, :-1]), words).backward()
    silent = [name for name, value in decoder.named_parameters() if value.grad is None or not value.grad.any()]
    assert silent == []


def test_the_loss_is_that_of_packed_sequences() -> None:
    words = torch.tensor([[START, 5, 6, END], [START, 8, END, NULL]])
    logits = torch.randn(2, 3, 11, generator=torch.Generator().manual_seed(0))
    lengths = [3, 2]
    packed = nn.utils.rnn.pack_padded_sequence(logits, torch.tensor(lengths), batch_first=True).data
    targets = nn.utils.rnn.pack_padded_sequence(words[:, 1:], torch.tensor(lengths), batch_first=True).data
    assert torch.allclose(caption_loss(logits, words), F.cross_entropy(packed, targets))


def test_sentences_are_filled_up() -> None:
    assert padded([[2, 5, 3], [2, 3]]).tolist() == [[2, 5, 3], [2, 3, 0]]


@torch.no_grad()
def test_the_gpt_block_is_that_of_gpt_2() -> None:
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    reference = GPT2Model(GPT2Config(vocab_size=3, n_layer=1, n_embd=16, n_head=2)).train(False)
    for parameter in reference.parameters():
        nn.init.normal_(parameter, std=0.3)
    decoder = build(DecoderConfig(11, width=16, kind="gpt", gpt_heads=2)).eval()
    layer = decoder.layers[0]
    public = {f"GPT.0.{name}": tensor for name, tensor in reference.state_dict().items()}
    state = {_own_decoder(name).removeprefix("layers.0."): _turn(name, tensor) for name, tensor in public.items()}
    state = {name: tensor for name, tensor in state.items() if name in layer.state_dict()}
    layer.load_state_dict(state)
    expected = reference(inputs_embeds=tokens()).last_hidden_state
    assert torch.allclose(layer(tokens()), expected, atol=1e-5)


@torch.no_grad()
def test_the_mamba_block_is_that_of_mamba() -> None:
    from transformers import MambaConfig, MambaModel

    torch.manual_seed(0)
    settings = MambaConfig(vocab_size=3, num_hidden_layers=1, hidden_size=16, state_size=16, layer_norm_epsilon=1e-5)
    reference = MambaModel(settings).train(False)
    for name, parameter in reference.named_parameters():
        if "A_log" not in name:
            nn.init.normal_(parameter, std=0.3)
    decoder = build(DecoderConfig(11, width=16, kind="mamba")).eval()
    layer = decoder.layers[0]
    public = {f"Mamba.0.{name}": tensor for name, tensor in reference.state_dict().items()}
    state = {_own_decoder(name).removeprefix("layers.0."): tensor for name, tensor in public.items()}
    layer.load_state_dict({name: tensor for name, tensor in state.items() if "embeddings" not in name})
    expected = reference(inputs_embeds=tokens()).last_hidden_state
    assert torch.allclose(layer(tokens()), expected, atol=1e-5)


@torch.no_grad()
def test_the_transformer_layer_adds_its_input_once_more() -> None:
    torch.manual_seed(0)
    decoder = build(DecoderConfig(11, width=16, heads=2)).eval()
    layer = decoder.layers[0]
    reference = nn.TransformerDecoderLayer(16, 2, dim_feedforward=64, batch_first=True).eval()
    reference.load_state_dict(layer.state_dict())
    words = tokens(seed=3)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    assert torch.allclose(layer(words, tokens()), reference(words, tokens(), tgt_mask=mask) + words, atol=1e-5)


# --- Search ---


class Table(nn.Module):
    """A decoder of which every sentence's probability is known: the next word depends on the last one alone."""

    def __init__(self, logits: torch.Tensor, longest: int) -> None:
        super().__init__()
        self.logits = logits
        self.config = DecoderConfig(len(logits), longest=longest)

    def forward(self, tokens: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        return self.logits[words] + tokens[:, :1, :1] * 0


def all_sentences(table: Table) -> dict[tuple[int, ...], float]:
    """Every sentence that ends within the limit, and its log probability."""
    logits = table.logits.clone()
    logits[:, [NULL, START]] = -math.inf
    steps = logits.log_softmax(dim=-1)
    found = {}
    words = [UNKNOWN, *range(4, len(logits))]
    for count in range(table.config.longest - 1):
        for sentence in itertools.product(words, repeat=count):
            whole = (START, *sentence, END)
            found[sentence] = float(sum(steps[a, b] for a, b in itertools.pairwise(whole)))
    return found


@given(st.integers(0, 10_000))
def test_a_wide_beam_finds_the_likeliest_sentence(seed: int) -> None:
    table = Table(torch.randn(6, 6, generator=torch.Generator().manual_seed(seed)) * 2, longest=4)
    sentences = all_sentences(table)
    (found,) = search(table, torch.zeros(1, 1, 1), beams=27)  # type: ignore[arg-type]
    best = max(sentences, key=sentences.__getitem__)
    assert found.log_probability == pytest.approx(sentences[best], abs=1e-4)
    assert found.ended and found.log_probability == pytest.approx(sentences[found.numbers], abs=1e-4)


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_what_a_search_reports_is_the_sentences_probability(seed: int, beams: int) -> None:
    table = Table(torch.randn(7, 7, generator=torch.Generator().manual_seed(seed)) * 2, longest=5)
    (found,) = search(table, torch.zeros(1, 1, 1), beams=beams)  # type: ignore[arg-type]
    assert not set(found.numbers) & {NULL, START, END}
    if found.ended:
        assert found.log_probability == pytest.approx(all_sentences(table)[found.numbers], abs=1e-4)
    else:
        assert len(found.numbers) == 4


@given(st.integers(0, 10_000))
def test_sentences_that_say_nothing_changed_are_judged_together(seed: int) -> None:
    table = Table(torch.randn(6, 6, generator=torch.Generator().manual_seed(seed)) * 2, longest=4)
    sentences = all_sentences(table)
    nothing = sorted(sentences)[1 + seed % 3 :: 3]
    together = sum(math.exp(sentences[some]) for some in nothing)
    (found,) = search(table, torch.zeros(1, 1, 1), beams=27, nothing=[(*some, END) for some in nothing])  # type: ignore[arg-type]
    allowed = {some: score for some, score in sentences.items() if (some in nothing) == (together >= 0.5)}
    assert found.numbers in allowed
    assert found.log_probability == pytest.approx(sentences[found.numbers], abs=1e-3)
    if together < 0.5:
        assert found.log_probability == pytest.approx(max(allowed.values()), abs=1e-3)


def test_of_sentences_that_mean_the_same_the_most_ordinary_one_is_said() -> None:
    ordinary, longer, other = (5, 6, 7, END), (5, 6, 8, 9, END), (8, 9, END)

    def log_probabilities(*chances: float) -> list[list[float]]:
        return [[math.log(chance)] for chance in chances]

    def said(*chances: float) -> tuple[int, ...]:
        return Nothing([ordinary, longer, other], log_probabilities(*chances)).said()[0]

    # The other one is the likeliest, but what the first two share is likelier.
    assert said(0.3, 0.3, 0.35) == longer
    assert said(0.9, 0.02, 0.02) == ordinary
    assert said(0.02, 0.02, 0.9) == other
    score = Nothing([ordinary], log_probabilities(0.5)).said()[1]
    assert score == pytest.approx(math.log(0.5))


def test_one_beam_takes_the_likeliest_word_at_each_step() -> None:
    torch.manual_seed(0)
    decoder = build(config("transformer")).eval()
    both = search(decoder, tokens())
    words = torch.tensor([[START]])
    for _ in range(7):
        logits = decoder(tokens()[:1], words)[:, -1]
        logits[:, [NULL, START]] = -math.inf
        words = torch.cat([words, logits.argmax(dim=-1, keepdim=True)], dim=1)
        if words[0, -1] == END:
            break
    expected = words[0, 1:].tolist()
    assert list(both[0].numbers) == (expected[:-1] if expected[-1] == END else expected)
    assert search(decoder, tokens()[1:])[0].numbers == both[1].numbers


@pytest.mark.parametrize("beams", [0, 33])
def test_a_beam_that_is_none_is_refused(beams: int) -> None:
    with pytest.raises(InvalidRequestError, match=f"{beams} beams"):
        search(build(config("gpt")).eval(), tokens(), beams)
