"""The rows: what is timed, against whom, on which workload, and the ratio that was aimed at.

Rows are of three kinds: `speed` (work per second, ours over a peer's; peak memory too), `equal` (the greatest
difference of two lists of numbers) and `growth` (the exponent of seconds in work, 1 being linear).
"""

from typing import Literal

from pydantic import Field

from ethos.records import Record


class Load(Record):
    """A workload. Lengths are in tokens without the chat template's, inclusive."""

    laps: int
    """The first of them warms up."""
    per_lap: int
    """Units (pairs, conversations, prompts) of a lap."""
    prompt: tuple[int, int]
    reply: tuple[int, int]
    turns: int = 1
    """Replies: of a conversation, or to a prompt."""
    sizes: tuple[int, ...] = ()
    """growth: units of each lap in turn, or their tokens."""
    seed: int = 0

    @property
    def units(self) -> int:
        """Units of all laps together."""
        return self.laps * self.per_lap


class Side(Record):
    """One competitor of a row."""

    name: str
    """Sides of one name are settings of one peer: the fastest stands in the table."""
    run: str
    """`module:function` of this package."""
    dtype: Literal["own", "float32", "bfloat16"] = "own"
    """`own`: what ethos takes on this machine."""
    batch: int = 0
    """Sequences that the peer computes at once (0: those of a lap)."""
    checkpointing: bool = False
    """Whether activations are computed again in the backward pass."""

    @property
    def label(self) -> str:
        """The name with its setting."""
        return f"{self.name}, batch {self.batch}" if self.batch else self.name


class Target(Record):
    """What was aimed at."""

    peer: str
    bound: float
    measure: Literal["speed", "memory"] = "speed"
    """speed: at least so many times the peer's; memory: at most so many times."""


class Row(Record):
    """One line of the table, or several with one workload."""

    name: str
    work: str
    sides: tuple[Side, ...]
    """Ours first."""
    load: Load
    quick: Load
    model: Literal["default", "vocabulary", "small"] = "default"
    kind: Literal["speed", "equal", "growth"] = "speed"
    unit: str = "tokens/s"
    targets: tuple[Target, ...] = ()
    agree: float | None = None
    """Greatest difference of values in float32 (in bfloat16, `LOOSELY`); None where nothing is compared."""
    seconds: float = 60.0
    """speed: a side that has timed laps of so many seconds rests while the others go on."""
    choices: str
    """What was chosen, for the peers too."""


class Job(Record):
    """What a subprocess is told."""

    row: str
    side: Side
    load: Load
    model: str = Field(min_length=1)
    """Folder of the model."""


LOOSELY = 0.05
"""Greatest difference where either side rounds to bfloat16; of numbers above one, the share of them."""
OURS = "ethos"
TRAINER = (
    "TRL: the same rows, order, batch, LoRA (r 64, α 128, attention and MLP), AdamW, schedule and clipping; sdpa "
    "attention. "
)
FASTEST = "No gradient checkpointing, which would slow it down. "
"""Of the peer's settings, where speed is compared."""


def trl(function: str) -> tuple[Side, ...]:
    """Ours and TRL in both precisions."""
    return (
        Side(name=OURS, run=f"ours:{function}"),
        Side(name="TRL bf16", run=f"trl_side:{function}", dtype="bfloat16"),
        Side(name="TRL float32", run=f"trl_side:{function}", dtype="float32"),
    )


PAIR_LOAD = Load(laps=4, per_lap=3, prompt=(50, 90), reply=(40, 120))
QUICK_PAIRS = Load(laps=3, per_lap=2, prompt=(5, 9), reply=(4, 12))
TRAINING = Load(laps=20, per_lap=2, prompt=(10, 30), reply=(10, 30))

ROWS = (
    Row(
        name="dpo",
        work="DPO, SmolLM2-135M, LoRA r 64, 120–240-token rows",
        sides=trl("preference"),
        load=PAIR_LOAD,
        quick=QUICK_PAIRS,
        targets=(Target(peer="TRL bf16", bound=2.0), Target(peer="TRL float32", bound=3.0)),
        agree=1e-3,
        choices=TRAINER
        + FASTEST
        + "Reference log-probabilities are computed in the step on both sides. TRL 1.16 has no "
        "padding-free or packed DPO. Tokens of both replies' whole sequences, padding not counted.",
    ),
    Row(
        name="dpo-vocabulary",
        work="DPO, 262k vocabulary (Gemma-3-270M's shape, random weights)",
        sides=trl("preference"),
        load=PAIR_LOAD.model_copy(update={"laps": 3, "per_lap": 2}),
        quick=QUICK_PAIRS,
        model="vocabulary",
        targets=(
            Target(peer="TRL bf16", bound=4.0),
            Target(peer="TRL float32", bound=4.0),
            Target(peer="TRL bf16", bound=0.5, measure="memory"),
            Target(peer="TRL float32", bound=0.5, measure="memory"),
        ),
        agree=1e-3,
        choices=TRAINER + FASTEST,
    ),
    Row(
        name="dpo-vocabulary-memory",
        work="The same with gradient checkpointing, both sides",
        sides=tuple(side.model_copy(update={"checkpointing": True}) for side in trl("preference")),
        load=PAIR_LOAD.model_copy(update={"laps": 3, "per_lap": 2}),
        quick=QUICK_PAIRS,
        model="vocabulary",
        targets=(
            Target(peer="TRL bf16", bound=0.5, measure="memory"),
            Target(peer="TRL float32", bound=0.5, measure="memory"),
        ),
        agree=1e-3,
        choices=TRAINER + "Memory is that of the whole process: weights, adapter and the libraries themselves count.",
    ),
    Row(
        name="sft",
        work="SFT, SmolLM2-135M, LoRA r 64, conversations of 3 turns, about 250 tokens",
        sides=trl("supervised"),
        load=Load(laps=4, per_lap=4, prompt=(10, 60), reply=(30, 30), turns=3),
        quick=Load(laps=3, per_lap=2, prompt=(3, 9), reply=(5, 5), turns=2),
        targets=(Target(peer="TRL bf16", bound=1.5), Target(peer="TRL float32", bound=1.5)),
        agree=1e-3,
        choices=TRAINER
        + FASTEST
        + "TRL's padding-free and packed SFT need flash attention, which processors lack; elsewhere "
        "rows of one pack would see each other. Replies are equally long, so that both losses are the same mean.",
    ),
    Row(
        name="distillation",
        work="On-policy distillation, scoring part: 2 sampled replies of 64 tokens to each prompt",
        sides=trl("distillation"),
        load=Load(laps=4, per_lap=2, prompt=(50, 90), reply=(64, 64), turns=2),
        quick=Load(laps=3, per_lap=2, prompt=(5, 9), reply=(6, 6), turns=2),
        targets=(Target(peer="TRL bf16", bound=2.0), Target(peer="TRL float32", bound=2.0)),
        agree=1e-3,
        choices=TRAINER
        + FASTEST
        + "TRL: DistillationTrainer, its generation replaced by the given replies. Reverse KL over the "
        "whole vocabulary, the teacher the same model with a sharper head.",
    ),
    Row(
        name="scoring",
        work="Scoring 4 continuations (16 tokens each) of one 200-token prompt",
        sides=(
            Side(name=OURS, run="ours:score_texts"),
            *(Side(name="lm-evaluation-harness", run="eval_side:score_texts", batch=batch) for batch in (1, 4, 16)),
        ),
        load=Load(laps=4, per_lap=4, prompt=(168, 168), reply=(16, 16), turns=4),
        quick=Load(laps=3, per_lap=2, prompt=(20, 20), reply=(4, 4), turns=4),
        unit="continuations/s",
        targets=(Target(peer="lm-evaluation-harness", bound=4.0),),
        agree=1e-4,
        choices="lm-evaluation-harness: HFLM.loglikelihood, on the same strings in the same dtype, its best batch size "
        "of three. Four prompts a call on both sides, from text to numbers.",
    ),
    Row(
        name="scoring-long",
        work="The same, 64 tokens each",
        sides=(
            Side(name=OURS, run="ours:score_texts"),
            *(Side(name="lm-evaluation-harness", run="eval_side:score_texts", batch=batch) for batch in (1, 4)),
        ),
        load=Load(laps=4, per_lap=4, prompt=(168, 168), reply=(64, 64), turns=4),
        quick=Load(laps=3, per_lap=2, prompt=(20, 20), reply=(8, 8), turns=4),
        unit="continuations/s",
        agree=1e-3,
        choices="No target: the longer the continuations, the less there is to share.",
    ),
    Row(
        name="sampling",
        work="Sampling 64 prompts × 64 tokens",
        sides=(
            Side(name=OURS, run="ours:sampling"),
            *(Side(name="transformers generate", run="plain_side:sampling", batch=batch) for batch in (32, 64)),
        ),
        load=Load(laps=3, per_lap=64, prompt=(20, 60), reply=(64, 64)),
        quick=Load(laps=3, per_lap=4, prompt=(5, 9), reply=(8, 8)),
        unit="new tokens/s",
        targets=(Target(peer="transformers generate", bound=1.5),),
        choices="Temperature 1, no other truncation; a reply may end sooner, and tokens are counted as they are. "
        "transformers: sdpa attention, dynamic cache, prompts sorted by length, the better of two batch sizes.",
    ),
    Row(
        name="products",
        work="DPO step's share of what the machine's matrix products reach",
        sides=(
            Side(name=OURS, run="ours:preference_products"),
            Side(name="bare products", run="plain_side:products"),
        ),
        load=PAIR_LOAD,
        quick=QUICK_PAIRS,
        unit="flop/s",
        targets=(Target(peer="bare products", bound=0.5),),
        choices="Bare products: X·Wᵀ with each of the model's frozen matrices and its head, 512 rows of X, in ethos's "
        "dtype. Ours: 6·(N·(W + L) + P·H) operations a step, for N trie positions, P of them before a scored token, W "
        "and L weights of the frozen and LoRA matrices, H of the head; attention is not counted.",
    ),
    Row(
        name="losses-dpo",
        work="DPO losses over 20 steps",
        sides=(
            Side(name=OURS, run="ours:preference", dtype="float32"),
            Side(name="TRL float32", run="trl_side:preference", dtype="float32"),
        ),
        load=TRAINING,
        quick=TRAINING.model_copy(update={"laps": 4, "prompt": (3, 9), "reply": (3, 9)}),
        kind="equal",
        agree=1e-3,
        choices="The same rows, order and seed, so the same adapter at birth.",
    ),
    Row(
        name="losses-sft",
        work="SFT losses over 20 steps",
        sides=(
            Side(name=OURS, run="ours:supervised", dtype="float32"),
            Side(name="TRL float32", run="trl_side:supervised", dtype="float32"),
        ),
        load=TRAINING.model_copy(update={"per_lap": 1, "turns": 2}),
        quick=TRAINING.model_copy(update={"laps": 4, "per_lap": 1, "turns": 2, "prompt": (3, 9), "reply": (3, 9)}),
        kind="equal",
        agree=1e-3,
        choices="One conversation a step: TRL weighs tokens equally in a batch, ethos conversations.",
    ),
    Row(
        name="scores",
        work="`text` scores of replies (nats)",
        sides=(
            Side(name=OURS, run="ours:score_texts", dtype="float32"),
            Side(name="lm-evaluation-harness", run="eval_side:score_texts", dtype="float32", batch=4),
        ),
        load=Load(laps=1, per_lap=8, prompt=(20, 160), reply=(5, 60), turns=3),
        quick=Load(laps=1, per_lap=3, prompt=(5, 20), reply=(3, 9), turns=3),
        kind="equal",
        agree=1e-4,
        choices="The same strings: log-likelihoods summed over a continuation, compared as means per token.",
    ),
    Row(
        name="texts",
        work="Greedy replies, token by token",
        sides=(
            Side(name=OURS, run="ours:greedy", dtype="float32"),
            Side(name="transformers generate", run="plain_side:greedy", dtype="float32", batch=8),
        ),
        load=Load(laps=1, per_lap=8, prompt=(20, 60), reply=(24, 24)),
        quick=Load(laps=1, per_lap=3, prompt=(5, 9), reply=(6, 6)),
        kind="equal",
        agree=0.0,
        choices="Token ids, one after the other.",
    ),
    Row(
        name="growth-rows",
        work="Scoring 100 to 3,200 rows: seconds in rows",
        sides=(Side(name=OURS, run="ours:growing_rows"),),
        load=Load(laps=5, per_lap=3200, prompt=(20, 60), reply=(8, 24), sizes=(100, 400, 1600, 3200)),
        quick=Load(laps=5, per_lap=40, prompt=(3, 9), reply=(3, 9), sizes=(10, 40)),
        model="small",
        kind="growth",
        unit="rows",
        targets=(Target(peer="linear", bound=1.1),),
        choices="A 4-layer model of 11M weights, so that what Python does weighs the more.",
    ),
    Row(
        name="growth-tokens",
        work="Scoring 64 rows of 64 to 1,024 tokens: seconds in tokens",
        sides=(Side(name=OURS, run="ours:growing_tokens"),),
        load=Load(laps=5, per_lap=64, prompt=(64, 1024), reply=(16, 16), sizes=(64, 256, 512, 1024)),
        quick=Load(laps=5, per_lap=4, prompt=(16, 32), reply=(4, 4), sizes=(16, 32)),
        model="small",
        kind="growth",
        unit="tokens",
        targets=(Target(peer="linear", bound=1.1),),
        choices="The same model. Attention alone grows with the square of a row's length.",
    ),
    Row(
        name="growth-training",
        work="DPO on 100 to 1,600 pairs: seconds in pairs",
        sides=(Side(name=OURS, run="ours:growing_training"),),
        load=Load(laps=4, per_lap=1600, prompt=(20, 60), reply=(8, 24), sizes=(100, 400, 1600)),
        quick=Load(laps=3, per_lap=16, prompt=(3, 9), reply=(3, 9), sizes=(8, 16)),
        model="small",
        kind="growth",
        unit="pairs",
        targets=(Target(peer="linear", bound=1.1),),
        choices="The same model, 8 pairs a step, reference and checkpoints included.",
    ),
)
