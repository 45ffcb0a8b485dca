"""The claims there are, and measuring one of them on one subject."""

from ethos.bench import (
    acts_as_it_speaks,
    answers_inventories,
    can_be_told_apart,
    carries_over,
    decides_well,
    does_not_flatter,
    holds_under_pressure,
    keeps_its_abilities,
    knows_when,
    lasts_through_long_conversations,
    leaves_other_requests_alone,
    prefers_its_own_traits,
    recovers_from_prefill,
    resolves_conflicts_as_ranked,
    same_when_unwatched,
    shows_the_character,
    survives_fine_tuning,
    values_cohere,
    weighs_risk_as_described,
    writes_coherently,
)
from ethos.bench.claim import Claim
from ethos.errors import ConfigError, did_you_mean

CLAIMS: dict[str, Claim] = {
    module.CLAIM.name: module.CLAIM
    for module in (
        knows_when,
        shows_the_character,
        carries_over,
        decides_well,
        resolves_conflicts_as_ranked,
        leaves_other_requests_alone,
        holds_under_pressure,
        recovers_from_prefill,
        lasts_through_long_conversations,
        survives_fine_tuning,
        does_not_flatter,
        same_when_unwatched,
        prefers_its_own_traits,
        acts_as_it_speaks,
        values_cohere,
        weighs_risk_as_described,
        answers_inventories,
        keeps_its_abilities,
        writes_coherently,
        can_be_told_apart,
    )
}
"""In the order the report shows them."""


def find_claim(name: str) -> Claim:
    """A claim by name; an unknown name is a ConfigError with the nearest known one."""
    if name not in CLAIMS:
        raise ConfigError(f"no claim named {name!r}", hint=did_you_mean(name, CLAIMS))
    return CLAIMS[name]
