"""The claims there are, and measuring one of them on one subject."""

from ethos.bench import (
    carries_over,
    holds_under_pressure,
    keeps_its_abilities,
    lasts_through_long_conversations,
    leaves_other_requests_alone,
    recovers_from_prefill,
    same_when_unwatched,
    shows_the_character,
    writes_coherently,
)
from ethos.bench.claim import Claim
from ethos.errors import ConfigError, did_you_mean

CLAIMS: dict[str, Claim] = {
    module.CLAIM.name: module.CLAIM
    for module in (
        shows_the_character,
        carries_over,
        leaves_other_requests_alone,
        holds_under_pressure,
        recovers_from_prefill,
        lasts_through_long_conversations,
        same_when_unwatched,
        keeps_its_abilities,
        writes_coherently,
    )
}
"""In the order the report shows them."""


def find_claim(name: str) -> Claim:
    """A claim by name; an unknown name is a ConfigError with the nearest known one."""
    if name not in CLAIMS:
        raise ConfigError(f"no claim named {name!r}", hint=did_you_mean(name, CLAIMS))
    return CLAIMS[name]
