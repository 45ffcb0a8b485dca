"""A slot is filled, or it is an error: nothing in between."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ethos.errors import DataError
from ethos.templates import fill, slots

NAMES = st.from_regex(r"[a-z_][a-z0-9_]{0,8}", fullmatch=True)
TEXT = st.text(max_size=20)


def literal(text: str) -> str:
    """Text as a template writes it when its braces are meant as braces."""
    return text.replace("{", "{{").replace("}", "}}")


@given(st.lists(st.one_of(st.tuples(st.just("slot"), NAMES), st.tuples(st.just("text"), TEXT))), st.data())
def test_filling_puts_every_value_in_its_slot_and_leaves_the_rest_alone(
    pieces: list[tuple[str, str]], data: st.DataObject
) -> None:
    names = {name for kind, name in pieces if kind == "slot"}
    values = {name: data.draw(TEXT) for name in sorted(names)}
    template = "".join(f"{{{part}}}" if kind == "slot" else literal(part) for kind, part in pieces)
    assert slots(template) == names
    assert fill(template, **values) == "".join(values[part] if kind == "slot" else part for kind, part in pieces)


@given(st.sets(NAMES, min_size=1), st.data())
def test_a_slot_without_a_value_is_an_error(names: set[str], data: st.DataObject) -> None:
    missing = data.draw(st.sampled_from(sorted(names)))
    template = " ".join(f"{{{name}}}" for name in sorted(names))
    with pytest.raises(DataError, match=missing):
        fill(template, **dict.fromkeys(names - {missing}, "x"))


@given(st.sets(NAMES), NAMES)
def test_a_value_without_a_slot_is_an_error(names: set[str], extra: str) -> None:
    template = " ".join(f"{{{name}}}" for name in sorted(names - {extra}))
    with pytest.raises(DataError, match=extra):
        fill(template, **dict.fromkeys(names | {extra}, "x"))


@given(TEXT)
def test_a_value_is_never_read_as_a_template(value: str) -> None:
    assert fill("<{guidance}>", guidance=value + "{name}") == f"<{value}{{name}}>"


@pytest.mark.parametrize("template", ["{", "}", "{name", "say }", "{a}{"])
def test_unbalanced_braces_are_a_data_error_that_quotes_the_template(template: str) -> None:
    with pytest.raises(DataError, match="unbalanced") as caught:
        slots(template)
    assert repr(template) in str(caught.value)


@pytest.mark.parametrize("template", ["{}", "{} and {name}"])
def test_a_slot_without_a_name_is_an_error(template: str) -> None:
    with pytest.raises(DataError, match="slots"):
        fill(template, name="Ada")
