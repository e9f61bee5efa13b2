"""Brings a run of format 2 to the present format: for a reader by views beside the file, for a writer in the file.

Both ask the same questions of the old tables, so a run reads the same before and after. The ledger is left as it is:
what was paid for stays found. A judge that was asked at one base URL of the user's own gets that place into its name.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from safetyqc.llm.hosts import display_name
from safetyqc.records import AGAIN
from safetyqc.store.schema import FORMAT, statements

if TYPE_CHECKING:
    from collections.abc import Iterator

_NEW_NAME = "coalesce((SELECT new FROM temp.judge_names WHERE old = {judge}), {judge})"
_NAMES_BETWEEN = "char(10)"

_READ_AS_NOW = {
    "conversations": """
        SELECT seq, id, origin, scenario_index, parent_id, json_extract(body, '$.category') AS category,
            json_extract(body, '$.intent') AS intent, json_extract(body, '$.language') AS language, body
        FROM {table}""",
    "judgments": f"""
        SELECT seq, conversation_id, {_NEW_NAME.format(judge="judge")} AS judge, rubric_hash, version, unscored,
            json_extract(body, '$.passed') AS passed,
            (SELECT coalesce(avg(json_extract(value, '$.value')), 0.0) FROM json_each(body, '$.scores')) AS mean,
            (SELECT coalesce(group_concat(json_extract(value, '$.criterion'), {_NAMES_BETWEEN}), '')
                FROM json_each(body, '$.scores') WHERE json_extract(value, '$.outcome') = 'fail') AS failed,
            (SELECT coalesce(group_concat(json_extract(value, '$.criterion'), {_NAMES_BETWEEN}), '')
                FROM json_each(body, '$.scores') WHERE json_extract(value, '$.outcome') = 'unscored') AS undecided,
            json_extract(body, '$.category') AS category, json_extract(body, '$.intent') AS intent,
            json_set(body, '$.judge', {_NEW_NAME.format(judge="judge")}) AS body
        FROM {{table}}""",
    "labels": """
        SELECT seq, conversation_id, criterion, annotator, json_extract(body, '$.outcome') AS outcome, NULL AS at, body
        FROM {table}""",
    "rewrites": f"""
        SELECT seq, parent_id, revision,
            json_set(body, '$.judge', {_NEW_NAME.format(judge="json_extract(body, '$.judge')")}) AS body
        FROM {{table}}""",
    "meta": f"""
        SELECT key, CASE key WHEN 'deciding_judge'
            THEN json_quote({_NEW_NAME.format(judge="json_extract(value, '$')")}) ELSE value END AS value
        FROM {{table}}""",
}
"""How the tables of format 2 that changed are read as they are now."""


def show_as_now(reader: sqlite3.Connection) -> None:
    """Let a reader see a run of format 2 as one of the present format; nothing is written to the file."""
    reader.execute("PRAGMA temp_store = MEMORY")
    _collect_names(reader)
    there = _tables(reader)
    for name, statement in statements().items():
        if name in _READ_AS_NOW:
            reader.execute(f"CREATE TEMP VIEW {name} AS {_READ_AS_NOW[name].format(table=f'main.{name}')}")
        elif name not in there and statement.startswith("CREATE TABLE"):
            reader.execute(statement.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))
    reader.commit()


def upgrade(connection: sqlite3.Connection) -> None:
    """Bring the file of a run of format 2 to the present format, in one transaction: all of it or nothing.

    The caller holds the run's lock.
    """
    connection.execute("PRAGMA temp_store = MEMORY")
    _collect_names(connection)
    connection.commit()
    with connection:
        connection.execute("BEGIN IMMEDIATE")
        for name in _READ_AS_NOW:
            connection.execute(f"ALTER TABLE {name} RENAME TO old_{name}")
        indices = (
            "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name LIKE 'old@_%' ESCAPE '@' AND sql <> ''"
        )
        for (name,) in connection.execute(indices).fetchall():
            connection.execute(f"DROP INDEX {name}")
        there = _tables(connection)
        for name, statement in statements().items():
            if name not in there:
                connection.execute(statement)
        for name, query in _READ_AS_NOW.items():
            connection.execute(f"INSERT INTO {name} {query.format(table=f'old_{name}')}")
            connection.execute(f"DROP TABLE old_{name}")
        connection.execute("UPDATE meta SET value = ? WHERE key = 'format'", (str(FORMAT),))


def _tables(connection: sqlite3.Connection) -> set[str]:
    """Names of the tables and indices that the file holds."""
    return {name for (name,) in connection.execute("SELECT name FROM main.sqlite_master")}


def _collect_names(connection: sqlite3.Connection) -> None:
    """Note which judges get which name."""
    connection.execute("CREATE TEMP TABLE judge_names (old TEXT PRIMARY KEY, new TEXT NOT NULL)")
    connection.executemany("INSERT INTO temp.judge_names VALUES (?, ?)", _new_names(connection))


def _new_names(connection: sqlite3.Connection) -> Iterator[tuple[str, str]]:
    """Judges that the ledger saw at one place alone, if that is not their provider's own."""
    asked = "SELECT DISTINCT model, json_extract(request, '$.api_base') FROM main.calls WHERE stage = 'judge'"
    places: dict[str, set[str | None]] = {}
    for model, api_base in connection.execute(asked):
        places.setdefault(model, set()).add(api_base)
    for model, found in places.items():
        [first, *others] = found
        if first is not None and not others:
            name = display_name(model, first)
            yield model, name
            yield model + AGAIN, name + AGAIN
