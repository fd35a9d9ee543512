"""The integrations file: every problem is named where it is, and no secret is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from worker.errors import SettingError
from worker.integrations.file import MAX_FILE_BYTES, load_integrations
from worker.integrations.sources import EncordSource, EventsSource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PROJECT = "11111111-1111-4111-8111-111111111111"
STANDARD = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ENVIRON = {"SECRET": "whsec-test", "STANDARD": STANDARD, "OTHER": "the-one-of-last-year"}

SOURCE = """
[sources.encord]
scheme = "encord"
secrets = [{ env = "SECRET" }]
"""
STOP = "[sources.encord.rules.stop]"
RULE = """
[[sources.encord.rules]]
name = "stop"
"""
COMMAND = """
[sources.encord.rules.command]
type = "cancel"
data.command_id = "body.payload.id"
"""
EVENTS_RULE = """
[sources.a]
scheme = "events"
[[sources.a.rules]]
name = "b"
command = { type = "cancel", data = { command_id = "body.id" } }
"""
SINK = """
[sinks.ops.webhook]
url = "https://example.com/hook"
secrets = [{ env = "STANDARD" }]
"""
TRAIN = f"""
[sources.encord.rules.command]
type = "train"
[sources.encord.rules.command.data]
model_uuid = "'{PROJECT}'"
labels_uuids = "body.payload.label_hashes"
epochs = 10
batch_size = 4
[sources.encord.rules.command.data.features_mapping.{PROJECT}]
aBcD1234 = ["'car'"]
"""


def load(folder: Path, text: str, environ: Mapping[str, str] = ENVIRON, **options: bool) -> Any:
    file = folder / "integrations.toml"
    file.write_text(text, "utf-8")
    return load_integrations(file, environ, **options)


def problems(folder: Path, text: str, environ: Mapping[str, str] = ENVIRON) -> dict[str, str]:
    """What is wrong with a file, by its table and field."""
    with pytest.raises(SettingError) as refused:
        load(folder, text, environ)
    found = {each.path: each.message for each in refused.value.problems}
    assert len(found) == len(refused.value.problems)
    assert all(f"{path} {said}".strip() in refused.value.message for path, said in found.items())
    assert refused.value.message.count("\n") == 0
    return found


def test_a_file_is_read_as_it_says(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"the-one-of-last-year\n")
    found = load(
        tmp_path,
        """
        [sources.encord]
        scheme = "encord"
        secrets = [{ env = "SECRET" }, { file = "old" }]
        tolerance_seconds = 60
        [[sources.encord.rules]]
        name = "stop"
        on = ["task_*", "x"]
        command.type = "cancel"
        command.data.command_id = "body.payload.id"
        [sources.follow-up]
        scheme = "events"
        [sinks.copy.redis]
        list = "events"
        """,
    )
    source = found.sources["encord"]
    assert isinstance(source, EncordSource)
    assert [each.value for each in source.secrets] == [b"whsec-test", b"the-one-of-last-year"]
    assert source.tolerance_seconds == 60
    assert [rule.name for rule in source.rules] == ["stop"]
    assert source.rules[0].on is not None
    assert [source.rules[0].on.match(each) for each in ("task_a", "x", "xx")] == [True, True, False]
    assert isinstance(found.sources["follow-up"], EventsSource)
    assert found.sinks["copy"].redis.list == "events"


def test_rules_of_two_sources_may_have_one_name(tmp_path: Path) -> None:
    other = (SOURCE + RULE + COMMAND).replace("sources.encord", "sources.other")
    found = load(tmp_path, SOURCE + RULE + COMMAND + other)
    names = {name: [rule.name for rule in each.rules] for name, each in found.sources.items()}
    assert names == {"encord": ["stop"], "other": ["stop"]}


def test_an_empty_file_names_nothing_and_is_valid(tmp_path: Path) -> None:
    found = load(tmp_path, "")
    assert (dict(found.sources), dict(found.sinks)) == ({}, {})


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        # The file.
        ("a =", "", "is not TOML"),
        ("[a]\n[a]", "", "is not TOML"),
        ("x = " + "[" * 5000, "", "is nested too deeply"),
        ("[source.encord]", "", "Unknown table 'source'. Did you mean 'sources'?"),
        ("sources = 1", "[sources]", "must hold tables, like [sources.name]"),
        ("sources.a = 1", "[sources] a", "must be a table: [sources.a]"),
        ('[sources."a/b"]', "[sources.a/b]", "the name must have 1 to 64 letters"),
        ("[sinks._a]", "[sinks._a]", "no - or _ first"),
        # Sources.
        ("[sources.a]", "[sources.a] scheme", "is required; one of encord, standard-webhooks"),
        ('[sources.a]\nscheme = "gitub"', "[sources.a] scheme", "Did you mean 'github'?"),
        ('[sources.a]\nscheme = "encord"', "[sources.a] secrets", "is required"),
        (SOURCE + 'tolerance = 5', "[sources.encord] tolerance", "mean tolerance_seconds?"),
        (SOURCE + 'header = "x"', "[sources.encord] header", "unknown; there is scheme, secrets"),
        (SOURCE + 'name = "x"', "[sources.encord] name", "the table's own name is it"),
        (SOURCE + 'tolerance_seconds = "5"', "[sources.encord] tolerance_seconds", "a number"),
        (SOURCE + "tolerance_seconds = 0", "[sources.encord] tolerance_seconds", "must be greater"),
        (SOURCE + "tolerance_seconds = nan", "[sources.encord] tolerance_seconds", "must be"),
        (SOURCE + "rules = 1", "[sources.encord] rules", "must be a list"),
        (SOURCE + "rules = [1]", "[sources.encord.rules.1]", "must be a table"),
        # Rules.
        (SOURCE + "[[sources.encord.rules]]" + COMMAND, "[sources.encord.rules.1] name",
         "is required"),
        (SOURCE + RULE, f"{STOP} command", "is required"),
        (SOURCE + RULE + COMMAND + RULE + COMMAND, f"{STOP} name", "earlier"),
        (SOURCE + RULE + 'wen = "body.a"' + COMMAND, f"{STOP} wen",
         "did you mean when?"),
        (SOURCE + RULE + "on = []" + COMMAND, f"{STOP} on", "names no type"),
        (SOURCE + RULE + 'on = ""' + COMMAND, f"{STOP} on", "1 to 200"),
        (SOURCE + RULE + 'on = "*a*b*c*d*e*"' + COMMAND, f"{STOP} on", "four *"),
        (SOURCE + RULE + "on = 5" + COMMAND, f"{STOP} on", "in quotes"),
        (SOURCE + RULE + "allow = []" + COMMAND, f"{STOP} allow", "not be empty"),
        (SOURCE + RULE + 'allow = "a"' + COMMAND, f"{STOP} allow", "a list"),
        (SOURCE + RULE + "when = 5" + COMMAND, f"{STOP} when", "must be an expression in quotes"),
        (SOURCE + RULE + "command = 5", f"{STOP} command", "must be a table with type and data"),
        (SOURCE + RULE + 'when = "body."' + COMMAND, f"{STOP} when",
         "is no JMESPath expression"),
        (SOURCE + RULE + 'when = "payload.a"' + COMMAND, f"{STOP} when",
         "did you mean body.payload?"),
        (SOURCE + RULE + 'when = "boddy.a"' + COMMAND, f"{STOP} when",
         "did you mean body?"),
        (SOURCE + RULE + 'when = "item.a"' + COMMAND, f"{STOP} when",
         "only in command"),
        (SOURCE + RULE + 'when = "lenght(body)"' + COMMAND, f"{STOP} when",
         "Did you mean 'length'?"),
        (SOURCE + RULE + 'when = "length(body, body)"' + COMMAND,
         f"{STOP} when", "length() takes 1 arguments, not 2"),
        (SOURCE + RULE + 'when = "body.a == `x`"' + COMMAND, f"{STOP} when",
         "no JSON between its backticks"),
        (SOURCE + RULE + f'when = "{"!" * 3000}body"' + COMMAND, f"{STOP} when",
         "nested too deeply"),
        (SOURCE + RULE + f'when = "body.{"a" * 5000}"' + COMMAND, f"{STOP} when",
         "at most 4096 characters"),
        (SOURCE + RULE + 'coalesce = { key = "body.a" }' + COMMAND,
         f"{STOP} coalesce.window_seconds", "is required"),
        (SOURCE + RULE + 'coalesce = { key = "body.a", window_seconds = 5, wait = 5 }' + COMMAND,
         f"{STOP} coalesce.wait", "is unknown; there is key, window_seconds"),
        (SOURCE + RULE + 'key = "body.b"\ncoalesce = { key = "body.a", window_seconds = 5 }'
         + COMMAND, f"{STOP} key", "derive from its window"),
        # Templates: what no delivery can make a valid command of.
        (SOURCE + RULE + "[sources.encord.rules.command]\ntype = 'trian'\ndata = {}",
         f"{STOP} command.type", "Did you mean 'train'?"),
        (SOURCE + RULE + "[sources.encord.rules.command]\ndata = {}",
         f"{STOP} command.type", "is required"),
        (SOURCE + RULE + "[sources.encord.rules.command]\ntype = 'cancel'",
         f"{STOP} command.data", "is required"),
        (SOURCE + RULE + "[sources.encord.rules.command]\ntype = 'cancel'\ndata = {}",
         f"{STOP} command.data.command_id", "is required"),
        (SOURCE + RULE + COMMAND + 'data.comand_id = "body.a"',
         f"{STOP} command.data.comand_id", "did you mean command_id?"),
        # Though it begins as a field does whose value is not known yet.
        (SOURCE + RULE + COMMAND + "data.command_id2 = 5",
         f"{STOP} command.data.command_id2", "did you mean command_id?"),
        (SOURCE + RULE + COMMAND + 'id = "body.a"', f"{STOP} command.id",
         "ids are made from the delivery"),
        (SOURCE + RULE + COMMAND + "reactiondepth = 1",
         f"{STOP} command.reactiondepth", "remove it"),
        (SOURCE + RULE + COMMAND + "priority = \"'bulk'\"",
         f"{STOP} command.priority", "must be 'interactive' or 'bulk'"),
        (SOURCE + RULE + COMMAND + 'replyto = "billing"',
         f"{STOP} command.replyto", "write \"'billing'\""),
        (SOURCE + RULE + COMMAND + "replyto = \"'Bill ing'\"",
         f"{STOP} command.replyto", "must match"),
        (SOURCE + RULE + COMMAND + "deadline = 2026-01-01",
         f"{STOP} command.deadline", "with an offset"),
        (SOURCE + RULE + COMMAND + 'model_uuid = "body.a"',
         f"{STOP} command.model_uuid", "is no attribute"),
        (SOURCE + RULE + COMMAND + 'correlationid = "item"',
         f"{STOP} command", "only with for_each"),
        (SOURCE + RULE + TRAIN.replace("epochs = 10", "epochs = 0"),
         f"{STOP} command.data.epochs", "must be at least 1"),
        (SOURCE + RULE + TRAIN.replace("epochs = 10", "epochs = nan"),
         f"{STOP} command.data.epochs", "must be a finite number"),
        (SOURCE + RULE + TRAIN.replace("epochs = 10", "epochs = \"'10'\""),
         f"{STOP} command.data.epochs", "must be an integer"),
        (SOURCE + RULE + TRAIN.replace("epochs = 10\n", ""),
         f"{STOP} command.data.epochs", "is required"),
        (SOURCE + RULE + TRAIN.replace(f"\"'{PROJECT}'\"", "\"'0f'\""),
         f"{STOP} command.data.model_uuid", "must be a UUID"),
        (SOURCE + RULE + TRAIN.replace(f"\"'{PROJECT}'\"", f'"{PROJECT}"'),
         f"{STOP} command.data.model_uuid", f"write \"'{PROJECT}'\""),
        (SOURCE + RULE + TRAIN.replace('"body.payload.label_hashes"', "[]"),
         f"{STOP} command.data.labels_uuids", "must not be empty"),
        # Other schemes.
        ('[sources.a]\nscheme = "events"\nsecrets = []', "[sources.a] secrets", "is unknown"),
        (EVENTS_RULE + 'on = "train.suceeded"', "[sources.a.rules.b] on",
         "'train.suceeded' is the type of no event"),
        (EVENTS_RULE + 'allow = ["x"]', "[sources.a.rules.b] allow", "needs project"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_table_and_field(
    tmp_path: Path, text: str, path: str, said: str
) -> None:
    found = problems(tmp_path, text)
    assert list(found) == [path]
    assert said in found[path]


HMAC = """
[sources.a]
scheme = "hmac"
secrets = [{ env = "SECRET" }]
"""


@pytest.mark.parametrize(
    ("more", "field", "said"),
    [
        ("", "header", "is required"),
        ('header = "a b"', "header", "must match"),
        ('header = "X"\nalgorithm = "md5"', "algorithm", "must be 'sha256'"),
        ('header = "X"\nencoding = "base32"', "encoding", "must be 'hex' or 'base64'"),
        ('header = "X"\nsigned = "{timestamp}"\ntimestamp_header = "T"', "signed", "{body} once"),
        ('header = "X"\nsigned = "{body}{body}"', "signed", "{body} once"),
        ('header = "X"\nsigned = "{body}.{time}"', "signed", "{time}; there is {body}"),
        ('header = "X"\nsigned = "{timestamp}.{body}"', "timestamp_header", "is required"),
        ('header = "X"\nsigned = "{id}.{body}"', "id_header", "is required"),
        ('header = "X"\ntimestamp_header = "T"', "timestamp_header", "that is not signed"),
        ('header = "X"\nheader_format = "{signature}"', "header_format", "must be pairs"),
        ('header = "X"\nheader_format = "a={signature},a={id}"', "header_format", "each name"),
        (
            'header = "X"\nsigned = "{id}{body}"\nheader_format = "i={id}"',
            "header_format",
            "must hold {signature}",
        ),
        (
            'header = "X"\nheader_format = "t={timestamp},v1={signature}"',
            "header_format",
            "that is not signed",
        ),
        (
            'header = "X"\nheader_format = "i={id},v1={signature}"\nid_header = "I"',
            "id_header",
            "remove one",
        ),
        (
            'header = "X"\nheader_format = "v1={signature}"\nsigned = "{signature}{body}"',
            "signed",
            "{signature}; there is {body}",
        ),
        ('header = "X"\nheader_format = "v1={signature}"\nprefix = "v1="', "prefix", "remove it"),
        ('header = "X"\non_header = "T"\non_field = "a"', "on_field", "not both"),
    ],
)
def test_a_scheme_that_would_leave_something_open_is_refused(
    tmp_path: Path, more: str, field: str, said: str
) -> None:
    found = problems(tmp_path, HMAC + more)
    assert list(found) == [f"[sources.a] {field}"]
    assert said in found[f"[sources.a] {field}"]


@pytest.mark.parametrize(
    ("text", "path", "said"),
    [
        ("[sinks.a]", "[sinks.a]", "exactly one table of webhook, redis and broker"),
        (SINK + '[sinks.ops.redis]\nstream = "a"', "[sinks.ops]", "exactly one table"),
        ("[sinks.a.redis]", "[sinks.a] redis", "exactly one of stream and list"),
        ('[sinks.a.redis]\nstream = "a"\nlist = "b"', "[sinks.a] redis", "exactly one of"),
        ('[sinks.a.redis]\nstream = "a"\nurl = "http://x"', "[sinks.a] redis.url", "must begin"),
        ('[sinks.a.redis]\nstream = ""', "[sinks.a] redis.stream", "must not be empty"),
        ('[sinks.a.broker]\nurl = "rabbit"', "[sinks.a] broker.url", "like amqp://host/vhost"),
        ('[sinks.a.broker]\nurl = "amqp://x"\nrouting_key = "\'"', "[sinks.a] broker.routing_key",
         "is no JMESPath expression"),
        (SINK.replace("https", "ftp"), "[sinks.ops] webhook.url", "like https://example.com"),
        (SINK.replace("example.com", ""), "[sinks.ops] webhook.url", "like https://example.com"),
        (SINK.replace("example.com", "example.com:x"), "[sinks.ops] webhook.url", "is no URL"),
        (SINK.replace("example.com", "u:hunter2@example.com"), "[sinks.ops] webhook.url",
         "leave them out"),
        (SINK.replace("/hook", "/hook#a"), "[sinks.ops] webhook.url", "has a #"),
        (SINK.replace("example.com", "example.com:0"), "[sinks.ops] webhook.url", "like https:"),
        (SINK.replace("secrets", "secret"), "[sinks.ops] webhook.secret", "did you mean secrets?"),
        (SINK + "concurrency = 0", "[sinks.ops] webhook.concurrency", "must be greater"),
        (SINK + 'concurrency = "8"', "[sinks.ops] webhook.concurrency", "be a whole number"),
        (SINK + "concurrency = 1.5", "[sinks.ops] webhook.concurrency", "be a whole number"),
        (SINK + "allow_private = 1", "[sinks.ops] webhook.allow_private", "be true or false"),
        ('[sinks.a.broker]\nurl = "amqp://x"\nexchange = 5', "[sinks.a] broker.exchange",
         "must be a text in quotes"),
        ("[sinks.a]\nredis = 5", "[sinks.a] redis", "must be a table"),
        ("[sinks.ops]\ntypes = []" + SINK, "[sinks.ops] types", "names no type"),
        ("[sinks.ops]\ntypes = ['*.failed', 'train.suceeded']" + SINK, "[sinks.ops] types",
         "'train.suceeded' is the type of no event"),
        ("[sinks.ops]\nreply_to = ['A b']" + SINK, "[sinks.ops] reply_to[0]", "must match"),
        ("[sinks.ops]\nwhen = 'data..'" + SINK, "[sinks.ops] when", "is no JMESPath expression"),
        ("[sinks.ops]\nwen = 'data'" + SINK, "[sinks.ops] wen", "did you mean when?"),
    ],
)  # fmt: skip
def test_a_sink_that_can_not_work_is_refused(
    tmp_path: Path, text: str, path: str, said: str
) -> None:
    found = {key: each for key, each in problems(tmp_path, text).items() if "secrets" not in key}
    assert list(found) == [path]
    assert said in found[path]


LONG = "0123456789abcdef"


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("", "is empty"),
        ("  \n", "is empty"),
        ("short", "is too short: it must have at least 8 bytes"),
        (f"{LONG}\n{LONG}", "holds a line break"),
        (f"{LONG}\r{LONG}", "holds a line break"),
        (f"{LONG}\n\n", "holds a line break"),
        (f"{LONG}\t{LONG}", "holds a control character"),
        (f" {LONG}", "begins or ends with a blank"),
        (f"{LONG} ", "begins or ends with a blank"),
        ("x" * 5000, "holds more than 4096 bytes"),
        (f"{LONG}\udcff", "is not UTF-8"),
    ],
)
@pytest.mark.parametrize("kind", ["env", "file"])
def test_a_secret_that_can_not_be_right_is_named_and_not_shown(
    tmp_path: Path, kind: str, value: str, said: str
) -> None:
    (tmp_path / "SECRET").write_bytes(value.encode(errors="surrogateescape"))
    text = f'[sources.encord]\nscheme = "encord"\nsecrets = [{{ {kind} = "SECRET" }}]'
    found = problems(tmp_path, text, {"SECRET": value})
    assert list(found) == ["[sources.encord] secrets[0]"]
    told = found["[sources.encord] secrets[0]"]
    assert said in told
    assert "SECRET" in told
    assert LONG not in told


def test_of_a_file_one_newline_at_its_end_is_no_part_of_the_secret(tmp_path: Path) -> None:
    text = '[sources.encord]\nscheme = "encord"\nsecrets = [{ file = "secret" }]'
    for end in (b"", b"\n", b"\r\n"):
        (tmp_path / "secret").write_bytes(LONG.encode() + end)
        assert load(tmp_path, text).sources["encord"].secrets[0].value == LONG.encode()
    # A variable has no editor that adds one.
    with pytest.raises(SettingError, match="line break"):
        load(tmp_path, SOURCE, {"SECRET": f"{LONG}\n"})


@pytest.mark.parametrize(
    ("secrets", "field", "said"),
    [
        ("[]", "secrets", "names no secret"),
        (f'["{LONG}"]', "secrets[0]", "never the secret itself"),
        (f'"{LONG}"', "secrets", "must be a list"),
        ('[{ env = "SECRET", file = "a" }]', "secrets[0]", "must be { env"),
        ('[{ evn = "SECRET" }]', "secrets[0]", "must be { env"),
        ("[{ env = 5 }]", "secrets[0]", "in quotes"),
        ('[{ env = "ABSENT" }]', "secrets[0]", "the variable ABSENT is not set"),
        (f'[{{ env = "whsec_{LONG}" }}]', "secrets[0]", "the variable … is not set"),
        (f'[{{ file = "whsec_{LONG}" }}]', "secrets[0]", "the file … can't be read"),
        (f'[{{ file = "~nobody-at-all/{LONG}" }}]', "secrets[0]", "the file … can't be read"),
        ('[{ file = "absent" }]', "secrets[0]", "No such file"),
        ('[{ file = "." }]', "secrets[0]", ". is no file"),
        ('[{ file = "/dev/zero" }]', "secrets[0]", "/dev/zero is no file"),
        ('[{ file = "~nobody-at-all/x" }]', "secrets[0]", "home is not there"),
        ('[{ file = "a\\u0000b" }]', "secrets[0]", "must be a path"),
        ('[{ env = "SECRET" }, { env = "SECRET" }]', "secrets", "the same secret twice"),
        ('[{ env = "SECRET" }, { env = "OTHER" }, { env = "STANDARD" }]', "secrets", "than two"),
    ],
)
def test_secrets_that_are_named_in_a_wrong_way_are_refused(
    tmp_path: Path, secrets: str, field: str, said: str
) -> None:
    found = problems(tmp_path, f'[sources.encord]\nscheme = "encord"\nsecrets = {secrets}')
    assert list(found) == [f"[sources.encord] {field}"]
    assert said in found[f"[sources.encord] {field}"]
    assert LONG not in str(found)


@pytest.mark.parametrize(
    ("value", "said"),
    [("no base64 at all!", "whsec_ and base64 after it"), ("whsec_", "whsec_ and base64 after it"),
     ("whsec_c2hvcnQ=", "is too short"), ("whsk_" + "A" * 43, "whsec_ and base64")],
)  # fmt: skip
def test_a_secret_of_standard_webhooks_is_whsec_and_base64(
    tmp_path: Path, value: str, said: str
) -> None:
    text = '[sources.a]\nscheme = "standard-webhooks"\nsecrets = [{ env = "S" }]'
    found = problems(tmp_path, text, {"S": value})
    assert said in found["[sources.a] secrets[0]"]
    for good in (STANDARD, STANDARD.removeprefix("whsec_")):
        assert len(load(tmp_path, text, {"S": good}).sources["a"].secrets[0].value) == 24


def test_every_problem_of_a_file_is_told_at_once(tmp_path: Path) -> None:
    text = (
        SOURCE.replace("SECRET", "ABSENT")
        + RULE
        + 'when = "x"'
        + COMMAND
        + 'id = "a"\n[sources.b]\n[sinks.c]'
    )
    found = problems(tmp_path, text)
    assert list(found) == [
        "[sources.encord] secrets[0]",
        f"{STOP} when",
        f"{STOP} command.id",
        "[sources.b] scheme",
        "[sinks.c]",
    ]


def test_a_file_that_can_not_be_read_is_a_wrong_setting(tmp_path: Path) -> None:
    for name, said in (("absent.toml", "No such file"), (".", "Is a directory")):
        with pytest.raises(SettingError, match=said):
            load_integrations(tmp_path / name, {})
    big = tmp_path / "big.toml"
    big.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(SettingError, match="has more than"):
        load_integrations(big, {})
    big.write_bytes(b"a = '\xff'")
    with pytest.raises(SettingError, match="not UTF-8"):
        load_integrations(big, {})


def test_a_file_as_windows_writes_it_is_read(tmp_path: Path) -> None:
    file = tmp_path / "integrations.toml"
    file.write_bytes(b"\xef\xbb\xbf" + SOURCE.replace("\n", "\r\n").encode())
    assert list(load_integrations(file, ENVIRON).sources) == ["encord"]


def test_a_file_can_be_checked_where_its_secrets_are_not(tmp_path: Path) -> None:
    text = SOURCE + SINK + '[sinks.b.broker]\nurl = { env = "ABSENT" }'
    found = load(tmp_path, text, {}, looks_up_secrets=False)
    assert [each.origin for each in found.sources["encord"].secrets] == ["env SECRET"]
    with pytest.raises(SettingError, match="never the secret itself"):
        load(tmp_path, text.replace('{ env = "SECRET" }', '"x"'), {}, looks_up_secrets=False)


def test_nothing_that_is_read_shows_a_secret(tmp_path: Path) -> None:
    text = (
        SOURCE
        + SINK
        + '[sinks.b.broker]\nurl = { env = "AMQP" }\n'
        + '[sinks.c.redis]\nstream = "x"\nurl = "redis://u:hunter2@h"'
    )
    found = load(tmp_path, text, {**ENVIRON, "AMQP": "amqp://u:hunter2@h"})
    for secret in ("hunter2", "whsec-test", STANDARD[6:]):
        assert secret not in repr(found)
