"""index_prompt and roll_up_usage, with the events that S3 and DynamoDB send."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llm_gateway.entrypoints.aws_lambda.function import InvocationFailed
from llm_gateway.errors import StoreUnavailable
from tests.entrypoints.aws_lambda.conftest import Functions, read_event


def listed(functions: Functions) -> list[tuple[str, str]]:
    _, body = functions.http("list_prompts", "list_prompts_all")
    return [(p["path"], p["state"]) for p in body["prompts"]]


def uploaded(functions: Functions, event: str, path: str, text: str = "Hi {{ name }}") -> dict[str, Any]:
    functions.s3.put_object(Bucket=functions.bucket, Key=path, Body=text.encode())
    return read_event(event)


def test_an_upload_is_indexed_and_a_deletion_takes_it_out(functions: Functions) -> None:
    event = uploaded(functions, "index_prompt_created", "support/reply.prompt")
    assert functions.run("index_prompt", event) == {"indexed": 1}
    assert listed(functions) == [("support/reply.prompt", "ok")]
    functions.s3.delete_object(Bucket=functions.bucket, Key="support/reply.prompt")
    assert functions.run("index_prompt", "index_prompt_deleted") == {"deleted": 1}
    assert listed(functions) == []


def test_a_url_encoded_key_is_decoded(functions: Functions) -> None:
    event = uploaded(functions, "index_prompt_url_encoded_key", "marketing/launch day & after.prompt")
    functions.run("index_prompt", event)
    assert listed(functions) == [("marketing/launch day & after.prompt", "ok")]


def test_the_same_event_twice_changes_nothing(functions: Functions) -> None:
    event = uploaded(functions, "index_prompt_created", "support/reply.prompt")
    functions.run("index_prompt", event)
    assert functions.run("index_prompt", event) == {"outdated": 1}
    assert listed(functions) == [("support/reply.prompt", "ok")]


def test_several_records_come_in_one_event(functions: Functions) -> None:
    first = uploaded(functions, "index_prompt_created", "support/reply.prompt")
    second = uploaded(functions, "index_prompt_url_encoded_key", "marketing/launch day & after.prompt")
    both = {"Records": first["Records"] + second["Records"]}
    assert functions.run("index_prompt", both) == {"indexed": 2}


def test_half_a_character_in_one_file_breaks_that_file_and_no_list(functions: Functions) -> None:
    good = uploaded(functions, "index_prompt_url_encoded_key", "marketing/launch day & after.prompt")
    bad = uploaded(functions, "index_prompt_created", "support/reply.prompt", '{{ x["\\ud800"] }}')
    both = {"Records": bad["Records"] + good["Records"]}
    assert functions.run("index_prompt", both) == {"broken": 1, "indexed": 1}
    assert listed(functions) == [
        ("marketing/launch day & after.prompt", "ok"),
        ("support/reply.prompt", "broken"),
    ]


def test_a_record_that_fails_is_raised_after_the_others_are_indexed(functions: Functions) -> None:
    good = uploaded(functions, "index_prompt_created", "support/reply.prompt")
    odd = json.loads(json.dumps(good["Records"][0]))
    odd["s3"]["object"] = {"key": "a.md"}  # an event without a sequencer
    with pytest.raises(InvocationFailed, match="KeyError"):
        functions.run("index_prompt", {"Records": [odd, *good["Records"]]})
    assert listed(functions) == [("support/reply.prompt", "ok")]


def test_s3s_test_event_is_no_prompt(functions: Functions) -> None:
    assert functions.run("index_prompt", "index_prompt_test_event") == {}


def test_a_partial_that_changes_renews_every_prompt_that_includes_it(functions: Functions) -> None:
    partial = uploaded(functions, "index_prompt_partial", "_shared/tone.md", "Be kind, {{ name }}.")
    assert functions.run("index_prompt", partial) == {}
    event = uploaded(
        functions, "index_prompt_created", "support/reply.prompt", '{% include "_shared/tone.md" %}'
    )
    assert functions.run("index_prompt", event) == {"indexed": 1}
    partial = uploaded(functions, "index_prompt_partial", "_shared/tone.md", "Be brief, {{ user }}.")
    assert functions.run("index_prompt", partial) == {"indexed": 1}
    _, metadata = functions.http("get_prompt_metadata", "get_prompt_metadata_found")
    assert metadata["required_variables"] == ["user"]
    assert list(metadata["partials"]) == ["_shared/tone.md"]
    assert [item["error"] for item in metadata["history"]] == [None, None]


@pytest.mark.parametrize("key", ["logo.png", "notes", "a//b.md"])
def test_other_files_are_left_alone(functions: Functions, key: str) -> None:
    event = uploaded(functions, "index_prompt_created", key)
    event["Records"][0]["s3"]["object"]["key"] = key
    assert functions.run("index_prompt", event) == {}
    assert listed(functions) == []


def test_a_broken_upload_is_told_in_log_and_metric_without_its_text(functions: Functions) -> None:
    event = uploaded(functions, "index_prompt_created", "support/reply.prompt", "CANARY {% if %}")
    assert functions.run("index_prompt", event) == {"broken": 1}
    lines = functions.lines()
    [told] = [line for line in lines if line.get("message") == "prompt indexed"]
    assert told["outcome"] == "broken"
    assert told["problem"].startswith("line 1:")
    assert [line["PromptsBroken"] for line in lines if "PromptsBroken" in line] == [[1.0]]
    assert "CANARY" not in str(lines)


def test_a_store_that_fails_makes_lambda_deliver_again(fragile: Functions) -> None:
    event = uploaded(fragile, "index_prompt_created", "support/reply.prompt")
    fragile.dynamodb.delete_table(TableName=fragile.prompt_table)
    with pytest.raises(StoreUnavailable):
        fragile.run("index_prompt", event)


def test_what_lost_events_left_behind_is_repaired_and_measured(functions: Functions) -> None:
    functions.upload("kept.md", "Kept")
    functions.upload("gone.md", "Gone")
    for path, text in (("new.md", b"New"), ("kept.md", b"Edited, and longer"), ("logo.png", b"")):
        functions.s3.put_object(Bucket=functions.bucket, Key=path, Body=text)
    functions.s3.delete_object(Bucket=functions.bucket, Key="gone.md")
    functions.lines()
    assert functions.run("reconcile", "reconcile_schedule") == {"repaired": 3}
    assert [line["IndexDrift"] for line in functions.lines() if "IndexDrift" in line] == [[3.0]]
    assert listed(functions) == [("kept.md", "ok"), ("new.md", "ok")]
    assert functions.run("reconcile", "reconcile_schedule") == {"repaired": 0}


def put_batch(functions: Functions) -> dict[str, Any]:
    batch = read_event("roll_up_usage_batch")
    for record in batch["Records"]:
        functions.dynamodb.put_item(TableName=functions.usage_table, Item=record["dynamodb"]["NewImage"])
    return batch


def test_a_batch_is_counted(functions: Functions) -> None:
    assert functions.run("roll_up_usage", put_batch(functions)) == {"batchItemFailures": []}
    [line] = [line for line in functions.lines() if line.get("message") == "usage rolled up"]
    assert (line["calls"], line["counted"], line["unreadable"]) == (3, 3, 0)


def test_an_unreadable_item_is_reported_and_the_others_are_counted(functions: Functions) -> None:
    batch = put_batch(functions)
    del batch["Records"][1]["dynamodb"]["NewImage"]["call_id"]
    number = batch["Records"][1]["dynamodb"]["SequenceNumber"]
    answer = functions.run("roll_up_usage", batch)
    assert answer == {"batchItemFailures": [{"itemIdentifier": number}]}
    [line] = [line for line in functions.lines() if line.get("message") == "usage rolled up"]
    assert (line["counted"], line["unreadable"]) == (2, 1)


@pytest.mark.parametrize(("name", "value"), [("eventName", "MODIFY"), ("eventName", "REMOVE")])
def test_only_new_ledger_items_count(functions: Functions, name: str, value: str) -> None:
    batch = put_batch(functions)
    for record in batch["Records"]:
        record[name] = value
    functions.run("roll_up_usage", batch)
    [line] = [line for line in functions.lines() if line.get("message") == "usage rolled up"]
    assert line["calls"] == 0


def test_rollups_do_not_count_themselves(functions: Functions) -> None:
    batch = put_batch(functions)
    for record in batch["Records"]:
        record["dynamodb"]["Keys"]["pk"]["S"] = "rollup#day#2026-11"
    functions.run("roll_up_usage", batch)
    [line] = [line for line in functions.lines() if line.get("message") == "usage rolled up"]
    assert line["calls"] == 0


def test_records_that_waited_in_the_queue_are_written_once_and_others_come_back(functions: Functions) -> None:
    event = read_event("drain_usage_batch")
    for _ in range(2):
        answer = functions.run("drain_usage", event)
        assert answer == {"batchItemFailures": [{"itemIdentifier": event["Records"][2]["messageId"]}]}
    items = functions.dynamodb.scan(TableName=functions.usage_table)["Items"]
    expected = json.loads(event["Records"][0]["body"])
    [item] = items
    assert {name: value for name, value in item.items() if name != "expires_at"} == {
        name: value for name, value in expected.items() if name != "expires_at"
    }
    assert any(line.get("message") == "usage drained" for line in functions.lines())


def test_a_record_that_cannot_be_written_yet_comes_back(fragile: Functions) -> None:
    fragile.dynamodb.delete_table(TableName=fragile.usage_table)
    event = read_event("drain_usage_batch")
    failed = fragile.run("drain_usage", event)["batchItemFailures"]
    assert [failure["itemIdentifier"] for failure in failed] == [r["messageId"] for r in event["Records"]]
