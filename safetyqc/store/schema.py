"""The tables of a run's file, as they are now; how a file of an earlier version gets them is `upgrade`'s business."""

from __future__ import annotations

import re

FORMAT, UPGRADED = 3, 2
"""Of the tables below, and the one before: it is read as it is, and brought to this one when it is next written."""

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE conversations (seq INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, origin TEXT NOT NULL,
    scenario_index INTEGER, parent_id TEXT, category TEXT, intent TEXT, language TEXT, body TEXT NOT NULL);
CREATE INDEX conversations_by_scenario ON conversations (scenario_index);
CREATE TABLE judgments (seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, judge TEXT NOT NULL,
    rubric_hash TEXT NOT NULL, version TEXT NOT NULL, unscored TEXT NOT NULL, passed INTEGER, mean REAL NOT NULL,
    failed TEXT NOT NULL, undecided TEXT NOT NULL, category TEXT, intent TEXT, body TEXT NOT NULL,
    UNIQUE (conversation_id, judge, rubric_hash));
CREATE INDEX judgments_by_judge ON judgments (judge, rubric_hash, conversation_id, version, unscored, passed, mean,
    failed, undecided, category, intent);
CREATE TABLE failures (seq INTEGER PRIMARY KEY, stage TEXT NOT NULL, record_id TEXT NOT NULL, kind TEXT NOT NULL,
    body TEXT NOT NULL);
CREATE TABLE rejections (seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, filter TEXT NOT NULL,
    body TEXT NOT NULL, UNIQUE (conversation_id, filter));
CREATE TABLE filtered (conversation_id TEXT PRIMARY KEY, settings TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE labels (seq INTEGER PRIMARY KEY, conversation_id TEXT NOT NULL, criterion TEXT NOT NULL,
    annotator TEXT NOT NULL, outcome TEXT NOT NULL, at REAL, body TEXT NOT NULL);
CREATE INDEX labels_by_cell ON labels (conversation_id, criterion, annotator);
CREATE TABLE review_acts (seq INTEGER PRIMARY KEY, at REAL NOT NULL, annotator TEXT NOT NULL,
    conversation_id TEXT NOT NULL, act TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE draws (id TEXT PRIMARY KEY, at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE duplicates (dropped_id TEXT PRIMARY KEY, kept_id TEXT NOT NULL, body TEXT NOT NULL);
CREATE TABLE rewrites (seq INTEGER PRIMARY KEY, parent_id TEXT NOT NULL, revision INTEGER NOT NULL,
    body TEXT NOT NULL, UNIQUE (parent_id, revision));
CREATE TABLE calls (seq INTEGER PRIMARY KEY, key TEXT NOT NULL, stage TEXT NOT NULL, model TEXT NOT NULL,
    good INTEGER NOT NULL, prompt_tokens INTEGER, completion_tokens INTEGER, cost_usd REAL, latency_s REAL,
    history TEXT NOT NULL, at REAL NOT NULL, request TEXT NOT NULL, reply TEXT NOT NULL);
CREATE TABLE texts (hash TEXT PRIMARY KEY, text TEXT NOT NULL);
CREATE INDEX calls_by_key ON calls (key) WHERE good;
CREATE TABLE timings (seq INTEGER PRIMARY KEY, stage TEXT NOT NULL, at REAL NOT NULL, wall_s REAL NOT NULL,
    items INTEGER NOT NULL);
CREATE TABLE matches (conversation_id TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE arrays (name TEXT NOT NULL, part INTEGER NOT NULL, parts INTEGER NOT NULL,
    body BLOB NOT NULL, PRIMARY KEY (name, part));
CREATE TABLE batches (tag TEXT PRIMARY KEY, status TEXT NOT NULL, at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE batch_requests (tag TEXT NOT NULL, number INTEGER NOT NULL, key TEXT NOT NULL,
    request TEXT NOT NULL, outcome TEXT, UNIQUE (tag, key));
CREATE INDEX batch_requests_by_key ON batch_requests (key);
CREATE TABLE probes (id TEXT PRIMARY KEY, at REAL NOT NULL, body TEXT NOT NULL);
CREATE TABLE probe_answers (probe TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL, PRIMARY KEY (probe, key));
"""


def statements() -> dict[str, str]:
    """Each table's and index's name and the statement that makes it."""
    found = re.findall(r"CREATE (?:TABLE|INDEX) (\w+) [^;]+", SCHEMA)
    return dict(zip(found, (part.strip() for part in SCHEMA.split(";")), strict=False))
