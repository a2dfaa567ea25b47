"""Four workers on hosts of their own, with one PostgreSQL: killed, frozen, cut off, with wrong clocks; no message is lost or sent twice.

`python -m tests.bench apart` does the same for five hundred rounds.
"""

from __future__ import annotations

import pytest

from tests.authority import Authority
from tests.real.apart import KINDS, site

pytestmark = pytest.mark.slow(reason="whole hosts, and the seconds after which they notice that another one is gone")


def test_whatever_happens_to_a_worker_the_others_go_on(authority: Authority) -> None:
    with site(authority, seed=1) as made:
        made.batch = 60
        made.plan(made.batch)
        for name in made.workers:
            made.start(name)
        made.progress()
        for kind in KINDS:
            made.round(kind)
            assert made.faults() == []
        made.finish()


def test_a_standby_that_is_promoted_goes_on_where_the_database_ended(authority: Authority) -> None:
    with site(authority, seed=2, standby=True) as made:
        made.plan(40)
        for name in made.workers:
            made.start(name)
        made.progress()
        made.promote()
        made.progress()
        made.finish()
