"""A visitor without JavaScript: keeps cookies as a browser does, follows redirects between portal and provider, and submits forms.

Python's own cookie jar would not send a Secure cookie to http://localhost, as browsers do.
"""

from __future__ import annotations

import http.client
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

MOST_REDIRECTS = 12


@dataclass
class Form:
    """A form of a page. `buttons`: name, value and data-action of each."""

    action: str
    method: str
    fields: dict[str, str]
    buttons: list[dict[str, str]] = field(default_factory=list)

    @property
    def actions(self) -> set[str]:
        return {button["data-action"] for button in self.buttons if "data-action" in button}


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []
        self.text: list[str] = []
        self._form: Form | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._form = Form(given.get("action", ""), given.get("method", "get").lower(), {})
            self.forms.append(self._form)
        elif tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif self._form is None:
            return
        elif tag in {"input", "textarea"} and given.get("type") != "radio" and "name" in given:
            self._form.fields[given["name"]] = given.get("value", "")
        elif tag == "button":
            self._form.buttons.append(given)

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None

    def handle_data(self, data: str) -> None:
        self.text.append(data)


@dataclass
class Answer:
    """A response."""

    status: int
    url: str
    headers: list[tuple[str, str]]
    body: str

    def __post_init__(self) -> None:
        parser = _Parser()
        if "text/html" in self.header("content-type"):
            parser.feed(self.body)
        self.forms, self.links = parser.forms, parser.links
        self.text = " ".join(" ".join(parser.text).split())

    def header(self, name: str) -> str:
        return ", ".join(value for each, value in self.headers if each.lower() == name)

    def form(self, action: str) -> Form:
        """The form whose button has this data-action, or that leads to this path."""
        found = [form for form in self.forms if action in form.actions or form.action.split("?")[0] == action]
        assert found, f"no form {action} on {self.url}: {[form.action for form in self.forms]}\n{self.text}"
        return found[0]


class Visitor:
    """Somebody with a browser."""

    def __init__(self, portal: str, *, agent: str = "a test", language: str = "en") -> None:
        self.portal = portal
        self.agent, self.language = agent, language
        self.cookies: dict[str, dict[str, str]] = {}  # by host

    def request(
        self, method: str, url: str, fields: dict[str, str] | None = None, headers: dict[str, str] | None = None, *, follow: bool = True
    ) -> Answer:
        """One request, and those to which it is redirected."""
        url = urljoin(self.portal, url)
        for _ in range(MOST_REDIRECTS):
            answer = self._once(method, url, fields, headers or {})
            place = answer.header("location")
            if not follow or answer.status not in {301, 302, 303} or not place:
                return answer
            method, url, fields = "GET", urljoin(url, place), None
        raise AssertionError(f"too many redirects, the last to {url}")

    def _once(self, method: str, url: str, fields: dict[str, str] | None, headers: dict[str, str]) -> Answer:
        parts = urlsplit(url)
        assert parts.hostname
        kept = self.cookies.setdefault(parts.hostname, {})
        given = {"User-Agent": self.agent, "Accept-Language": self.language, "Connection": "close"}
        if kept:
            given["Cookie"] = "; ".join(f"{name}={value}" for name, value in kept.items())
        body = None
        if fields is not None:
            body = urlencode(fields)
            same = url.startswith(self.portal)
            given |= (
                {"Content-Type": "application/x-www-form-urlencoded", "Sec-Fetch-Site": "same-origin", "Origin": "null"}
                if same
                else {"Content-Type": "application/x-www-form-urlencoded"}
            )
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=60)
        try:
            target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request(method, target, body, {**given, **headers})
            response = connection.getresponse()
            found = Answer(response.status, url, response.getheaders(), response.read().decode("utf-8", "replace"))
        finally:
            connection.close()
        for name, value in found.headers:
            if name.lower() == "set-cookie":
                for key, morsel in SimpleCookie(value).items():
                    if morsel["max-age"] == "0" or morsel.value == "":
                        kept.pop(key, None)
                    else:
                        kept[key] = morsel.value
        return found

    def get(self, url: str, *, follow: bool = True) -> Answer:
        return self.request("GET", url, follow=follow)

    def submit(self, page: Answer, action: str, *, follow: bool = True, **fields: str) -> Answer:
        """Fill in a form of a page and press its button."""
        form = page.form(action)
        pressed = {button["name"]: button.get("value", "") for button in form.buttons if "name" in button and button["name"] not in fields}
        given = {**form.fields, **(pressed if len(form.buttons) == 1 else {}), **fields}
        if form.method == "get":
            return self.get(urljoin(page.url, form.action) + "?" + urlencode(given), follow=follow)
        return self.request("POST", urljoin(page.url, form.action), given, follow=follow)

    def sign_in(self, login: str, *, ago: int = 0, page: Answer | None = None) -> Answer:
        """Sign in from the portal's first page, or from a page on the way; `ago`: seconds since the person proved who it is."""
        page = page or self.get("/")
        if page.url.startswith(self.portal):
            page = self.submit(page, "sign-in")
        if "/interaction/" not in page.url:
            return page  # the provider knew who it is
        form = page.forms[0]
        return self.request("POST", urljoin(page.url, form.action), {"login": login, "ago": str(ago), "go": "yes"})

    @property
    def session(self) -> str:
        return self.cookies.get(urlsplit(self.portal).hostname or "", {}).get("__Host-session", "")
