"""Renders the texts of messages from Jinja2 templates, in the recipient's language.

Each file is looked up in the workspace's `templates/`, then among the packaged ones. Languages fall back de-AT -> de -> the
organisation's first -> en. Templates are untrusted code: they run in a sandbox, a missing name is an error with file and line,
and time, size of a file and size of the output are limited. Memory is limited by the worker process they run in.
"""

from __future__ import annotations

import difflib
import functools
import re
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager, suppress
from dataclasses import dataclass, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from traceback import walk_tb
from types import FrameType, TracebackType
from typing import Any, NoReturn

from babel import Locale, UnknownLocaleError
from babel.dates import format_date
from jinja2 import FunctionLoader, StrictUndefined, nodes
from jinja2.exceptions import TemplateError, TemplateNotFound, TemplateRuntimeError, TemplateSyntaxError, UndefinedError
from jinja2.loaders import split_template_path
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from distributor.errors import InvalidInput
from distributor.files.reader import FileRefused, read_file
from distributor.mail.message import RenderedText
from distributor.mail.template_columns import LARGEST_TEMPLATE, columns_used
from distributor.mail.template_samples import samples
from distributor.model.issues import Diagnostic
from distributor.model.people import escape_unsafe, has_unsafe_chars

LARGEST_TEXT = 256 * 2**10  # characters of one rendered file; the packaged messages have some 15 000
LONGEST_RENDERING = 1.0  # CPU seconds of one file; the packaged messages take a few milliseconds
FILES = ("subject.txt", "body.txt", "body.html")
LETTER_FILES = ("address.txt", "letter.txt", "spelling.txt")
CALENDAR = "calendar.txt"  # the title of a calendar entry, then its text
MESSAGE, PASSWORD, LETTER = "message", "password", "password_letter"  # kinds of templates: the folders they are in
EXPIRING, UNCOLLECTED, UNCONFIRMED = REMINDERS = ("reminder/expiring", "reminder/uncollected", "reminder/unconfirmed")
INCIDENT = "incident"  # what a person is told; no message, since it may be read out
INTUNE = "intune"  # what remains to be done in Intune's portal; no message either
INTUNE_FILES = ("ios.txt", "android.txt")
FILES_OF = {LETTER: LETTER_FILES, EXPIRING: (*FILES, CALENDAR), INCIDENT: ("body.txt",)}  # of the other kinds: FILES
LAST_RESORT = "en"
LAYOUT, STYLES = "message/_layout.html", "s"  # a template, and the name in it under which pages import its styles
PACKAGED = "packaged/"  # before the name of a template that a workspace overrides and extends
_SOON = 0.001  # seconds
_LONGEST_NAME = 80  # characters of a template's name that are shown
Checking = Callable[[Callable[[str], list[Diagnostic]], Iterable[str]], Iterable[list[Diagnostic]]]
_SPACES, _NUMBERED = re.compile(r"[\n\v\f\r]"), re.compile(r"\b(\d+\.) ")
_LINE = re.compile(r"[^ ](?:.{0,70}[^ ])?(?= |$)|[^ ]+")  # as `textwrap` breaks lines, in a fifth of its time
_TAG = re.compile(r"[A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*")


@dataclass(frozen=True, slots=True)
class TemplateRenderer:
    """Renders with the templates of a workspace and the organisation's languages. Can be pickled; compiled templates are not.

    `kinds`: the folders of templates that are in use; the first is that of `render`.
    """

    workspace: Path | None  # the folder that may hold `templates/`
    languages: tuple[str, ...] = (LAST_RESORT,)
    kinds: tuple[str, ...] = (MESSAGE,)

    def nearest(self, language: str) -> str:
        """The language of the message that somebody with this language gets."""
        return nearest(language, self.languages, self.folders, self.kinds[0])

    def render(self, language: str, values: Mapping[str, object]) -> RenderedText:
        """Render a message in the nearest available language. Raises InvalidInput naming the template's file and line."""
        environment, tag, places = _chosen(self, language, FILES)
        given = {**values, "language": tag}
        subject, text, html = (_render(environment, place, given) for place in places)
        return RenderedText(tag, _one_line(subject, places[0]), text, html)

    def render_files(self, language: str, names: tuple[str, ...], values: Mapping[str, object]) -> tuple[str, ...]:
        """Render files of the first kind in the nearest available language. Raises InvalidInput naming the template's file and line."""
        environment, tag, places = _chosen(self, language, names)
        return tuple(_render(environment, place, {**values, "language": tag}) for place in places)

    @property
    def folders(self) -> tuple[Path, ...]:
        """Template folders, the workspace's first."""
        own = (self.workspace / "templates",) if self.workspace is not None else ()
        return (*own, packaged())

    def columns(self) -> frozenset[str]:
        """The further roster columns that any template names. The others are not kept, since they may hold a secret."""
        return columns_used(self.folders, self.kinds)

    def check(self, run: Checking = map) -> list[Diagnostic]:
        """Render every language with sample values, for `doctor`: a diagnostic for each fault, or one that all is well.

        `run` applies a function to each language, perhaps in child processes.
        """
        diagnostics = [diagnostic for found in run(self.check_language, available(self.folders)) for diagnostic in found]
        missing = [tag for tag in self.languages if not _candidates(tag) & set(available(self.folders))]
        diagnostics += [
            Diagnostic(
                "templates",
                "warning",
                f'no message templates for "{tag}"',
                f'create templates/message/{tag}/, or remove "{tag}" from [organisation] languages',
            )
            for tag in missing
        ]
        return diagnostics or [Diagnostic("templates", "ok", f"messages in {', '.join(available(self.folders))}")]

    def check_language(self, language: str) -> list[Diagnostic]:
        """The faults of every kind in one language."""
        for kind in self.kinds:
            renderer = replace(self, kinds=(kind,))
            try:
                for values in samples():
                    if kind not in {LETTER, INCIDENT}:
                        renderer.render(language, values)
                    if kind in FILES_OF:
                        given = {**values, "certificates": [values["certificate"]] * 2}  # of an incident
                        renderer.render_files(language, FILES_OF[kind], given)
            except InvalidInput as error:
                return [Diagnostic("templates", "error", str(error), error.hint)]
        return []


def packaged() -> Path:
    """The folder of the program's own templates: inside the package when installed, beside it in a checkout."""
    inside = Path(__file__).parents[1] / "templates"
    return inside if inside.is_dir() else Path(__file__).parents[2] / "templates"


@functools.lru_cache(maxsize=16)
def available(folders: tuple[Path, ...], kind: str = MESSAGE) -> tuple[str, ...]:
    """The languages that have templates of a kind."""
    found = {path.parent.name for folder in folders for path in folder.glob(f"{kind}/*/*") if path.name in FILES_OF.get(kind, FILES)}
    return tuple(sorted(tag for tag in found if _TAG.fullmatch(tag)))


@functools.lru_cache(maxsize=256)
def _chosen(renderer: TemplateRenderer, language: str, names: tuple[str, ...]) -> tuple[_Sandbox, str, tuple[str, ...]]:
    folders, kind = renderer.folders, renderer.kinds[0]
    tag = nearest(language, renderer.languages, folders, kind)
    return _environment(folders), tag, tuple(_place(folders, kind, tag, name) for name in names)


def nearest(language: str, languages: tuple[str, ...], folders: tuple[Path, ...], kind: str = MESSAGE) -> str:
    """The best available language: the one asked for, a wider one, the organisation's first, English."""
    there = {tag.lower(): tag for tag in available(folders, kind)}
    for asked in (language, *languages[:1], LAST_RESORT):
        parts = asked.replace("_", "-").lower().split("-")
        for length in range(len(parts), 0, -1):
            if found := there.get("-".join(parts[:length])):
                return found
    return LAST_RESORT


def _candidates(tag: str) -> set[str]:
    return {tag, tag.partition("-")[0]}


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja2's sandbox, without operations that could fill the memory."""

    intercepted_binops = frozenset({"*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401  Jinja2's own
        """Look up a name after a dot. Most are keys of our own dictionaries, for which Jinja2 would try an attribute first."""
        if type(obj) is dict and attribute in obj and not hasattr(dict, attribute):
            return obj[attribute]
        return super().getattr(obj, attribute)

    def call_binop(self, context: Context, operator: str, left: object, right: object) -> object:
        """Compute, unless it would fill the memory."""
        if operator == "*" and _size(left) * _size(right) <= LARGEST_TEXT:
            return super().call_binop(context, operator, left, right)
        if operator == "%" and isinstance(left, int):
            return super().call_binop(context, operator, left, right)
        raise TemplateRuntimeError(f"{operator} is limited to small numbers")

    def _generate(self, source: nodes.Template, name: str | None, filename: str | None, defer_init: bool = False) -> str:  # noqa: FBT001, FBT002  Jinja2's own
        """Jinja2's hook before a template's code is made: the layout's styles, which are half of a page's variables, become its text."""
        imports = [one for one in source.find_all(nodes.FromImport) if one.template == nodes.Const(LAYOUT) and STYLES in one.names]
        if imports and all(one.ctx == "load" for one in source.find_all(nodes.Name) if one.name == STYLES):
            with suppress(TemplateError):  # rendering raises it again, and names the line
                styles = getattr(self.get_template(LAYOUT).module, STYLES, None)
                for output in source.find_all(nodes.Output):
                    output.nodes = [_constant(node, styles) for node in output.nodes]
        return super()._generate(source, name, filename, defer_init)


def _constant(node: nodes.Expr, styles: object) -> nodes.Expr:
    match node:
        case nodes.Getattr(node=nodes.Name(name=name), attr=style) if name == STYLES and isinstance(styles, dict):
            if hasattr(text := styles.get(style), "__html__"):  # marked as safe, so nothing in it is escaped
                return nodes.TemplateData(str(text), lineno=node.lineno)
    return node


def _size(value: object) -> int:
    return abs(value) if isinstance(value, int) else len(value) if isinstance(value, Sized) else LARGEST_TEXT + 1


def _load(folders: tuple[Path, ...], name: str) -> tuple[str, str, None] | None:
    """The text and the path of a template, from the first folder that has it; `packaged/...` is the program's own."""
    if name.startswith(PACKAGED):
        folders, name = (packaged(),), name.removeprefix(PACKAGED)
    for path in (folder.joinpath(*split_template_path(name)) for folder in folders):
        if _is_file(path):
            try:
                return read_file(path, LARGEST_TEMPLATE, follow=True).decode(), str(path), None
            except FileRefused as refused:
                raise TemplateSyntaxError(refused.message, 1, name) from None
    return None


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long, or has a NUL in it
        return False


@functools.lru_cache(maxsize=8)
def _environment(folders: tuple[Path, ...]) -> _Sandbox:
    environment = _Sandbox(
        loader=FunctionLoader(functools.partial(_load, folders)),
        undefined=StrictUndefined,
        autoescape=lambda name: name is not None and name.endswith(".html"),
        auto_reload=False,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for name in ("format", "center", "indent", "pprint", "xmlattr"):  # each can be asked for a gigabyte, and no message needs one
        environment.filters.pop(name, None)
    environment.globals.clear()
    environment.filters |= {"date": _date, "wrap": _wrapped}
    return environment


@functools.lru_cache(maxsize=4096)
def _date(moment: datetime, language: str) -> str:
    """The day as the language writes it: "1 January 2028". Dates of certificates are shown in UTC."""
    day = moment.astimezone(UTC).date()
    written = format_date(day, "long", _locale(language))
    # CLDR leaves out the one ordinal that French dates have.
    return written.replace("1 ", "1er ", 1) if day.day == 1 and written.startswith("1 ") and language.startswith("fr") else written


@functools.lru_cache(maxsize=256)  # most paragraphs are the same for everybody of a language
def _wrapped(text: str) -> str:
    """One paragraph of plain text in lines of at most 72 characters; an address is never broken, and no line begins like one of a list."""
    text = _SPACES.sub(" ", _NUMBERED.sub("\\1\N{NO-BREAK SPACE}", text).expandtabs())
    return "\n".join((*_LINE.findall(text), ""))


@functools.lru_cache(maxsize=64)
def _locale(language: str) -> Locale:
    for tag in ("en-001" if language == LAST_RESORT else language, language.partition("-")[0], LAST_RESORT):
        try:
            return Locale.parse(tag, sep="-")
        except (UnknownLocaleError, ValueError):
            continue
    raise UnknownLocaleError(LAST_RESORT)


def _place(folders: tuple[Path, ...], kind: str, language: str, name: str) -> str:
    """The file of this language or of a wider one: `de-AT` may hold a body of its own and take its subject from `de`."""
    parts = language.split("-")
    for length in range(len(parts), 0, -1):
        place = f"{kind}/{'-'.join(parts[:length])}/{name}"
        if any((folder / place).is_file() for folder in folders):
            return place
    shared = f"{kind}/{name}"  # of all languages
    return shared if any((folder / shared).is_file() for folder in folders) else f"{kind}/{language}/{name}"


def _one_line(subject: str, place: str) -> str:
    subject = subject.strip()
    if not subject or has_unsafe_chars(subject):
        raise InvalidInput(
            "the subject is not one line of plain text",
            where=f"templates/{place}",
            hint="write the subject on one line, without control characters",
        )
    return subject


def _render(environment: _Sandbox, name: str, values: Mapping[str, object]) -> str:
    try:
        with cpu_limit(LONGEST_RENDERING):  # the worker's own time-out would not know the line
            return "".join(_bounded(environment.get_template(name).generate(values)))
    except Exception as error:  # noqa: BLE001  a template can raise anything that Python can
        _explain(error, name, values)


def _bounded(pieces: Iterator[str]) -> Iterator[str]:
    length = 0
    for piece in pieces:
        length += len(piece)
        if length > LARGEST_TEXT:
            raise TemplateRuntimeError(f"the message is larger than {LARGEST_TEXT // 1024} KiB")
        yield piece


def _explain(error: Exception, name: str, values: Mapping[str, object]) -> NoReturn:
    match error:
        case TemplateSyntaxError():
            where, line = error.name or name, error.lineno
        case TemplateNotFound():
            where, line = _line(error.__traceback__, name)
            raise InvalidInput(
                f'no template "{escape_unsafe(str(error.name))[:_LONGEST_NAME]}"',
                where=f"templates/{name}" if error.name == name else f"templates/{where} line {line}",
                hint="restore the file, or delete your own copy of these templates",
            ) from None
        case _:
            where, line = _line(error.__traceback__, name)
    match error:
        case MemoryError():
            reason = "rendering needs too much memory"
        case TimeLimitExceeded():
            reason = f"rendering takes longer than {LONGEST_RENDERING:.0f} s"
        case RecursionError():
            reason = "the templates extend, include or call one another without an end"
        case UndefinedError():
            reason = _unknown(str(error), values)
        case _:
            reason = str(error) or type(error).__name__
    raise InvalidInput(
        _told(reason),
        where=f"templates/{where} line {line}",
        hint=_NEW if isinstance(error, UndefinedError) else "correct the template; `distributor doctor` renders every message",
    ) from None


def _unknown(text: str, values: Mapping[str, object]) -> str:
    """Jinja2's message about an undefined name, in plain words, with the nearest name that templates have."""
    name = text.split("'")[-2] if text.count("'") > 1 else ""
    known = set(values).union(*(_names(value) for value in values.values()))
    near = difflib.get_close_matches(name, known, 1)
    return (f'unknown variable "{name}"' if name else text) + (f'; did you mean "{near[0]}"?' if near else "")


def _names(value: object) -> Iterable[str]:
    return value if isinstance(value, dict) else (name for name in dir(value) if not name.startswith("_")) if is_dataclass(value) else ()


_NEW = "correct the template, or run `distributor plan` again if a new column is used"


def _told(reason: str) -> str:
    first = reason.splitlines()[0]
    return f"{first[:1].lower()}{first[1:200]}".rstrip(".")


def _line(trace: TracebackType | None, name: str) -> tuple[str, int]:
    """The innermost line of a template: Jinja2 rewrites tracebacks so that they name template files."""
    found = (name, 1)
    for frame, line in walk_tb(trace):
        path = Path(frame.f_code.co_filename)
        if "templates" in path.parts and path.suffix in {".txt", ".html"}:
            found = (path.as_posix().rpartition("templates/")[2], line)
    return found


class TimeLimitExceeded(Exception):
    """The code took too much CPU time."""


@contextmanager
def cpu_limit(most: float) -> Iterator[None]:
    """Raise TimeLimitExceeded in the body after `most` CPU seconds; not outside the main thread, nor on Windows."""
    try:
        before = signal.signal(signal.SIGVTALRM, _too_slow)
    except (AttributeError, ValueError):
        yield
        return
    signal.setitimer(signal.ITIMER_VIRTUAL, most)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _too_slow(number: int, frame: FrameType | None) -> None:
    del number
    if frame is None or frame.f_lineno is None:  # between two lines; who tells a person where it happened needs one
        signal.setitimer(signal.ITIMER_VIRTUAL, _SOON)
        return
    raise TimeLimitExceeded
