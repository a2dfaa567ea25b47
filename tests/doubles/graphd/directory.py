"""Users and groups as Graph shows them: selected, filtered and paged. Advanced queries want their header and their $count."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.doubles.graphd import odata
from tests.doubles.graphd.call import Call
from tests.doubles.graphd.refusals import Refusal
from tests.doubles.graphd.wire import Answer

PAGE = 100
BY_DEFAULT = (
    "businessPhones",
    "displayName",
    "givenName",
    "jobTitle",
    "mail",
    "mobilePhone",
    "officeLocation",
    "preferredLanguage",
    "surname",
    "userPrincipalName",
    "id",
)
MORE = ("companyName", "department", "employeeId", "onPremisesSamAccountName", "country", "city")
EVERYBODY = frozenset({*BY_DEFAULT, *MORE})
LISTS = frozenset({"businessPhones", "proxyAddresses", "otherMails"})
FILTERS = {
    "accountEnabled": "boolean",
    **dict.fromkeys(("id", "userType", "mail", "userPrincipalName", "displayName", "givenName", "surname", "mailNickname"), "text"),
    **dict.fromkeys(("preferredLanguage", "usageLocation", "department", "jobTitle", "companyName", "employeeId"), "text"),
    "proxyAddresses": "text",
    "otherMails": "text",
}
ALWAYS = frozenset({"eq", "startswith", "ge", "le", "gt", "lt"})  # served without an advanced query
ADVANCED = (
    "Operator '{}' is not supported because the required parameters might be missing. Try adding $count=true query parameter and "
    "ConsistencyLevel:eventual header. Refer to https://aka.ms/graph-docs/advanced-queries for more information"
)


def get(call: Call) -> Answer:
    given = call.params["user-id"]
    user = call.service.directory.user(given)
    if user is None:
        raise _missing(given)
    return call.say({**call.context("users/$entity"), **_shown(user, call.selection("user"))})


def get_group(call: Call) -> Answer:
    group, select = _group(call), call.selection("group")
    return call.say({**call.context("groups/$entity"), **{name: group.get(name) for name in select or group}})


def groups(call: Call) -> Answer:
    select = call.selection("group")
    found = _filtered(call, list(call.service.directory.groups.values()))
    return _paged(call, "groups", found, lambda group: {name: group.get(name) for name in select or group})


def _group(call: Call) -> Mapping[str, Any]:
    given = call.params["group-id"]
    if given not in call.service.directory.groups:
        raise _missing(given)
    return call.service.directory.groups[given]


def _members(call: Call, *, deep: bool) -> Answer:
    """A cast to microsoft.graph.user is an advanced query (Microsoft: group-list-transitivemembers)."""
    group = _group(call)
    if not call.advanced:
        raise Refusal(400, "Request_UnsupportedQuery", ADVANCED.format("cast"))
    return _users(call, call.service.directory.users_of(group["id"], deep=deep))


def _users(call: Call, users: Sequence[Mapping[str, Any]]) -> Answer:
    if "$search" in call.query:
        call.service.violations.append(f"the double lacks $search for {call.operation.id}")
        raise Refusal(501, "NotImplemented", "The double lacks $search.")
    select = call.selection("user")
    found = _ordered(call, _filtered(call, users))
    return _paged(call, "users", found, lambda user: _shown(user, select))


def _shown(user: Mapping[str, Any], select: list[str] | None) -> dict[str, Any]:
    return {name: user.get(name, [] if name in LISTS else None) for name in select or BY_DEFAULT}


def _missing(given: str) -> Refusal:
    text = f"Resource '{given}' does not exist or one of its queried reference-property objects are not present."
    return Refusal(404, "Request_ResourceNotFound", text)


def _filtered(call: Call, records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    clauses = call.clauses("Request_UnsupportedQuery")
    for clause in clauses:
        if FILTERS.get(clause.field) != clause.kind and clause.kind != "null":
            text = f"Unsupported or invalid query filter clause specified for property '{clause.field}'."
            raise Refusal(400, "Request_UnsupportedQuery", text)
        if clause.each != (clause.field in LISTS):
            raise Refusal(400, "Request_UnsupportedQuery", f"Unsupported property filter clause operator for '{clause.field}'.")
        if (clause.operator not in ALWAYS or clause.kind == "null") and not call.advanced:
            raise Refusal(400, "Request_UnsupportedQuery", ADVANCED.format(clause.operator))
    return [record for record in records if all(clause.holds(record) for clause in clauses)]


def _ordered(call: Call, found: list[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    if "$orderby" not in call.query:
        return found
    wanted = odata.orders(call.query["$orderby"])
    if any(name not in {"displayName", "userPrincipalName"} for name, _ in wanted) or ("$filter" in call.query and not call.advanced):
        raise Refusal(400, "Request_UnsupportedQuery", "Sorting is not supported for the current query.")
    return odata.ordered(found, wanted, lambda user: user)


def _paged(call: Call, kind: str, found: list[Mapping[str, Any]], show: Callable[[Mapping[str, Any]], dict[str, Any]]) -> Answer:
    start, size = call.skipped(), call.page_size(PAGE)
    value: dict[str, Any] = call.context(kind)
    if call.query.get("$count"):
        value["@odata.count"] = len(found)
    value["value"] = [show(one) for one in found[start : start + size]]
    if len(found) > start + size:
        value["@odata.nextLink"] = call.link(skiptoken=call.next_token(start + size))
    return call.say(value)


OPERATIONS: dict[str, Callable[[Call], Answer]] = {
    "user.list": lambda call: _users(call, list(call.service.directory.users.values())),
    "user.get": get,
    "group.list": groups,
    "group.get": get_group,
    "group.listUsers": lambda call: _members(call, deep=False),
    "group.listTransitiveUsers": lambda call: _members(call, deep=True),
}
