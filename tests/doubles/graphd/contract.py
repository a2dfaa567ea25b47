"""The OpenAPI descriptions of Graph -> what a request and an answer must look like. Whatever they do not know is refused."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, FormatChecker
from jsonschema.exceptions import best_match
from jsonschema.protocols import Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from tests.doubles.graphd.refusals import Refusal
from tests.doubles.graphd.wire import Answer, Request

DATA = Path(__file__).parents[2] / "data" / "graph"
FILES = {"v1.0": ("openapi-v1.yaml", "ours.yaml"), "beta": ("openapi-beta.yaml", "ours-beta.yaml")}
ROOT = "https://double.example.org/"  # a name for the documents, nothing that is fetched
METHODS = frozenset({"get", "post", "patch", "put", "delete"})
CHECKED = 20  # elements at each end of a long collection; checking all of 999 people would make a page take a second
Parameter = dict[str, Any]
FORMATS = FormatChecker(formats=())


@FORMATS.checks("date-time", ValueError)
def _date_time(value: object) -> bool:
    return not isinstance(value, str) or bool(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", value))


@FORMATS.checks("byte", binascii.Error)
def _byte(value: object) -> bool:
    return not isinstance(value, str) or base64.b64decode(value, validate=True) is not None


@dataclass(frozen=True)
class Operation:
    """One call. The pointers say where its schemas stand in the documents."""

    id: str
    method: str
    template: str
    parameters: Mapping[str, Parameter]  # those of the query, by name
    bodies: Mapping[str, str]  # content type -> pointer
    answers: Mapping[str, Mapping[str, str]]  # status or default -> content type -> pointer
    permissions: tuple[str, ...]

    @cached_property
    def segments(self) -> tuple[str, ...]:
        return tuple(self.template.strip("/").split("/"))

    def params(self, segments: tuple[str, ...]) -> dict[str, str] | None:
        """What stands in the path's braces; None for another path. Names of the path are taken as written."""
        if len(segments) != len(self.segments):
            return None
        found = {}
        for wanted, given in zip(self.segments, segments, strict=True):
            if wanted.startswith("{") and given:
                found[wanted[1:-1]] = given
            elif wanted != given:
                return None
        return found


@dataclass
class Contract:
    documents: dict[str, Any]
    operations: dict[tuple[str, str], Operation] = field(default_factory=dict)
    _validators: dict[str, Validator] = field(default_factory=dict)

    def __post_init__(self) -> None:
        resources = [(ROOT + name, DRAFT202012.create_resource(value)) for name, value in self.documents.items()]
        self.registry: Registry[Any] = Registry().with_resources(resources)
        for name, document in self.documents.items():
            for template, item in document["paths"].items():
                for method in METHODS & item.keys():
                    self._add(_operation(name, next(iter(self.documents)), document, template, method))
        self.by_specificity = sorted(self.operations.values(), key=lambda operation: operation.template.count("{"))

    def _add(self, operation: Operation) -> None:
        """The second file's part of an operation joins the first's."""
        key = (operation.method, operation.template)
        known = self.operations.get(key)
        if known is not None:
            operation = replace(known, parameters={**known.parameters, **operation.parameters}, bodies={**known.bodies, **operation.bodies})
        self.operations[key] = operation

    def find(self, method: str, segments: tuple[str, ...]) -> tuple[Operation, dict[str, str]]:
        """Raises Refusal for a path or a method that nobody described."""
        others = False
        for operation in self.by_specificity:
            params = operation.params(segments)
            if params is not None and operation.method == method:
                return operation, params
            others = others or params is not None
        if others:
            raise Refusal(400, "BadRequest", f"Specified HTTP method is not allowed for the request target: {method}.")
        raise Refusal(400, "BadRequest", f"Resource not found for the segment '{'/'.join(segments)}'.")

    def query(self, operation: Operation, request: Request) -> dict[str, Any]:
        """The query's parameters in their types."""
        found: dict[str, Any] = {}
        for name, text in request.query:
            if name not in operation.parameters or name in found:
                raise Refusal(400, "BadRequest", f"The query parameter '{name}' is not known here, or stands there twice.")
            found[name] = _typed(name, text, operation.parameters[name]["schema"])
        return found

    def body(self, operation: Operation, request: Request) -> Any:  # noqa: ANN401  JSON is anything
        """The body: JSON that fits its schema, the bytes of a MIME message, or None where none belongs."""
        if not operation.bodies:
            if request.body:
                raise Refusal(400, "BadRequest", "Write requests of this action must have an empty body.")
            return None
        kind = request.media_type()
        if kind not in operation.bodies:
            raise Refusal(400, "RequestBodyRead", f"A supported MIME type could not be found that matches the content type '{kind}'.")
        if kind != "application/json":
            return request.body
        value = _json(request.body)
        if wrong := self.complaint(operation.bodies[kind], value):
            raise Refusal(400, "BadRequest", wrong)
        return value

    def complaint(self, pointer: str, value: object) -> str | None:
        """What is wrong with a value, in words."""
        if pointer not in self._validators:
            self._validators[pointer] = Draft202012Validator({"$ref": pointer}, registry=self.registry, format_checker=FORMATS)
        wrong = best_match(self._validators[pointer].iter_errors(_shortened(value)))
        return None if wrong is None else f"{wrong.json_path}: {wrong.message}"

    def answer_complaint(self, operation: Operation, answer: Answer) -> str | None:
        """What our own answer has wrong; a fault of the double."""
        contents = operation.answers.get(str(answer.status), operation.answers.get("default"))
        if contents is None:
            return f"{operation.id} has no answer {answer.status}"
        if not contents:
            return f"{operation.id}: {answer.status} has no body" if answer.body else None
        kind = answer.headers.get("Content-Type", "").partition(";")[0]
        if kind not in contents:
            return f"{operation.id}: {answer.status} is not {kind}"
        wrong = self.complaint(contents[kind], json.loads(answer.body)) if kind == "application/json" else None
        return f"{operation.id}: {answer.status}: {wrong}" if wrong else None

    def properties(self, schema: str) -> frozenset[str]:
        """The names that a schema knows."""
        for document in self.documents.values():
            if schema in document["components"]["schemas"]:
                return frozenset(document["components"]["schemas"][schema]["properties"])
        raise KeyError(schema)


def read(version: str = "v1.0") -> Contract:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return Contract({name: yaml.load((DATA / name).read_bytes(), loader) for name in FILES[version]})  # noqa: S506  both are safe loaders


def _operation(name: str, first: str, document: dict[str, Any], template: str, method: str) -> Operation:
    item = document["paths"][template]
    described = item[method]
    where = f"{ROOT}{name}#/paths/{_escaped(template)}/{method}"
    parameters = [*item.get("parameters", ()), *described.get("parameters", ())]
    body = described.get("requestBody", {}).get("content", ())
    answers = {}
    for status, answer in described.get("responses", {}).items():
        contents = answer.get("content", {}) if "$ref" not in answer else {"application/json": {}}
        pointer = f"{where}/responses/{status}" if "$ref" not in answer else f"{ROOT}{first}#/components/responses/error"
        answers[status] = {kind: f"{pointer}/content/{_escaped(kind)}/schema" for kind in contents}
    return Operation(
        id=described["operationId"],
        method=method.upper(),
        template=template,
        parameters={one["name"]: one for one in parameters if one["in"] == "query"},
        bodies={kind: f"{where}/requestBody/content/{_escaped(kind)}/schema" for kind in body},
        answers=answers,
        permissions=tuple(described.get("x-permissions", ())) or _permissions(template, method),
    )


def _permissions(template: str, method: str) -> tuple[str, ...]:
    """What a request needs, where the description does not say."""
    kind = {"deviceAppManagement": "Apps", "deviceManagement": "Configuration"}.get(template.strip("/").partition("/")[0])
    return () if kind is None else (f"DeviceManagement{kind}.{'Read' if method == 'get' else 'ReadWrite'}.All",)


def _escaped(part: str) -> str:
    return part.replace("~", "~0").replace("/", "~1")


def _typed(name: str, text: str, schema: dict[str, Any]) -> Any:  # noqa: ANN401  as the schema says
    wrong = Refusal(400, "BadRequest", f"Invalid value '{text}' for {name} query option.")
    match schema["type"]:
        case "integer":
            if not re.fullmatch(r"\d{1,9}", text) or not schema.get("minimum", 0) <= int(text) <= schema.get("maximum", int(text)):
                raise wrong
            return int(text)
        case "boolean":
            if text not in {"true", "false"}:
                raise wrong
            return text == "true"
        case _:
            if not text:
                raise wrong
            return text


def _json(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError as wrong:
        raise Refusal(400, "BadRequest", f"Unable to read JSON request payload: {wrong}.") from wrong


def _shortened(value: object) -> object:
    """A long collection, its middle left out."""
    if isinstance(value, dict) and isinstance(value.get("value"), list) and len(value["value"]) > 2 * CHECKED:
        return {**value, "value": value["value"][:CHECKED] + value["value"][-CHECKED:]}
    return value
