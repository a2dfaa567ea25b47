"""The numbered steps of sending a message: the table names code that exists, and the code bears the numbers."""

from __future__ import annotations

import importlib
import inspect
import re
from functools import reduce

import pytest

from distributor.adapters.transports.graph.mailbox import DraftSender
from distributor.adapters.transports.smtp.transport import SmtpConnection
from distributor.workflows import sending
from distributor.workflows.sending.mailbox import MailboxSender

TABLE = [line for line in (sending.__doc__ or "").splitlines() if re.match(r"\(\d\) ", line)]
NAMES = re.findall(r"(?:claims|limits|commits|settlement|report|model\.ports)\.[A-Z][\w.]+", "\n".join(TABLE))


def test_the_steps_are_numbered_from_zero_to_eight() -> None:
    assert [line[:3] for line in TABLE] == [f"({number})" for number in range(9)]


@pytest.mark.parametrize("name", NAMES)
def test_each_step_names_code_that_exists(name: str) -> None:
    module, _, attributes = re.sub(r"\.(?=[A-Z])", ":", name, count=1).partition(":")
    package = "distributor" if module.startswith("model.") else sending.__name__
    assert reduce(getattr, attributes.split("."), importlib.import_module(f"{package}.{module}"))


@pytest.mark.parametrize(("code", "numbers"), [(MailboxSender, range(9)), (SmtpConnection, range(3, 7)), (DraftSender, range(3, 7))])
def test_the_code_bears_the_numbers_of_its_steps(code: type, numbers: range) -> None:
    found = {int(number) for number in re.findall(r"\((\d)\)", inspect.getsource(code))}
    assert set(numbers) <= found
