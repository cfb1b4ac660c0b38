"""Language decoders of change captioning models: what was seen, as tokens, becomes a sentence.

RSCaMa (Liu et al., IEEE GRSL 2024, arXiv 2404.18895, section II-D) compares three, each with one layer: a Transformer
that attends to the visual tokens, and a GPT-2 or a Mamba block that reads them as the words before the sentence.
Change-Agent's MCI has the first. All answer one call, and one greedy and one beam search serve them all.

Names of parameters are those of the authors' code, of GPT-2 and of Mamba, so that public checkpoints map onto them.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import nn

from earthgen.errors import InvalidRequestError
from perception.mamba import Direction, project, project_back
from perception.vocabulary import END, NULL, START

Kind = Literal["transformer", "gpt", "mamba"]
MOST_BEAMS = 32


@dataclass(frozen=True, slots=True)
class DecoderConfig:
    """Sizes of a decoder.

    Attributes:
        words: entries of the vocabulary.
        width: C of visual tokens and words.
        kind: which decoder.
        layers: how many.
        heads: of the Transformer's attentions.
        gpt_heads: of the GPT-2 block.
        longest: most words of a sentence, marks included.
        dropout: while training.
    """

    words: int
    width: int = 768
    kind: Kind = "transformer"
    layers: int = 1
    heads: int = 8
    gpt_heads: int = 12
    longest: int = 42
    dropout: float = 0.1


class CaptionDecoder(nn.Module, ABC):
    """The next word after each word of a sentence, given visual tokens.

    Args:
        config: its sizes.
    """

    position: torch.Tensor

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.vocab_embedding = nn.Embedding(config.words, config.width)
        self.register_buffer("position", _sinusoids(config.longest, config.width), persistent=False)
        self.enter = nn.Dropout(config.dropout)
        self.layers = nn.ModuleList(self._layer(config) for _ in range(config.layers))
        self.leave = nn.Dropout(config.dropout)
        self.wdc = nn.Linear(config.width, config.words)
        nn.init.uniform_(self.vocab_embedding.weight, -0.1, 0.1)
        nn.init.uniform_(self.wdc.weight, -0.1, 0.1)
        nn.init.zeros_(self.wdc.bias)

    @abstractmethod
    def _layer(self, config: DecoderConfig) -> nn.Module: ...

    @abstractmethod
    def _read(self, tokens: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Visual tokens (b, l, c) and embedded words (b, n, c) to states (b, n, c)."""

    def forward(self, tokens: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """Predict.

        Args:
            tokens: (b, l, c), what was seen.
            words: long (b, n), n at most `config.longest`; what comes later has no influence on what comes before.

        Returns:
            (b, n, words), logits of the word after each.

        Raises:
            InvalidRequestError: the sentence is too long.
        """
        count = words.shape[1]
        if count > self.config.longest:
            raise InvalidRequestError(f"a sentence of {count} words was given; at most {self.config.longest} fit")
        embedded = self.enter(self.vocab_embedding(words) + self.position[:count])
        logits: torch.Tensor = self.wdc(self.leave(self._read(tokens, embedded)))
        return logits


def _sinusoids(longest: int, width: int) -> torch.Tensor:
    """Position embeddings (longest, width) of Vaswani et al., arXiv 1706.03762, section 3.5."""
    places = torch.arange(longest).float()[:, None]
    rates = torch.exp(torch.arange(0, width, 2).float() * (-math.log(10_000.0) / width))
    table = torch.zeros(longest, width)
    table[:, 0::2] = torch.sin(places * rates)
    table[:, 1::2] = torch.cos(places * rates)
    return table


# --- Transformer ---


class CrossLayer(nn.Module):
    """A Transformer decoder layer, norms last, with one more residual around all of it."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width, heads, dropout = config.width, config.heads, config.dropout
        self.self_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(width)
        self.multihead_attn = nn.MultiheadAttention(width, heads, dropout, batch_first=True)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)
        self.norm3 = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, words: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        """(b, n, c) and (b, l, c) to (b, n, c)."""
        later = torch.ones(words.shape[1], words.shape[1], dtype=torch.bool, device=words.device).triu(1)
        said = self.self_attn(words, words, words, attn_mask=later, need_weights=False)[0]
        x = self.norm1(words + self.dropout(said))
        seen = self.multihead_attn(x, tokens, tokens, need_weights=False)[0]
        x = self.norm2(x + self.dropout(seen))
        wide = self.dropout(F.relu(self.linear1(x)))
        x = self.norm3(x + self.dropout(self.linear2(wide)))
        out: torch.Tensor = x + words
        return out


class TransformerDecoder(CaptionDecoder):
    """Words attend to each other and to the visual tokens."""

    def _layer(self, config: DecoderConfig) -> nn.Module:
        return CrossLayer(config)

    def _read(self, tokens: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            words = layer(words, tokens)
        return words


# --- GPT-2 and Mamba: the visual tokens are the words before the sentence ---


class GptLayer(nn.Module):
    """A GPT-2 model of one block: learned positions, norms first, a norm at the end (Radford et al. 2019)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width = config.width
        self.heads, self.rate = config.gpt_heads, config.dropout
        self.wpe = nn.Embedding(1024, width)
        self.ln_1 = nn.LayerNorm(width)
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width)
        self.ln_2 = nn.LayerNorm(width)
        self.c_fc = nn.Linear(width, 4 * width)
        self.mlp_proj = nn.Linear(4 * width, width)
        self.ln_f = nn.LayerNorm(width)
        self.dropout = nn.Dropout(config.dropout)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, l, c) to the same shape; no position sees a later one.

        Raises:
            InvalidRequestError: more than 1024 tokens and words.
        """
        batch, length, width = x.shape
        if length > self.wpe.num_embeddings:
            raise InvalidRequestError(
                f"the GPT-2 block was given {length} tokens and words; at most {self.wpe.num_embeddings} fit"
            )
        x = self.dropout(x + self.wpe.weight[:length])
        q, k, v = (
            part.view(batch, length, self.heads, -1).transpose(1, 2)
            for part in self.c_attn(self.ln_1(x)).chunk(3, dim=-1)
        )
        rate = self.rate if self.training else 0.0
        said = F.scaled_dot_product_attention(q, k, v, dropout_p=rate, is_causal=True)
        x = x + self.dropout(self.c_proj(said.transpose(1, 2).reshape(batch, length, width)))
        x = x + self.dropout(self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x)), approximate="tanh")))
        out: torch.Tensor = self.ln_f(x)
        return out


class MambaLayer(nn.Module):
    """A Mamba model of one block: norm, gated scan with a skip, a norm at the end (arXiv 2312.00752, section 3.4)."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        width = config.width
        self.norm = nn.RMSNorm(width, eps=1e-5)
        self.in_proj = nn.Linear(width, 4 * width, bias=False)
        self.scan = Direction(2 * width, states=16, rank=math.ceil(width / 16), kernel=4)
        self.out_proj = nn.Linear(2 * width, width, bias=False)
        self.norm_f = nn.RMSNorm(width, eps=1e-5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, l, c) to the same shape; no position sees a later one."""
        value, gate = project(self.in_proj.weight, self.norm(x)).chunk(2, dim=1)
        scanned = self.scan(value, backwards=False) * F.silu(gate)
        out: torch.Tensor = self.norm_f(x + project_back(self.out_proj.weight, scanned))
        return out


class PrefixDecoder(CaptionDecoder):
    """Each layer reads visual tokens and words as one sequence."""

    def _read(self, tokens: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        x = torch.cat([tokens, words], dim=1)
        for layer in self.layers:
            x = layer(x)
        return x[:, tokens.shape[1] :]


class GptDecoder(PrefixDecoder):
    """GPT-2 blocks."""

    def _layer(self, config: DecoderConfig) -> nn.Module:
        return GptLayer(config)


class MambaDecoder(PrefixDecoder):
    """Mamba blocks."""

    def _layer(self, config: DecoderConfig) -> nn.Module:
        return MambaLayer(config)


def build(config: DecoderConfig) -> CaptionDecoder:
    """The decoder that a configuration names."""
    kinds: dict[Kind, type[CaptionDecoder]] = {
        "transformer": TransformerDecoder,
        "gpt": GptDecoder,
        "mamba": MambaDecoder,
    }
    return kinds[config.kind](config)


def caption_loss(logits: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """Cross entropy of each next word, the mean over all words of the batch, as packed sequences give it.

    Args:
        logits: (b, n, words), from all but the last of the words.
        words: long (b, n + 1), START to END, then NULL.
    """
    return F.cross_entropy(logits.transpose(1, 2), words[:, 1:], ignore_index=NULL)


def padded(sentences: Sequence[Sequence[int]]) -> torch.Tensor:
    """Encoded sentences as long (b, n), filled up with NULL."""
    longest = max(map(len, sentences))
    return torch.tensor([[*sentence, *[NULL] * (longest - len(sentence))] for sentence in sentences])


# --- Search ---


@dataclass(frozen=True, slots=True)
class Sentence:
    """What a search found.

    Attributes:
        numbers: of the words, without START and END.
        log_probability: of the whole sentence, its end included.
        ended: whether it came to its end before the limit.
    """

    numbers: tuple[int, ...]
    log_probability: float
    ended: bool


class Nothing:
    """Sentences that all say that nothing changed, and how likely they are together.

    There are few ways to say so and many to say what changed. A search for the one likeliest sentence therefore says
    that nothing changed where a model believes the opposite. Here the sum of the former decides, and otherwise their
    probability is taken from that of the words with which they begin: what is left is the exact distribution of
    sentences that say that something changed.

    Args:
        sentences: numbers of their words, END included.
        scores: log probability of each of these, given those before it.
    """

    def __init__(self, sentences: Sequence[Sequence[int]], scores: Sequence[Sequence[float]]) -> None:
        self._scores = [
            (tuple(sentence), tuple(some)) for sentence, some in zip(sentences, scores, strict=True) if len(sentence)
        ]

    @property
    def probability(self) -> float:
        """Of all of them together."""
        return sum(math.exp(sum(scores)) for _, scores in self._scores)

    def said(self) -> tuple[tuple[int, ...], float]:
        """The sentence to say, END included, and its log probability.

        They all mean the same, so it is not the likeliest but the one that has most words in common with all of them,
        each weighed by its probability (minimum Bayes risk, Kumar and Byrne 2004): a model that hesitates between
        seven ways to say so then says the most ordinary one, always.
        """

        def agreement(sentence: tuple[int, ...]) -> float:
            return sum(math.exp(sum(scores)) * _in_common(sentence, other) for other, scores in self._scores)

        return max(
            ((sentence, sum(scores)) for sentence, scores in self._scores), key=lambda one: (agreement(one[0]), one[1])
        )

    def without(self, begun: Sequence[int], log_probabilities: torch.Tensor) -> torch.Tensor:
        """Log probabilities (words,) of the word after `begun`, given that the sentence will be none of these."""
        begun, at = tuple(begun), len(begun)
        shares: dict[int, float] = {}
        for sentence, scores in self._scores:
            if len(sentence) > at and sentence[:at] == begun:
                shares[sentence[at]] = shares.get(sentence[at], 0.0) + math.exp(sum(scores[at:]))
        if not shares:
            return log_probabilities
        left = log_probabilities.exp()
        for word, share in shares.items():
            left[word] = (left[word] - share).clamp(min=0)
        return (left / left.sum().clamp(min=1e-12)).log()


def _in_common(one: Sequence[int], other: Sequence[int]) -> float:
    """F1 of two sentences' words."""
    return 2 * (Counter(one) & Counter(other)).total() / (len(one) + len(other))


def score_sentences(
    decoder: CaptionDecoder, tokens: torch.Tensor, sentences: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Log probability of each word of sentences, END included, given visual tokens (1, l, c)."""
    rows = padded([[START, *sentence] for sentence in sentences]).to(tokens.device)
    logits = decoder(tokens.expand(len(rows), -1, -1), rows[:, :-1]).float()
    logits[..., [NULL, START]] = -math.inf
    found = logits.log_softmax(dim=-1).gather(2, rows[:, 1:, None])[..., 0].tolist()
    return [row[: len(sentence)] for row, sentence in zip(found, sentences, strict=True)]


@torch.inference_mode()
def search(
    decoder: CaptionDecoder, tokens: torch.Tensor, beams: int = 1, nothing: Sequence[Sequence[int]] = ()
) -> list[Sentence]:
    """The likeliest sentence for each sample that a search finds; with one beam, the likeliest word at each step.

    Sentences that ended leave the beam, as in the authors' code; scores are sums, so a wide beam prefers short ones.

    Args:
        decoder: in evaluation mode.
        tokens: (b, l, c).
        beams: sentences that are followed at once, 1 to MOST_BEAMS.
        nothing: sentences that say that nothing changed, numbers with END: they are judged together (`Nothing`).

    Raises:
        InvalidRequestError: a number of beams out of range.
    """
    if not 1 <= beams <= MOST_BEAMS:
        raise InvalidRequestError(f"{beams} beams were asked for; 1 to {MOST_BEAMS} are allowed")
    return [_search_one(decoder, tokens[index : index + 1], beams, nothing) for index in range(len(tokens))]


def _search_one(
    decoder: CaptionDecoder, tokens: torch.Tensor, beams: int, nothing: Sequence[Sequence[int]]
) -> Sentence:
    unchanged = Nothing(nothing, score_sentences(decoder, tokens, nothing)) if nothing else None
    if unchanged is not None and unchanged.probability >= 0.5:
        numbers, score = unchanged.said()
        return Sentence(numbers[:-1], score, True)
    sentences = torch.full((1, 1), START, device=tokens.device)
    scores = torch.zeros(1, device=tokens.device)
    if unchanged is not None:
        scores = scores + math.log1p(-unchanged.probability)
    ended: list[Sentence] = []
    for _ in range(decoder.config.longest - 1):
        logits = decoder(tokens.expand(len(sentences), -1, -1), sentences)[:, -1].float()
        # Marks that no sentence holds.
        logits[:, [NULL, START]] = -math.inf
        following = logits.log_softmax(dim=-1)
        if unchanged is not None:
            begun = sentences[:, 1:].tolist()
            following = torch.stack([unchanged.without(*row) for row in zip(begun, following, strict=True)])
        totals = (scores[:, None] + following).flatten()
        best, at = totals.topk(min(beams - len(ended), len(totals)))
        word = at % decoder.config.words
        sentences = torch.cat([sentences[at // decoder.config.words], word[:, None]], dim=1)
        over = word == END
        ended += [
            Sentence(tuple(numbers[1:-1]), float(score), True)
            for numbers, score in zip(sentences[over].tolist(), best[over], strict=True)
        ]
        sentences, scores = sentences[~over], best[~over]
        if len(ended) >= beams or not len(sentences):
            break
    if not ended:
        return Sentence(tuple(sentences[0, 1:].tolist()), float(scores[0]), False)
    return max(ended, key=lambda sentence: sentence.log_probability)
