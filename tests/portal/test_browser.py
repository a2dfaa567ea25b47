"""The pages in a real Chromium: cookies, policy, the script that copies and hides, and everything without scripts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.portal.conftest import Served

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

GROUPS = "#groups"


def sign_in(page: Page, url: str, login: str) -> None:
    page.goto(url)
    page.click("[data-action=sign-in]")
    page.fill("input[name=login]", login)
    page.click("button[value=yes]")
    page.wait_for_url(f"{url}/**")


def pasted(page: Page) -> str:
    """What another page gets from the clipboard."""
    other = page.context.new_page()
    other.set_content("<textarea autofocus></textarea>")
    other.focus("textarea")
    other.keyboard.press("Control+v")
    text = other.input_value("textarea")
    other.close()
    page.bring_to_front()
    return text


@pytest.fixture
def page(served: Served, chromium: Browser) -> Iterator[Page]:
    """A page whose console must stay empty: violations of the policy are reported there."""
    context = chromium.new_context(locale="en", permissions=["clipboard-write"])
    opened = context.new_page()
    said: list[str] = []
    opened.on("console", lambda message: said.append(message.text) if message.location["url"].startswith(served.url) else None)
    opened.on("pageerror", lambda error: said.append(str(error)))
    yield opened
    context.close()
    assert said == []


def test_somebody_gets_their_password_copies_it_and_it_hides_itself(served: Served, page: Page) -> None:
    page.clock.install()
    sign_in(page, served.url, "u-alice")
    assert {cookie["name"] for cookie in page.context.cookies(served.url)} >= {"__Host-session"}
    page.click("[data-action=reveal]")
    password = page.inner_text(GROUPS)
    assert password.count("-") == 4
    page.click("#copy")
    page.wait_for_selector("#state:text-is('Copied')")
    assert pasted(page) == password
    page.clock.fast_forward(61_000)
    assert page.get_attribute(GROUPS, "class") == "groups hidden"
    page.click("#hide")
    assert page.get_attribute(GROUPS, "class") == "groups"
    page.evaluate("dispatchEvent(new Event('blur'))")
    assert page.get_attribute(GROUPS, "class") == "groups hidden"
    page.clock.fast_forward(600_000)
    assert page.text_content(GROUPS) == ""
    assert "no longer on this page" in page.inner_text("#state")


def test_going_back_does_not_show_it_again(served: Served, page: Page) -> None:
    from playwright.sync_api import Error  # noqa: PLC0415  an extra of the tests

    sign_in(page, served.url, "u-alice")
    page.click("[data-action=reveal]")
    page.click("text=Done")
    with pytest.raises(Error, match="ERR_CACHE_MISS"):  # the browser kept no copy, and asks before it sends the form again
        page.go_back()


def test_everything_else_works_without_scripts(served: Served, chromium: Browser) -> None:
    context = chromium.new_context(locale="en", java_script_enabled=False)
    page = context.new_page()
    sign_in(page, served.url, "u-alice")
    page.click("[data-action=again]")
    page.check("input[value=phone]")
    page.click("main [data-action=again]")
    assert "Request received" in page.inner_text("h1")
    page.goto(served.url)
    page.click("[data-action=reveal]")
    assert page.inner_text(GROUPS).count("-") == 4
    assert not page.is_visible("#copy")
    page.click("text=Done")
    page.click("[data-action=sign-out]")
    assert "You are signed out." in page.inner_text("main")
    context.close()


@pytest.mark.parametrize("size", [(390, 844), (1280, 800)])
def test_no_page_is_wider_than_the_screen_and_buttons_can_be_hit(served: Served, chromium: Browser, size: tuple[int, int]) -> None:
    context = chromium.new_context(locale="de", viewport={"width": size[0], "height": size[1]})
    page = context.new_page()
    for login, paths in (
        ("u-bob", ("/",)),
        ("u-admin", ("/admin", "/admin/requests", "/admin/person?address=bob@example.org", "/admin/incident?address=bob@example.org")),
        ("u-helpdesk", ("/helpdesk", "/helpdesk/person?address=bob@example.org")),
        ("u-audit", ("/audit",)),
    ):
        context.clear_cookies()
        sign_in(page, served.url, login)
        for path in paths:
            page.goto(served.url + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0], path
            heights = page.eval_on_selector_all("button, .button, nav a, summary", "all => all.map(e => e.getBoundingClientRect().height)")
            assert [height for height in heights if 0 < height < 32] == [], path
            assert page.evaluate(
                "[...document.querySelectorAll('main button, main .button')].every(e => !e.offsetHeight || e.offsetHeight >= 44)"
            )
            levels = page.eval_on_selector_all("h1, h2, h3", "all => all.map(e => Number(e.tagName[1]))")
            assert levels[0] == 1
            assert all(later - earlier <= 1 for earlier, later in itertools.pairwise(levels)), path
    context.close()
