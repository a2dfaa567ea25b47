"""People in a few bytes each."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.compact import PackedPeople
from distributor.model.people import Address, Person, RosterRow
from distributor.model.secret import Secret

TEXT = st.text(max_size=20)
HINTS = st.builds(RosterRow, TEXT, st.integers(0, 2**40), TEXT, TEXT, st.none() | st.builds(Secret, TEXT), TEXT)
PEOPLE = st.builds(
    Person, st.builds(Address, TEXT, TEXT), TEXT, TEXT, TEXT, TEXT, TEXT, st.dictionaries(TEXT, TEXT), HINTS, st.lists(HINTS).map(tuple)
) | st.builds(Person, st.builds(Address, TEXT, TEXT), TEXT)


@pytest.mark.slow(reason="thousands of random people")
@given(st.dictionaries(TEXT, PEOPLE))
def test_everybody_comes_back_as_put_in(people: dict[str, Person]) -> None:
    packed = PackedPeople()
    packed.update(people)
    assert dict(packed) == people
    assert list(packed) == list(people)


def test_it_is_a_dictionary() -> None:
    packed = PackedPeople()
    one, two = Person(Address("a", "example.org"), "One"), Person(Address("a", "example.org"), "Two")
    assert packed.setdefault("a", one) == one
    packed["b"] = one
    packed["b"] = two
    assert packed["b"] == two
    assert (len(packed), "b" in packed, packed.get("c")) == (2, True, None)
    del packed["a"]
    assert list(packed.items()) == [("b", two)]
    with pytest.raises(KeyError):
        packed["a"]


def test_a_person_takes_a_few_hundred_bytes() -> None:
    tracemalloc.start()
    packed = PackedPeople()
    for number in range(20_000):
        address = Address(f"person{number:06}", "example.org")
        hint = RosterRow("people.csv", number, f"certificates/{number:06}.pfx", password=Secret(f"secret-{number:06}"))
        packed[address.key] = Person(address, f"Person {number}", "en", columns={"department": "Accounts"}, hint=hint)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / 20_000 < 500
