"""axe-core on every page at the size of a phone and of a desktop, light and dark, with few and with very many entries."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from distributor.model.delivery import DeliveryFilter
from tests.portal import crowd, openid
from tests.portal.conftest import Served
from tests.portal.test_browser import sign_in

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow(reason="two hundred runs of axe-core in a browser")

PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 800}
COLOURS = {"runOnly": ["color-contrast", "link-in-text-block"]}  # all in which dark differs (test_views.py)
VIEWS = ((PHONE, "light", {}), (DESKTOP, "light", {}), (PHONE, "dark", COLOURS))
LONG = f"{crowd.LONG}@example.org"
RUN = """async options => (await axe.run(document, {resultTypes: ["violations"], ...options})).violations.map(
    found => `${found.id}: ${found.help}: ${found.nodes.map(node => node.target.join(" ")).join(", ")}`)"""


class Inspector:
    """Runs axe-core in pages. Its source is evaluated by the browser's debugger, which the page's policy does not stop."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._source = (openid.installed() / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")

    def inspect(self, name: str) -> list[str]:
        """Violations of the page that is open, in each view."""
        found: list[str] = []
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(self._source)
        for size, scheme, options in VIEWS:
            self.page.set_viewport_size(size)  # type: ignore[arg-type]  a TypedDict of playwright's own
            self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]  a literal of playwright's own
            found += [f"{name}, {size['width']}, {scheme}: {each}" for each in self.page.evaluate(RUN, options)]
            if self.page.evaluate("document.documentElement.scrollWidth") > size["width"]:
                found.append(f"{name}, {size['width']}: wider than the screen")
        return found


@pytest.fixture
def inspector(chromium: Browser) -> Iterator[Inspector]:
    context = chromium.new_context(locale="en", reduced_motion="reduce")
    yield Inspector(context.new_page())
    context.close()


def pages(served: Served, *, crowded: bool) -> dict[str, list[str]]:
    """What each account can open; where it is crowded, only what looks different then."""
    first = next(iter(served.ledger.deliveries(DeliveryFilter(addresses=frozenset({"alice@example.org"}))))).id
    people = ["bob@example.org", *([LONG] if served.ledger.search(crowd.LONG, 1) else [])]
    quiet = {} if crowded else {"u-carol": ["/"]}
    return quiet | {
        "u-alice": ["/"] if crowded else ["/", f"/reveal/{first}", f"/again/{first}", "/nowhere"],
        "u-admin": [
            *("/admin", "/admin/requests", "/admin/ambiguous", "/admin/people?q=a", "/admin/people?q=nobody"),
            *(f"/admin/{page}?address={address}" for page in ("person", "incident") for address in people),
        ],
        "u-helpdesk": ["/helpdesk", "/helpdesk?q=a", *(f"/helpdesk/person?address={address}" for address in people)],
        "u-audit": ["/audit", "/audit?q=a", *(f"/audit/person?address={address}" for address in people)],
    }


@pytest.mark.parametrize("crowded", [False, True], ids=["few", "many"])
def test_axe_finds_nothing_on_any_page(served: Served, inspector: Inspector, crowded: bool) -> None:  # noqa: FBT001  pytest's
    if crowded:
        crowd.fill(served.ledger)
    page = inspector.page
    page.goto(served.url)
    found = [] if crowded else inspector.inspect("welcome")
    for login, paths in pages(served, crowded=crowded).items():
        page.context.clear_cookies()
        sign_in(page, served.url, login)
        for path in paths:
            page.goto(served.url + path)
            found += inspector.inspect(path)
    assert found == []


def test_axe_finds_nothing_on_what_forms_lead_to(served: Served, inspector: Inspector) -> None:
    """The password, errors of forms, a request that waits, is denied and is approved, an incident; in German what is for people."""
    page, found = inspector.page, []

    def press(selector: str, name: str) -> None:
        with page.expect_navigation():
            page.click(selector)
        found.extend(inspector.inspect(name))

    sign_in(page, served.url, "u-bob")
    press("[data-action=again]", "another copy")
    page.evaluate("document.querySelectorAll('input').forEach(each => each.required = false)")
    press("main [data-action=again]", "no reason chosen")
    assert page.is_visible("#missing")
    page.check("input[value=phone]")
    press("main [data-action=again]", "request received")
    page.goto(served.url)
    found.extend(inspector.inspect("a request that waits"))
    press("[data-action=reveal]", "the password")
    assert page.inner_text("#groups").count("-") == 4
    page.click("#hide")
    found.extend(inspector.inspect("the password, hidden"))
    press("[data-action=sign-out]", "signed out")
    page.context.clear_cookies()
    sign_in(page, served.url, "u-helpdesk")
    page.goto(f"{served.url}/helpdesk/person?address=alice@example.org")
    page.evaluate("document.querySelectorAll('input').forEach(each => each.required = false)")
    press("main [data-action=reveal]", "the helpdesk gives no reason")
    page.context.clear_cookies()
    sign_in(page, served.url, "u-admin")
    page.goto(f"{served.url}/admin/requests")
    page.evaluate("document.querySelectorAll('input').forEach(each => each.required = false)")
    press("[data-action=deny]", "denied without a reason")
    press("[data-action=approve]", "approved")
    page.goto(f"{served.url}/admin/incident?address=bob@example.org")
    page.fill("input[name=reason]", "a stolen phone")
    press("button.danger", "an incident")
    assert page.is_visible("pre.copy")
    assert found == []


def test_lists_that_are_cut_say_so_and_a_field_at_fault_is_in_view(served: Served, inspector: Inspector) -> None:
    from playwright.sync_api import expect  # noqa: PLC0415  an extra of the tests

    crowd.fill(served.ledger)
    page = inspector.page
    sign_in(page, served.url, "u-admin")
    page.goto(f"{served.url}/admin/people?q=person")
    assert "The first 50 are shown" in page.inner_text("main")
    page.goto(f"{served.url}/admin/requests")
    assert "The oldest 100 of 300 are shown." in page.inner_text("main")
    last = page.locator("article").last
    name = last.locator("h2").inner_text()
    last.locator("input[name=reason]").evaluate("field => { field.required = false; }")
    with page.expect_navigation():
        last.locator("[data-action=deny]").click()
    field = page.locator("article", has_text=name).locator("input[name=reason]")
    expect(field).to_be_focused()
    expect(field).to_be_in_viewport()
    page.goto(f"{served.url}/admin/person?address={LONG}")
    widths = page.eval_on_selector_all(".table", "all => all.map(each => each.scrollWidth - each.clientWidth)")
    assert max(widths) == 0


def test_a_page_with_a_fault_is_noticed(served: Served, inspector: Inspector) -> None:
    inspector.page.goto(served.url)
    styled = "document.querySelector('.lead').style.color = '#777777'; document.documentElement.lang = ''"
    inspector.page.evaluate(styled)
    rules = {(each.split(", ")[2].split(": ")[0], each.split(": ")[1]) for each in inspector.inspect("welcome")}
    assert {("light", "color-contrast"), ("dark", "color-contrast"), ("light", "html-has-lang")} <= rules
