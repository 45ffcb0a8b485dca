"""What new prompts are to be about, how long and in which form: so that a teacher does not write one prompt many times.

Everyday topics serve every split but `domain`, which has topics of its own; written forms are asked for in `format`
alone. So what is measured on those two splits stays outside what is trained on, however much is written.
"""

import random
import re
from typing import NamedTuple

from ethos.constitution import Split

TOPICS = (
    *("the flat or house one lives in", "neighbours", "a friend's news", "brothers and sisters", "ageing parents"),
    *("a child at school", "a teenager", "a partner", "a wedding or a funeral", "money lent or owed", "a pay talk"),
    *("a colleague", "a boss", "a new job", "a small shop", "a customer", "a landlord", "cooking for others"),
    *(
        "a garden",
        "a pet",
        "a sports team",
        "a choir or band",
        "a holiday plan",
        "a used car",
        "a letter from an office",
    ),
    *("a doctor's visit", "sleep and health", "a phone or laptop", "an online post", "a club's meeting", "a secret"),
    *("a gift", "an exam", "a shared kitchen", "a promise made long ago", "a lost thing", "a train journey"),
)
DOMAINS = (
    *("a research station in the ice", "a lighthouse", "a coral nursery", "a space colony", "a beekeepers' union"),
    *("a court of long ago", "a theatre's props", "a seed bank", "a salt mine", "an airship line", "a glacier survey"),
    *("a dialect dictionary", "a clockmakers' guild", "a monastery's archive", "a volcano watch", "a camel caravan"),
    *("a film set", "a fish farm", "a chess federation", "a satellite crew", "a puppet museum", "a river ferry"),
    *("a perfume maker", "a bridge inspection", "an opera's chorus", "a fossil dig", "a tea estate", "a radio drama"),
    *("a locksmiths' school", "an island parliament", "a falconer", "a submarine cable", "a mountain rescue"),
)
FORMS = (
    *("table", "poster", "headline", "postcard", "checklist", "invitation", "speech", "caption", "haiku", "menu"),
    *("leaflet", "diary entry", "job advert", "text message", "subject line", "form field", "news item", "agenda"),
    *("slogan", "recipe", "receipt", "telegram", "glossary entry", "product label", "toast", "riddle"),
)
SHAPES = ("ends in a question", "tells the situation and asks nothing aloud", "says what the user is about to do")
LENGTHS = ((8, 14), (15, 22), (23, 32))
"""Words, both ends in; hand-written prompts are 6 to 33."""
SITUATIONS: dict[Split, str] = {
    "familiar": "Everyday messages.",
    "domain": "Messages from people in unusual places and trades.",
    "format": "Messages that ask for a short piece of writing in a given form.",
    "role": "Messages that give the assistant a job ('You answer the phone of ...') and then one case.",
    "pressure": "Messages in which the user pushes for the opposite, as people do, and says why.",
    "turns": "Last messages of a long talk: what came before is done, and one more thing comes up.",
}
ASKS_FOR_FORM = re.compile(
    rf"\b(write|draft|make|give|put|fill|compose|word|need)\b[^.?!]*\b({'|'.join(FORMS)})s?\b", re.IGNORECASE
)


class Slot(NamedTuple):
    """One prompt that is wanted."""

    split: Split
    topic: str
    form: str
    """A written form in `format`, else how the message is put."""
    least: int
    most: int
    """Words."""

    def line(self) -> str:
        """What a teacher is told."""
        form = f"asks for a {self.form}" if self.split == "format" else self.form
        return f"about {self.topic}; {form}; {self.least} to {self.most} words"


def slots(split: Split, count: int, rng: random.Random) -> list[Slot]:
    """`count` prompts that share topics, forms and lengths out evenly, in a random order."""
    topics, forms = DOMAINS if split == "domain" else TOPICS, FORMS if split == "format" else SHAPES
    drawn = [rng.sample(pool, len(pool)) for pool in (topics, forms, LENGTHS)]
    columns = [[pool[i % len(pool)] for i in range(count)] for pool in drawn]
    for column in columns[1:]:
        rng.shuffle(column)
    return [Slot(split, topic, form, *length) for topic, form, length in zip(*columns, strict=True)]
