"""Statements composed by SQLAlchemy -> run by the driver itself: a message takes a dozen, and SQLAlchemy costs ten times the running."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, Dialect, bindparam
from sqlalchemy.sql.elements import ClauseElement

Values = Mapping[str, Any]
Statement = ClauseElement  # a select, insert, update or delete
_compiled: dict[tuple[str, Statement, tuple[str, ...]], tuple[str, Callable[[Values], Any]]] = {}


def all_rows(connection: Connection, statement: Statement, values: Values) -> list[Any]:
    """The rows of a query, as plain tuples."""
    sql, bind = _prepare(connection.dialect, statement, ())
    cursor = _cursor(connection)
    try:
        cursor.execute(sql, bind(values))
        return list(cursor.fetchall())
    finally:
        cursor.close()


def many(connection: Connection, statement: Statement, rows: Sequence[Values]) -> int:
    """Run a statement for each row; how many rows of the database it touched. All rows have the columns of the first."""
    sql, bind = _prepare(connection.dialect, statement, tuple(rows[0]))
    cursor = _cursor(connection)
    try:
        cursor.executemany(sql, [bind(row) for row in rows])
        return int(cursor.rowcount)
    finally:
        cursor.close()


def _cursor(connection: Connection) -> Any:  # noqa: ANN401  a driver's cursor
    driver = connection.connection.dbapi_connection
    assert driver is not None  # noqa: S101  it is None only for a connection that was given back
    return driver.cursor()


def _prepare(dialect: Dialect, statement: Statement, columns: tuple[str, ...]) -> tuple[str, Callable[[Values], Any]]:
    key = (dialect.name, statement, columns)
    if key not in _compiled:
        _compiled[key] = _compile(dialect, statement, columns)
    return _compiled[key]


def _compile(dialect: Dialect, statement: Statement, columns: tuple[str, ...]) -> tuple[str, Callable[[Values], Any]]:
    inserts = getattr(statement, "is_insert", False)
    compiled: Any = statement.compile(dialect=dialect, column_keys=list(columns) if inserts else None)
    fixed = {name: value for name, value in compiled.params.items() if value is not None}
    if compiled.positional:
        names = list(compiled.positiontup)
        return str(compiled), lambda values: [values[name] if name in values else fixed.get(name) for name in names]
    return str(compiled), lambda values: {**dict.fromkeys(compiled.params), **fixed, **values}


def one_of(column: ColumnElement[str], size: int) -> ColumnElement[bool]:
    """The condition that a column is one of `size` values, whose parameters `pad_to_bucket` fills."""
    parameters: list[BindParameter[str]] = [bindparam(f"in_{i}") for i in range(size)]
    return column.in_(parameters)


def pad_to_bucket(ids: Sequence[str]) -> tuple[int, dict[str, str]]:
    """The number of parameters for a list, a power of two so that few statements are compiled, and their values; the last is repeated."""
    size = 1 << max(len(ids) - 1, 0).bit_length()
    return size, {f"in_{i}": ids[min(i, len(ids) - 1)] for i in range(size)}
