"""Laps of lm-evaluation-harness, on the strings that ethos reads."""

from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from benchmarks import texts
from benchmarks.laps import Gate
from benchmarks.ours import LEAD, loaded, scoring_laps
from benchmarks.table import Job


def score_texts(job: Job, gate: Gate) -> None:
    """Log-likelihoods of continuations, as its multiple-choice tasks ask for them."""
    model, chat = loaded(job)
    items = texts.questions(job.load, chat)
    harness = HFLM(pretrained=model, tokenizer=chat.tokenizer, batch_size=job.side.batch)
    gate.ready(texts.digest(items))
    for cases in scoring_laps(items, job.load):
        heads = [f"{chat.tokenizer.decode(list(chat.prompt(messages)))}{LEAD}" for messages, _ in cases]
        asked = [
            Instance("loglikelihood", {}, (head, f" {text}"), place)
            for place, (head, (_, text)) in enumerate(zip(heads, cases, strict=True))
        ]
        gate.begin()
        found = harness.loglikelihood(asked, disable_tqdm=True)
        gate.end(len(cases))
        lengths = [len(chat.tokenizer.encode(f" {text}", add_special_tokens=False)) for _, text in cases]
        gate.values += [total / length for (total, _), length in zip(found, lengths, strict=True)]
