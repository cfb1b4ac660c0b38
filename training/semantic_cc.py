"""Train a small Semantic-CC: its three stages, and before them stand-ins for what SAM and Vicuna bring along.

    for stage in language cover detection caption dual; do
        python -m training.semantic_cc --stage $stage --deck runs/deck --pairs runs/pairs --out runs/semantic-cc
    done

- `language`: a language model of two layers over the grammar's words learns to say the same in other words. It reads
  two sentences about a card where pictures will stand, and answers with a third. With `--language` another model takes
  its place and this stage is left out; `detection` hears no language model, so `caption` may take another than it had.
- `cover`: the encoder, tiny and of SAM's shape, learns the land cover of single dates, as SAM has learnt to segment.
- `detection`, `caption`, `dual`: those of the paper. Encoder and language model stand still but for their corrections.

Each stage has a folder of its own below `--out`, begins with the weights of the stage before and goes on from its own
checkpoint if it was stopped. `--unguided` trains captions without the guidance of detection, for comparison.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
import typer
from einops import rearrange
from torch import nn
from tqdm import tqdm

from perception import semantic_cc
from perception.checkpoint import fill, read_network
from perception.metrics import binary_confusion, binary_scores
from perception.semantic_cc import LANGUAGE, QUESTION, SemanticCC, SemanticCCInterpreter, Speaker
from training.caption_deck import Deck, Described
from training.change import pair_of
from training.change_caption import held_out_pairs, order_of, scores_of, seen_levels
from training.ema import update_ema
from training.run import Run
from trainingsets.change_captions import NOTHING, words
from trainingsets.changes import CLASSES, batch_of, generator

Stage = Literal["language", "cover", "detection", "caption", "dual"]
STAGES: tuple[Stage, ...] = get_args(Stage)
_WIDTH = 128
_ANSWER = "###Answer:"
_CHECKED = 24


@dataclass(frozen=True, slots=True)
class Settings:
    """Numbers of a run.

    Attributes:
        batch: cards in a step.
        rate: learning rate of AdamW.
        half_life: of the averaged weights, in cards.
        bfloat16: whether products of matrices are of bfloat16, which pays on processors that have it.
        seed: of the cards' order and of weights.
    """

    batch: int = 16
    rate: float = 1e-3
    half_life: int = 800
    bfloat16: bool = False
    seed: int = 0


# --- A language model of the grammar ---


def tiny_tokenizer() -> Any:
    """A tokenizer of transformers whose tokens are the words of the grammar and of the question."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    asked = f"###Ask: <Img> </Img> {QUESTION} {_ANSWER} ,".split()
    tokens = ["<unk>", "<s>", "</s>", *dict.fromkeys([*asked, *words()])]
    plain = Tokenizer(models.WordLevel({token: number for number, token in enumerate(tokens)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=plain, unk_token="<unk>", bos_token="<s>", eos_token="</s>")


def tiny_language(tokens: int) -> Any:
    """A causal language model of transformers with two layers, random."""
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = LlamaConfig(
        vocab_size=tokens, hidden_size=_WIDTH, intermediate_size=2 * _WIDTH, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=2,
        tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(settings)


def paraphrases(tokenizer: Any, sentences: Sequence[str], random: np.random.Generator) -> tuple[list[int], int]:
    """Tokens of two sentences about one pair and of a third as the answer, and where the answer begins."""
    chosen = [sentences[int(number)] for number in random.permutation(len(sentences))[:3]]
    *told, answer = chosen if len(chosen) == 3 else (chosen * 3)[:3]
    asked = f"<s> ###Ask: <Img> {' , '.join(told)} </Img> {QUESTION} {_ANSWER}"
    numbers: list[int] = tokenizer(asked, add_special_tokens=False)["input_ids"]
    said: list[int] = tokenizer(f"{answer} </s>", add_special_tokens=False)["input_ids"]
    return numbers + said, len(numbers)


def learn_language(deck: Deck, cards: int, out: Path, settings: Settings, images: int) -> float:
    """Train the tiny language model and write it to `out`; the mean loss of the last tenth.

    It takes a minute, so it is not stopped and resumed as the stages with pictures are.
    """
    torch.manual_seed(settings.seed)
    tokenizer = tiny_tokenizer()
    language = tiny_language(len(tokenizer)).train()
    optimiser = torch.optim.AdamW(language.parameters(), lr=settings.rate, weight_decay=0.01)
    numbers_of, batch = order_of(settings.seed, cards), 2 * settings.batch
    losses: list[float] = []
    steps = images // batch
    for step in tqdm(range(steps), unit="step"):
        for group in optimiser.param_groups:
            group["lr"] = settings.rate * min(1.0, 2 * (1 - step / steps))
        random = generator(settings.seed, step, 5)
        rows = [paraphrases(tokenizer, deck.captions(number), random) for number in numbers_of(step, batch)]
        tokens = nn.utils.rnn.pad_sequence([torch.tensor(row) for row, _ in rows], batch_first=True, padding_value=2)
        answers = torch.full_like(tokens, -100)
        for index, (row, begin) in enumerate(rows):
            answers[index, begin : len(row)] = tokens[index, begin : len(row)]
        logits = language(input_ids=tokens).logits
        loss = F.cross_entropy(logits[:, :-1].transpose(1, 2), answers[:, 1:], ignore_index=-100)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        losses.append(float(loss.detach()))
    language.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    return float(np.mean(losses[-max(1, steps // 10) :]))


# --- The stages with pictures ---


class CoverHead(nn.Conv2d):
    """Land cover of each patch, read off the encoder's map by one layer."""

    def __init__(self, width: int) -> None:
        super().__init__(width, len(CLASSES), 1)

    def loss(self, maps: torch.Tensor, cover: torch.Tensor) -> torch.Tensor:
        """Cross entropy.

        Args:
            maps: (b, width, h, w).
            cover: uint8 (b, H, W), 0 unknown or 1 + class; a patch is what its middle is.
        """
        stride = cover.shape[1] // maps.shape[2]
        codes = cover[:, stride // 2 :: stride, stride // 2 :: stride].long() - 1
        return F.cross_entropy(self(maps).float(), codes, ignore_index=-1)


def begin(stage: Stage, out: Path, language: Path, unguided: bool, seed: int) -> tuple[SemanticCC, Any]:
    """The network with which a stage begins, and its tokenizer.

    Raises:
        FileNotFoundError: the stage before has not been run.
    """
    if stage == "cover":
        model, tokenizer = semantic_cc.open_language(language)
        torch.manual_seed(seed)
        width = model.get_input_embeddings().embedding_dim
        return SemanticCC(replace(semantic_cc.small(width), nothing=NOTHING), model), tokenizer
    weights = out / STAGES[STAGES.index(stage) - 1] / "weights"
    if not weights.is_dir():
        raise FileNotFoundError(f"no {weights}; run the stage {STAGES[STAGES.index(stage) - 1]} first")
    net, tokenizer = semantic_cc.load(weights, language) if stage != "caption" else speaking(weights, language)
    if not unguided:
        return net, tokenizer
    model, tokenizer = semantic_cc.open_language(language)
    free = SemanticCC(replace(net.config, guided=False), model)
    free.load_state_dict({name: value for name, value in net.state_dict().items() if ".guidance." not in name})
    return free, tokenizer


def speaking(weights: Path, language: Path) -> tuple[SemanticCC, Any]:
    """What detection has learnt, before a language model of any size: it heard none."""
    config, state = read_network(weights, semantic_cc.NAME, semantic_cc.SemanticCCConfig)
    model, tokenizer = semantic_cc.open_language(language)
    net = SemanticCC(replace(config, language_width=model.get_input_embeddings().embedding_dim), model)
    fresh = {name: value for name, value in net.state_dict().items() if name.startswith(("language.", "prefix."))}
    seen = {name: value for name, value in state.items() if not name.startswith(("language.", "prefix."))}
    fill(net, seen | fresh, weights)
    return net, tokenizer


def moved(net: SemanticCC, stage: Stage) -> None:
    """Let a stage move what it moves, and nothing else."""
    if stage == "cover":
        net.requires_grad_(False)
        for name, parameter in net.encoder.named_parameters():
            parameter.requires_grad_(".lora_" not in name and not name.startswith("fusions."))
        return
    assert stage != "language"
    tuned = {id(parameter) for parameter in semantic_cc.tuned_parameters(net, stage)}
    for parameter in net.parameters():
        parameter.requires_grad_(id(parameter) in tuned)


def loss_of(
    net: SemanticCC, head: CoverHead, speaker: Speaker, stage: Stage, deck: Deck, numbers: Sequence[int]
) -> torch.Tensor:
    """The loss of a step, on what the frozen part of the stem sees of its cards."""
    drawn = [deck.card(number) for number in numbers]
    batch = batch_of([one.sample for one in drawn])
    assert net.encoder.stem is not None
    seen = net.encoder.stem.joined(seen_levels(deck, numbers))
    if stage == "cover":
        cover = rearrange(batch.cover, "b t h w -> (t b) h w")
        return head.loss(net.encoder.alone(seen), cover)
    assert stage != "language"
    captions = [one.captions for one in drawn]
    return semantic_cc.loss(net, stage, seen, batch.change, speaker, captions, batch.known)


@torch.no_grad()
def measure(net: SemanticCC, tokenizer: Any, stage: Stage, held_out: Sequence[Described]) -> dict[str, float]:
    """F1 of change, and scores of captions once they have been learnt."""
    if stage == "cover":
        return {}
    interpreter = SemanticCCInterpreter(net, tokenizer)
    pairs = [pair_of(one.sample) for one in held_out]
    counts = np.zeros((2, 2), dtype=np.int64)
    for pair, one in zip(pairs, held_out, strict=True):
        counts += binary_confusion(interpreter.detect(pair).mask, one.sample.change, one.sample.known)
    found = {"f1": round(binary_scores(counts).f1, 4)}
    if stage == "detection":
        return found
    return found | scores_of([interpreter.caption(pair).text for pair in pairs], held_out)


def train(
    stage: Stage,
    deck: Deck,
    cards: int,
    held_out: Sequence[Described],
    out: Path,
    language: Path,
    settings: Settings,
    images: int,
    minutes: float,
    tick_images: int,
    unguided: bool = False,
) -> None:
    """Run, or go on with, a stage with pictures; weights are in `out/STAGE/weights` after each tick.

    Args:
        stage: not "language".
        deck: to learn from.
        cards: how many of it.
        held_out: to look at after each tick.
        out: folder of all stages.
        language: folder or file of the language model.
        settings: numbers.
        images: cards in all after which to stop.
        minutes: of this call after which to stop.
        tick_images: cards between two lines of the log.
        unguided: caption without guidance, in the folder `caption-unguided`.
    """
    net, tokenizer = begin(stage, out, language, unguided, settings.seed)
    folder = out / (f"{stage}-unguided" if unguided else stage)
    moved(net, stage)
    net.train()
    assert net.language is not None
    net.language.train(False)
    speaker, head = Speaker(net, tokenizer), CoverHead(net.config.map_width)
    average = copy.deepcopy(net).eval().requires_grad_(False)
    learning: dict[str, nn.Module] = {"net": net} | ({"head": head} if stage == "cover" else {})
    run = Run(folder, learning, dict.fromkeys(learning, settings.rate), (0.9, 0.99), average)
    state = run.resume()
    seconds = 0.0 if state is None else float(state["cpu_seconds"])
    begun = time.process_time()
    numbers_of = order_of(settings.seed, cards)

    run.begin(minutes, tick_images, images)
    while not run.finished:
        torch.manual_seed(settings.seed * 1_000_003 + run.step)
        numbers = numbers_of(run.step, settings.batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=settings.bfloat16):
            loss = loss_of(net, head, speaker, stage, deck, numbers)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        run.learn(*learning)
        run.note(**{stage: loss})
        run.advance(settings.batch)
        update_ema(average, net, settings.batch, run.images, settings.half_life)
        for kept, current in zip(average.buffers(), net.buffers(), strict=True):
            kept.copy_(current)
        if run.tick_due:
            spent = seconds + time.process_time() - begun
            told = {"model": semantic_cc.NAME, "stage": stage, "cards": cards} | asdict(settings)
            measured = measure(average, tokenizer, stage, held_out) | {"cpu_minutes": round(spent / 60, 2)}
            run.tick(asdict(net.config), told, measured, {"cpu_seconds": spent})
            semantic_cc.save(folder / "weights", copy.deepcopy(average).bfloat16())


def main(
    stage: Annotated[str, typer.Option(help=", ".join(STAGES))],
    out: Annotated[Path, typer.Option(metavar="DIR", help="where all stages live; one that is there goes on")],
    deck: Annotated[Path, typer.Option(metavar="DIR", help="of training.caption_deck")],
    pairs: Annotated[Path, typer.Option(metavar="DIR", help="the engine's pairs, of which some are held out")],
    language: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="another language model: of transformers, or .gguf"),
    ] = None,
    unguided: Annotated[bool, typer.Option("--unguided", help="captions without guidance, in a folder apart")] = False,
    cards: Annotated[int | None, typer.Option(min=1, help="of the deck; all of them if not given")] = None,
    images: Annotated[int, typer.Option(min=1, help="cards in all")] = 4000,
    minutes: Annotated[float, typer.Option(min=0.1, help="of this call")] = 60.0,
    tick: Annotated[int, typer.Option(min=1, help="cards between lines of the log")] = 800,
    rate: Annotated[float, typer.Option(min=0, help="learning rate; a run may go on with another")] = Settings().rate,
    bfloat16: Annotated[bool, typer.Option(help="faster on processors that multiply bfloat16")] = False,
    seed: Annotated[int, typer.Option(help="of the cards' order and of weights")] = 0,
) -> None:
    """Run a stage; see the module for their order."""
    if stage not in STAGES:
        raise typer.BadParameter(f"{stage!r} is none of {', '.join(STAGES)}", param_hint="--stage")
    if unguided and stage != "caption":
        raise typer.BadParameter("only the stage caption is compared without guidance", param_hint="--unguided")
    there = Deck(deck)
    if not len(there):
        raise typer.BadParameter(f"no cards in {deck}; draw some with training.caption_deck", param_hint="--deck")
    chosen: Stage = next(name for name in STAGES if name == stage)
    settings = Settings(rate=rate, bfloat16=bfloat16, seed=seed)
    number = cards or len(there)
    if chosen == "language":
        loss = learn_language(there, number, out / LANGUAGE, settings, images)
        typer.echo(f"loss {loss:.4f}, in {out / LANGUAGE}")
        return
    held_out = held_out_pairs(pairs, _CHECKED)
    train(
        chosen, there, number, held_out, out, language or out / LANGUAGE, settings, images, minutes, tick, unguided
    )  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
