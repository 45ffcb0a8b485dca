"""What a user reads when something went wrong by their own hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos import errors
from ethos.errors import UserError, did_you_mean

KINDS = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, UserError)]


def test_a_hint_stands_on_a_line_of_its_own() -> None:
    assert str(UserError("disk full", hint="free some space")) == "disk full\nhint: free some space"


def test_a_message_without_a_hint_is_printed_bare() -> None:
    assert str(UserError("disk full")) == "disk full"


def test_the_tree_in_the_docstring_names_every_kind_and_no_other() -> None:
    drawn = {line.split()[1] for line in (errors.__doc__ or "").splitlines() if "──" in line}
    assert drawn == {kind.__name__ for kind in KINDS} - {"UserError"}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_caught_as_a_user_error_and_says_what_it_holds(kind: type[UserError]) -> None:
    with pytest.raises(UserError, match=r"^what\nhint: way out$"):
        raise kind("what", hint="way out")


def test_a_typo_is_answered_with_the_nearest_name() -> None:
    assert did_you_mean("virtous", ["neutral", "virtuous"]) == "did you mean 'virtuous'?"


def test_a_far_name_is_answered_with_all_names_in_order() -> None:
    assert did_you_mean("zzz", ["beta", "alpha"]) == "there are: alpha, beta"


@given(st.lists(st.text("abcdef", min_size=1), min_size=1, unique=True), st.text("abcdef"))
def test_a_hint_never_names_what_is_not_there(known: list[str], name: str) -> None:
    hint = did_you_mean(name, known)
    assert hint in {f"did you mean {one!r}?" for one in known} | {f"there are: {', '.join(sorted(known))}"}


@given(st.lists(st.text("abcdef", min_size=1), min_size=1, unique=True), st.data())
def test_a_known_name_is_its_own_nearest(known: list[str], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(known))
    assert did_you_mean(name, known) == f"did you mean {name!r}?"
