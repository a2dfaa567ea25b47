"""What a test may set: limits, delays and habits of the service. Times in seconds of the double's clock unless they say otherwise."""

from __future__ import annotations

from dataclasses import dataclass, fields

TENANT = "5b1f2c9e-0d43-4a8e-9a6e-3d0c6c1e7f10"
DOMAINS = ("example.org", "example.onmicrosoft.com")  # further names of the tenant
IDENTITY_HEADER = "853b9a84-5bfa-4b22-a3f3-0b9a43d9ad8a"  # App Service's, for its own processes


@dataclass
class Settings:
    # Entra
    token_seconds: int = 3599
    sign_in_clock: str = "virtual"  # or "real": assertions are judged by real time, though the test has moved the clock
    replayed_assertions: str = "accepted"  # or "refused"; msal itself sends one assertion for nine minutes
    device_interval: int = 5  # a client that asks sooner is told to slow down
    device_seconds: int = 900
    # limits
    in_flight: int = 4
    requests_per_ten_minutes: int = 10_000
    messages_per_minute: int = 30
    recipients_per_day: int = 10_000
    traces_per_five_minutes: int = 100
    largest_body: int = 4 * 2**20  # bytes
    retry_after: float = 1  # what a client over its four requests is told
    page_cap: int = 0  # no page holds more, whatever $top says; 0 is no cap
    # habits
    latency: float = 0.0  # real seconds that every request to Graph takes
    sent_after: float = 0.0  # until the copy is in Sent Items
    under_way: str = "draft"  # or "hidden": what a submitted message looks like until then
    id_after_send: str = "changed"  # or "same": the id of the sent copy, immutable or not
    deliver_inside: bool = True  # a message to a mailbox of the tenant appears in its Inbox
    trace_after: float = 60.0  # until a message shows in the message trace
    trace_settles: float = 60.0  # and until its status there is more than gettingStatus

    def change(self, changes: dict[str, object]) -> dict[str, object]:
        """Returns what was set before."""
        known = {one.name for one in fields(self)}
        if unknown := changes.keys() - known:
            raise ValueError(f"no setting {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
        before = {name: getattr(self, name) for name in changes}
        for name, value in changes.items():
            setattr(self, name, value)
        return before
