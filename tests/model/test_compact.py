"""Many entries and many people in a few bytes each."""

from __future__ import annotations

import tracemalloc
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.model.compact import BitSet, Digests, HashIndex, PackedList, PackedPeople
from distributor.model.people import Address, Person, RosterRow
from distributor.model.secret import Secret


@given(st.lists(st.binary(max_size=40)), st.dictionaries(st.integers(0, 200), st.binary(max_size=40)))
def test_a_packed_list_is_a_list(values: list[bytes], changes: dict[int, bytes]) -> None:
    packed = PackedList()
    for value in values:
        packed.append(value)
    for number, value in changes.items():
        if number < len(values):
            packed[number] = values[number] = value
    assert [packed[number] for number in range(len(packed))] == values


def test_digests_are_numbered_in_the_order_they_come() -> None:
    digests = Digests()
    known = [sha256(str(number).encode()).digest() for number in range(20_000)]
    for _ in range(2):
        assert [digests.number(digest) for digest in known] == list(range(20_000))
    assert len(digests) == 20_000


def test_an_index_finds_the_first_number_of_each_text() -> None:
    texts = [f"person{number % 15_000}@example.org" for number in range(20_000)]
    index = HashIndex(texts.__getitem__)
    assert [index.add(text, number) for number, text in enumerate(texts)] == [number % 15_000 for number in range(20_000)]
    assert [index.find(text) for text in texts] == [number % 15_000 for number in range(20_000)]
    assert index.find("nobody@example.org") is None


@given(st.sets(st.integers(0, 500)))
def test_marks_are_a_set(numbers: set[int]) -> None:
    marks = BitSet()
    for number in numbers:
        marks.add(number)
    assert {number for number in range(600) if number in marks} == numbers


def test_a_digest_takes_some_forty_bytes() -> None:
    tracemalloc.start()
    digests = Digests()
    for number in range(5_000):
        digests.number(sha256(str(number).encode()).digest())
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / 5_000 < 60


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
    for number in range(5_000):
        address = Address(f"person{number:06}", "example.org")
        hint = RosterRow("people.csv", number, f"certificates/{number:06}.pfx", password=Secret(f"secret-{number:06}"))
        packed[address.key] = Person(address, f"Person {number}", "en", columns={"department": "Accounts"}, hint=hint)
    used = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert used / 5_000 < 500
