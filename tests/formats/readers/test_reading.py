"""Any conversation file becomes conversations in input order; what is broken is told with its line and a fix."""

from __future__ import annotations

import gzip
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from safetyqc.errors import InputError
from safetyqc.formats import json_values, opened
from safetyqc.formats.readers import iter_conversations, read_conversations, reading
from safetyqc.formats.turns import CATEGORY_OF_RISK, INTENT_OF_SCENARIO_TYPE, Reading, structure_problem
from safetyqc.records import INTENTS, Conversation, Scenario
from safetyqc.results.findings import STRUCTURE_KINDS, BadLine
from safetyqc.testing import conversation

Q, A = "How do I pick a strong password?", "Use a long passphrase 🙂"
TURNS = [{"role": "user", "content": Q}, {"role": "assistant", "content": A}]
Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_lines(*records: Any, name: str = "data.jsonl") -> Path:
        lines = [r if isinstance(r, str) else json.dumps(r) for r in records]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
        return tmp_path / name

    return write_lines


FORMS = {
    "nanochat": TURNS,
    "messages": {"messages": TURNS},
    "openai parts": {"messages": [TURNS[0], {"role": "assistant", "content": [{"type": "text", "text": A}]}]},
    "openai nulls": {"messages": [TURNS[0], {**TURNS[1], "name": None, "tool_calls": None}]},
    "sharegpt": {"conversations": [{"from": "human", "value": Q}, {"from": "gpt", "value": A}]},
    "conversation": {"conversation": TURNS},
    "roles in capitals": [{"role": "User", "content": Q}, {"role": "ASSISTANT", "content": A}],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_conversation(write: Write, form: str) -> None:
    (found,) = read_conversations(write(FORMS[form])).conversations
    assert found.as_messages() == TURNS
    assert found.origin == "imported"
    assert found.meta == {}
    assert found.id == conversation(Q, A).id
    assert found.source is not None
    assert (found.source.line, found.source.index) == (1, 0)


def encode_jsonl(records: list[Any]) -> bytes:
    return "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in records).encode()


CONTAINERS: dict[str, tuple[str, Callable[[list[Any]], bytes]]] = {
    "json lines": ("a.jsonl", encode_jsonl),
    "json lines without the last newline": ("a.jsonl", lambda r: encode_jsonl(r)[:-1]),
    "blank lines between": ("a.jsonl", lambda r: encode_jsonl(r).replace(b"\n", b"\n\n \n")),
    "crlf": ("a.jsonl", lambda r: encode_jsonl(r).replace(b"\n", b"\r\n")),
    "byte order mark": ("a.jsonl", lambda r: b"\xef\xbb\xbf" + encode_jsonl(r)),
    "joined files with byte order marks": (
        "a.jsonl",
        lambda r: b"".join(b"\xef\xbb\xbf" + encode_jsonl([x]) for x in r),
    ),
    "gzip": ("a.jsonl.gz", lambda r: gzip.compress(encode_jsonl(r))),
    "gzip by another name": ("a.data", lambda r: gzip.compress(encode_jsonl(r))),
    "json array": ("a.json", lambda r: json.dumps(r).encode()),
    "json array, indented": ("a.json", lambda r: json.dumps(r, indent=2).encode()),
    "json array with a byte order mark": ("a.json", lambda r: b"\xef\xbb\xbf" + json.dumps(r, indent=2).encode()),
    "json array, gzipped": ("a.json.gz", lambda r: gzip.compress(json.dumps(r, indent=1).encode())),
    "json array by another name": ("a.jsonl", lambda r: json.dumps(r).encode()),
    "indented json by another name": ("a.txt", lambda r: json.dumps(r, indent=4).encode()),
    "an element a line": ("a.txt", lambda r: b"[\n" + b",\n".join(json.dumps(x).encode() for x in r) + b"\n]"),
    "json lines named json": ("a.json", encode_jsonl),
    "indented objects one after another": ("a.txt", lambda r: b"\n".join(json.dumps(x, indent=1).encode() for x in r)),
}


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("form", ["nanochat", "messages", "sharegpt"])
def test_every_container_gives_every_record_in_order(tmp_path: Path, container: str, form: str) -> None:
    name, encode = CONTAINERS[container]
    records = [json.loads(json.dumps(FORMS[form]).replace("strong", f"strong {n} 密")) for n in range(3)]
    (tmp_path / name).write_bytes(encode(records))
    found = read_conversations(tmp_path / name).conversations
    assert [c.user_turns[0] for c in found] == [f"How do I pick a strong {n} 密 password?" for n in range(3)]
    assert [c.source.index for c in found if c.source] == [0, 1, 2]


def test_a_json_file_may_be_one_conversation(write: Write) -> None:
    for record in FORMS.values():
        assert len(read_conversations(write(json.dumps(record, indent=2), name="one.json")).conversations) == 1


@pytest.mark.parametrize("compress", [lambda b: b, gzip.compress])
def test_standard_input_is_read(monkeypatch: pytest.MonkeyPatch, compress: Callable[[bytes], bytes]) -> None:
    raw = compress(encode_jsonl([TURNS, TURNS]))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw), encoding="utf-8"))
    result = read_conversations("-")
    assert result.path == "stdin"
    assert len(result.conversations) == 2


def test_lines_of_a_document_are_counted(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("\n\n" + json.dumps([TURNS, {"messages": TURNS}], indent=2))
    lines = [c.source.line for c in read_conversations(tmp_path / "a.json").conversations if c.source]
    assert lines == [4, 14]


# ---- what stands beside the messages ----------------------------------------------------------------------------


def test_plan_and_id_beside_the_messages_are_used_and_the_rest_is_kept(write: Write) -> None:
    extra = {"id": "x1", "category": "my_own", "intent": "benign", "language": "zh-CN", "labels": {"a": 1}, "n": [2]}
    (found,) = read_conversations(write({"messages": TURNS, **extra})).conversations
    assert (found.id, found.category, found.intent, found.language) == ("x1", "my_own", "benign", "zh")
    assert found.meta == {"labels": {"a": 1}, "n": [2], "language": "zh-CN"}


@pytest.mark.parametrize("key", ["intent", "kind"])
@pytest.mark.parametrize("intent", INTENTS)
def test_intent_may_be_called_kind(write: Write, key: str, intent: str) -> None:
    (found,) = read_conversations(write({"messages": TURNS, key: intent.upper()})).conversations
    assert found.intent == intent
    assert key not in found.meta


def test_a_kind_beside_an_intent_is_kept(write: Write) -> None:
    (found,) = read_conversations(write({"messages": TURNS, "intent": "benign", "kind": "harmful"})).conversations
    assert found.intent == "benign"
    assert found.meta == {"kind": "harmful"}


def test_metadata_objects_are_lifted_and_clashes_kept_apart(write: Write) -> None:
    record = {"messages": TURNS, "category": "a", "metadata": {"category": "b", "intent": "harmful", "x": 1}}
    (found,) = read_conversations(write(record)).conversations
    assert (found.category, found.intent) == ("a", "harmful")
    assert found.meta == {"x": 1, "metadata": {"category": "b"}}


@pytest.mark.parametrize(("scenario_type", "intent"), INTENT_OF_SCENARIO_TYPE.items())
@pytest.mark.parametrize(("risk", "category"), [*CATEGORY_OF_RISK.items(), ("other", None), (None, None)])
def test_words_of_the_bilingual_fork_are_mapped_and_kept(
    write: Write, scenario_type: str, intent: str, risk: str | None, category: str | None
) -> None:
    meta = {"scenario_type": scenario_type, "risk_category": risk, "language_style": "slang_typos"}
    (found,) = read_conversations(write({"meta": meta, "messages": TURNS})).conversations
    assert (found.intent, found.category, found.language) == (intent, category, None)
    assert found.meta == meta


def test_an_unknown_intent_is_kept_aside_and_noted(write: Write) -> None:
    result = read_conversations(write(*[{"messages": TURNS, "intent": "unsafe"}] * 2))
    assert [c.intent for c in result.conversations] == [None, None]
    assert [c.meta["intent"] for c in result.conversations] == ["unsafe", "unsafe"]
    (note,) = result.notes
    assert "'unsafe' is not one of harmful, borderline, benign, distress" in note
    assert result.notes[note] == 2


@pytest.mark.parametrize("role", ["system", "developer"])
def test_a_leading_system_message_is_part_of_the_conversation(write: Write, role: str) -> None:
    result = read_conversations(write([{"role": role, "content": "Be kind."}, *TURNS], TURNS))
    found, plain = result.conversations
    assert found.as_messages() == TURNS
    assert (found.system, found.meta, result.notes) == ("Be kind.", {}, {})
    assert (plain.system, plain.id) == (None, conversation(Q, A).id)
    assert found.id == conversation(Q, A, system="Be kind.").id != plain.id


def test_several_leading_system_messages_are_one(write: Write) -> None:
    led = [{"role": "system", "content": "Be safe."}, {"role": "developer", "content": "Be brief.", "name": "ops"}]
    (found,) = read_conversations(write([*led, *TURNS])).conversations
    assert found.system == "Be safe.\n\nBe brief."
    assert found.meta == {"message_keys": {"system": {"name": "ops"}}}


@pytest.mark.parametrize("aside", ["meta", "metadata"])
def test_metadata_called_system_is_metadata(write: Write, aside: str) -> None:
    record = {"messages": TURNS, aside: {"system": "macOS 14"}}
    (found,) = read_conversations(write(record)).conversations
    assert (found.system, found.meta) == (None, {"system": "macOS 14"})
    (found,) = read_conversations(write({"system": "Be kind.", **record})).conversations
    assert (found.system, found.meta) == ("Be kind.", {"system": "macOS 14"})


def test_a_second_system_text_is_kept_aside_and_noted(write: Write) -> None:
    record = {"system": "Be brief.", "messages": [{"role": "system", "content": "Be kind."}, *TURNS]}
    result = read_conversations(write(record))
    (found,) = result.conversations
    assert (found.system, found.meta) == ("Be kind.", {"system": "Be brief."})
    assert result.notes == {"a second system text beside the messages: kept in meta.system, not used": 1}


def test_a_null_key_is_an_absent_one_and_an_empty_list_yields_to_a_filled_one(write: Write) -> None:
    openai = [{**turn, "from": None, "value": None} for turn in TURNS]
    sharegpt = [{"role": None, "content": None, "from": t["role"], "value": t["content"]} for t in TURNS]
    rows = [
        {"messages": openai, "conversations": None},
        {"messages": None, "conversations": sharegpt},
        {"messages": [], "conversations": sharegpt},
        {"messages": sharegpt, "conversations": []},
    ]
    found = read_conversations(write(*rows)).conversations
    assert [c.as_messages() for c in found] == [TURNS] * 4
    assert [c.meta for c in found] == [{}, {}, {}, {}] or [set(c.meta) for c in found] == [{"id"}] * 4


def test_turns_may_call_their_text_text(write: Write) -> None:
    rows = [[{"role": t["role"], "text": t["content"]} for t in TURNS], [TURNS[0], {"role": "assistant", "body": A}]]
    result = read_conversations(write(*rows), strict=False)
    assert result.conversations[0].as_messages() == TURNS
    assert result.skipped[0].what == "message 2 (assistant) has no content (keys: role, body)"
    assert "content, value, text" in result.skipped[0].fix


@pytest.mark.parametrize(
    "turn",
    [
        {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
        {"role": "tool", "content": "18 degrees", "tool_call_id": "1"},
    ],
)
def test_a_turn_of_a_tool_is_named_with_what_can_be_done(write: Write, turn: dict[str, Any]) -> None:
    (bad,) = read_conversations(write(TURNS, [TURNS[0], turn, TURNS[1]]), strict=False).skipped
    assert bad.is_structure
    assert "tool" in bad.what
    assert "--skip-bad-lines" in bad.fix


def test_turns_are_joined_and_cut_off_only_on_request(write: Write) -> None:
    path = write([ASSISTANT, USER, USER, ASSISTANT, USER])
    (bad,) = read_conversations(path, strict=False).skipped
    assert "--trim" in bad.fix
    how = Reading(trim=True, merge_turns=True)
    result = read_conversations(path, how=how)
    (found,) = result.conversations
    assert [m.role for m in found.messages] == ["user", "assistant"]
    assert found.messages[0].content == f"{USER['content']}\n\n{USER['content']}"
    assert result.notes == {"messages trimmed": 2, "messages merged": 1}


def test_unknown_keys_of_a_turn_are_kept_with_its_number(write: Write) -> None:
    record = [TURNS[0], {**TURNS[1], "weight": 0}]
    result = read_conversations(write(record))
    assert result.conversations[0].meta == {"message_keys": {"1": {"weight": 0}}}
    assert result.notes == {"'weight' of messages: kept beside them (meta.message_keys)": 1}


def test_a_record_of_safetyqc_itself_comes_back_whole(write: Write) -> None:
    scenario = Scenario(index=3, category="general_safety", intent="benign")
    first = conversation(
        Q, A, id="c_1", origin="rewritten", revision=2, parent_id="c_0", scenario=scenario, meta={"k": 1}, author="m"
    )
    (found,) = read_conversations(write(first.model_dump_json())).conversations
    assert found.model_copy(update={"source": None}) == first


# ---- ids --------------------------------------------------------------------------------------------------------


def test_every_copy_of_a_text_gets_its_own_id_and_the_same_one_each_time(write: Write) -> None:
    path = write(TURNS, TURNS, {"messages": TURNS}, TURNS)
    first, again = read_conversations(path), read_conversations(path)
    ids = [c.id for c in first.conversations]
    assert len(set(ids)) == 4
    assert ids == [c.id for c in again.conversations]


def test_an_id_that_comes_twice_is_used_once_and_kept_in_meta(write: Write) -> None:
    other = [TURNS[0], {"role": "assistant", "content": "other"}]
    found = read_conversations(write({"id": "a", "messages": TURNS}, {"id": "a", "messages": other})).conversations
    assert found[0].id == "a"
    assert found[1].id != "a"
    assert found[1].meta == {"id": "a"}


@pytest.mark.parametrize(("given", "kept"), [("7", "7"), (7, "7"), ("", None), (None, None), (True, None), ([1], None)])
def test_only_texts_and_numbers_are_ids(write: Write, given: Any, kept: str | None) -> None:
    (found,) = read_conversations(write({"id": given, "messages": TURNS})).conversations
    assert found.id == kept or (kept is None and found.id == conversation(Q, A).id)


# ---- what is broken ---------------------------------------------------------------------------------------------

USER, ASSISTANT = TURNS
STRUCTURES: dict[str, list[Any]] = {
    "too_few_messages": [USER],
    "unknown_role": [USER, {"role": "tool", "content": "x"}],
    "not_text": [USER, {"role": "assistant", "content": None}],
    "empty_message": [USER, {"role": "assistant", "content": " \u200b\n"}],
    "starts_with_assistant": [ASSISTANT, USER],
    "no_alternation": [USER, USER, ASSISTANT, ASSISTANT],
    "ends_with_user": [USER, ASSISTANT, USER],
}


def test_every_kind_of_bad_structure_has_a_case() -> None:
    assert {*STRUCTURES, "key_twice"} == set(STRUCTURE_KINDS)


@pytest.mark.parametrize("kind", STRUCTURES)
def test_bad_structure_stops_when_strict_and_is_collected_otherwise(write: Write, kind: str) -> None:
    path = write(TURNS, STRUCTURES[kind])
    with pytest.raises(InputError, match=rf"^{re.escape(str(path))}:2: .*\n  fix: "):
        read_conversations(path)
    result = read_conversations(path, strict=False)
    assert len(result.conversations) == 1
    (bad,) = result.skipped
    assert (bad.kind, bad.line, bad.index, bad.is_structure) == (kind, 2, 1, True)


@pytest.mark.parametrize(
    "turns",
    [
        [USER, {"role": "system", "content": "x"}, ASSISTANT],
        [{"role": "system", "content": "x"}],
        [{"role": "system", "content": ["x"]}, USER, ASSISTANT],
        [],
        [USER, {"role": "assistant", "content": [{"type": "image_url"}]}],
        [USER, {"role": None, "content": "x"}],
        [USER, {"role": "assistant", "content": ["x"]}],
    ],
)
def test_other_broken_turns_are_structure_too(write: Write, turns: list[Any]) -> None:
    (bad,) = read_conversations(write(TURNS, {"messages": turns}), strict=False).skipped
    assert bad.is_structure


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("too_few_messages", "has 1 message(s)"),
        ("unknown_role", "message 2 has the role 'tool'"),
        ("not_text", "message 2 (assistant) has no content"),
        ("empty_message", "message 2 (assistant) is empty"),
        ("starts_with_assistant", "message 1 is the assistant's"),
        ("no_alternation", "messages 1 and 2 are both the user's"),
        ("ends_with_user", "ends with the user's message 3, which nobody answers"),
    ],
)
def test_a_structure_problem_names_the_message(kind: str, what: str) -> None:
    problem = structure_problem(STRUCTURES[kind])
    assert problem is not None
    assert (problem.kind, problem.what) == (kind, what)


def test_good_structure_has_no_problem() -> None:
    assert structure_problem(TURNS) is None
    assert structure_problem(TURNS * 3) is None


BROKEN = {
    b'{"messages": [{"role": "us': "cut off",
    b"not json": "an object",
    b"{'messages': []}": "json.dumps",
    b"[1, 2": "cut off",
    b'"text"': "write it as",
    b"17": "write it as",
    b"null": "write it as",
    b'["a", "b"]': "write it as",
    b'{"text": "x", "y": 1}': "write it as",
    b'{"messages": "x"}': "write it as",
    b'{"prompt": "x"}': "generate --prompts",
    b'{"chosen": "x", "rejected": "y"}': "--columns prompt=COLUMN",
    b'{"messages": [{"role": "user", "content": "x", "content": "y"}]}': "rename one",
    b'{"meta": ' + b"[" * 100 + b"]" * 100 + b"}": "nested so deep",
    b'[{"role": "user", "content": "caf\xe9"}]': "iconv",
    b'[{"role": "user", "content": "a\tb"}]': r"\\n and \\t",
    b'[{"role": "user", "content": "\\ud83d"}]': "cut texts by characters",
    b'[{"role": "user", "content": "\x00"}]': "UTF-16",
    b"[] []": "one JSON value on a line",
    b"[" * 100_000: "",
    b'{"n": ' + b"9" * 5000 + b"}": "",
    b'{"messages": [], "origin": 1, "revision": 2, "id": "x"}': "write it as",
}


@pytest.mark.parametrize("raw", BROKEN, ids=lambda raw: raw[:40].decode("latin-1"))
def test_a_broken_line_stops_with_its_place_and_a_fix_unless_skipped(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(encode_jsonl([TURNS]) + raw + b"\n" + encode_jsonl([TURNS]))
    for strict in (True, False):
        if not strict and b'"content": "x", "content"' in raw:
            continue  # of bad structure, which is counted
        with pytest.raises(InputError, match=rf"^{re.escape(str(path))}:2: (.|\n)*fix: .*{BROKEN[raw]}"):
            read_conversations(path, strict=strict)
    result = read_conversations(path, skip_bad_lines=True)
    assert [c.source.index for c in result.conversations if c.source] == [0, 2 if raw[:6] != b'["a", ' else 3]
    assert {bad.line for bad in result.skipped} == {2}


def test_an_object_without_messages_is_told_with_its_keys(write: Write) -> None:
    result = read_conversations(write(TURNS, {"text": 1, "y": 2}, {}, {"messages": None}), skip_bad_lines=True)
    assert [bad.what for bad in result.skipped] == [
        "has no messages (keys: text, y)",
        "has no messages (keys: none)",
        "has no messages (keys: messages)",
    ]


def test_a_comma_behind_each_record_is_dropped_and_noted(write: Write) -> None:
    for name in ("a.jsonl", "a.json"):
        path = write(json.dumps({"messages": TURNS}) + ",", json.dumps({"messages": TURNS}) + ",", name=name)
        result = read_conversations(path)
        assert len(result.conversations) == 2
        assert [c.source.line for c in result.conversations if c.source] == [1, 2]
    assert read_conversations(write(json.dumps(TURNS) + ",", name="b.jsonl")).notes == {"a comma behind the record": 1}


def test_a_line_longer_than_any_conversation_is_told_and_the_next_one_read(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_values, "LONGEST_LINE", 2**20)
    long = json.dumps([TURNS[0], {**TURNS[1], "content": "x" * 3 * 2**20}])
    result = read_conversations(write(TURNS, long, TURNS), skip_bad_lines=True)
    assert [bad.what for bad in result.skipped] == ["is longer than 1 MB"]
    assert [c.source.line for c in result.conversations if c.source] == [1, 3]
    whole = write(f"[{long}, {json.dumps(TURNS)}]", name="whole.jsonl")  # an array without a line break is a document
    assert len(read_conversations(whole).conversations) == 2


def test_a_file_of_broken_lines_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_MOST_SKIPPED", 100)
    (tmp_path / "a.jsonl").write_bytes(b"x\n" * 102)
    with pytest.raises(InputError, match="more than 100 records are broken"):
        read_conversations(tmp_path / "a.jsonl", skip_bad_lines=True)


def test_a_gzip_bomb_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened._Unpacked, "_FREE", 2**20)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"x" * 5_000_000, 9))
    with pytest.raises(InputError, match="unpack to more than 1"):
        read_conversations(tmp_path / "a.jsonl.gz", skip_bad_lines=True)


def test_the_first_line_may_be_the_broken_one(write: Write) -> None:
    result = read_conversations(write('{"messages": [{"role": "us', TURNS), skip_bad_lines=True)
    assert (len(result.conversations), len(result.skipped)) == (1, 1)


def test_a_broken_line_of_json_lines_named_json_costs_only_itself(write: Write) -> None:
    result = read_conversations(write(TURNS, '{"messages": [', TURNS, name="a.json"), skip_bad_lines=True)
    assert (len(result.conversations), [bad.line for bad in result.skipped]) == (2, [2])


def test_a_break_inside_a_document_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[\n" + json.dumps(TURNS) + ",\n" + '{"messages": oops}\n]')
    with pytest.raises(InputError, match=r"a\.json:3: is not JSON"):
        read_conversations(tmp_path / "a.json")
    (tmp_path / "b.json").write_text("[\n" + json.dumps(TURNS) + ",\n")
    with pytest.raises(InputError, match=r"b\.json:\d: the list is never closed"):
        read_conversations(tmp_path / "b.json")


FILES = {
    "empty": (b"", "is empty"),
    "blank": (b"\n \r\n\xef\xbb\xbf\n", "is empty"),
    "no records": (b"[]", "has 0 messages|holds no conversation"),
    "utf-16": ("\ufeff[]".encode("utf-16-le"), "UTF-16 text"),
    "utf-16 without a mark": (json.dumps(TURNS).encode("utf-16-le"), "UTF-16 text"),
    "parquet": (b"PAR1....", "is a Parquet file, and cannot be read"),
    "zip": (b"PK\x03\x04....", "zip archive"),
    "cut gzip": (gzip.compress(encode_jsonl([TURNS] * 1000))[:-20], "cannot be read to its end"),
    "damaged gzip": (b"\x1f\x8b" + b"x" * 100, "cannot be read to its end"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_cannot_be_read_at_all_is_told_even_when_skipping(tmp_path: Path, name: str) -> None:
    raw, message = FILES[name]
    (tmp_path / "a.jsonl").write_bytes(raw)
    with pytest.raises(InputError, match=rf"(?s)a\.jsonl.*({message}).*fix: ") as caught:
        read_conversations(tmp_path / "a.jsonl", skip_bad_lines=name != "no records")
    assert caught.value.exit_code == 2


def test_latin1_in_a_document_is_told_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\n[\n\n{"messages": "caf\xe9"}]')
    with pytest.raises(InputError, match=r"a\.json:4: is not UTF-8: byte 0xe9"):
        read_conversations(tmp_path / "a.json")


def test_an_absent_file_names_its_neighbour(write: Write) -> None:
    path = write(TURNS, name="conversations.jsonl")
    with pytest.raises(InputError, match=r"fix: did you mean .*conversations\.jsonl\?"):
        read_conversations(path.with_name("conversation.jsonl"))


def test_a_folder_of_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / "dataset_info.json").write_text("{}")
    with pytest.raises(InputError, match=r"is a folder without a file of records\n  fix: .*\.parquet"):
        read_conversations(tmp_path)


def test_records_stream(tmp_path: Path) -> None:
    """The first record comes before the last, broken, part of the file is reached."""
    (tmp_path / "a.jsonl").write_bytes(encode_jsonl([TURNS] * 5000) + b"\xff")
    records = iter_conversations(tmp_path / "a.jsonl")
    assert isinstance(next(records), Conversation)
    *_, last = records
    assert isinstance(last, BadLine)
    assert last.line == 5001


TURN_LIKE = st.fixed_dictionaries(
    {},
    optional={
        "role": st.sampled_from(["user", "assistant", "system", "", None, 1]),
        "from": st.sampled_from(["human", "gpt", []]),
        "content": st.text(max_size=3) | st.none() | st.lists(st.just({"type": "text", "text": "x"}), max_size=2),
        "value": st.text(max_size=3),
        "tool_calls": st.just([{}]),
    },
)
TURN_LISTS = st.lists(TURN_LIKE | st.none() | st.text(max_size=2), max_size=4) | st.just(TURNS)
FIELDS = {
    "messages": TURN_LISTS | st.text(max_size=2) | st.none(),
    "conversations": TURN_LISTS,
    "meta": st.none() | st.integers() | st.dictionaries(st.sampled_from(["id", "intent", "x"]), st.text(max_size=2)),
    "id": st.none() | st.text(max_size=2) | st.integers(0, 2) | st.lists(st.none(), max_size=1),
    "intent": st.none() | st.sampled_from(["harmful", "x", 1, []]),
    "language": st.none() | st.sampled_from(["en", 3, {}]),
    "category": st.none() | st.sampled_from(["a", 3, {}]),
    "origin": st.sampled_from(["imported", 1]),
    "revision": st.sampled_from([0, "x"]),
}


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(records=st.lists(TURN_LISTS | st.fixed_dictionaries({}, optional=FIELDS), min_size=1, max_size=4))
def test_any_record_becomes_a_sound_conversation_or_a_bad_line(write: Write, records: list[Any]) -> None:
    ids = []
    for found in iter_conversations(write(*records)):
        if isinstance(found, Conversation):
            assert structure_problem(found.as_messages()) is None
            assert Conversation.model_validate_json(found.model_dump_json()) == found
            ids.append(found.id)
        else:
            assert found.what
            assert found.fix
    assert len(set(ids)) == len(ids)
    assert "" not in ids


@pytest.mark.parametrize(("name", "count"), [("gold_dev", 190), ("bilingual_conversations", 360), ("xstest_dev", 1317)])
def test_real_files_are_read_whole(shared_data: Path, name: str, count: int) -> None:
    result = read_conversations(shared_data / f"{name}.jsonl")
    assert len({c.id for c in result.conversations}) == count
    assert result.skipped == ()


def test_the_documented_tables_are_those_of_the_code() -> None:
    text = (Path(__file__).parents[3] / "docs" / "formats.md").read_text(encoding="utf-8")
    for table in (CATEGORY_OF_RISK, INTENT_OF_SCENARIO_TYPE):
        for word, meaning in table.items():
            assert re.search(rf"^\|.*`{word}`.*\| `?{meaning}`? \|$", text, re.MULTILINE), word
