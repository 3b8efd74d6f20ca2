"""Tables and buckets of the template's shape, for suites that need no whole stack."""

from __future__ import annotations

import uuid
from typing import Any

import boto3

from cfn_yaml import load_template
from local_aws.emulator import Emulator


def client(service: str, emulator: Emulator | None) -> Any:
    """A client of the emulator, or of moto if there is none."""
    if emulator is None:
        return boto3.client(service, region_name="us-east-1")  # type: ignore[call-overload]
    return boto3.client(service, **emulator.client_arguments)  # type: ignore[call-overload]


def create_table(dynamodb: Any, logical_id: str) -> str:
    """A fresh table with the keys that the template gives to `logical_id`."""
    properties = load_template()["Resources"][logical_id]["Properties"]
    name = f"{logical_id}-{uuid.uuid4().hex[:8]}"
    dynamodb.create_table(
        TableName=name,
        KeySchema=properties["KeySchema"],
        AttributeDefinitions=properties["AttributeDefinitions"],
        BillingMode=properties["BillingMode"],
    )
    return name


def create_bucket(s3: Any) -> str:
    """A fresh versioned bucket."""
    name = f"prompts-{uuid.uuid4().hex[:8]}"
    s3.create_bucket(Bucket=name)
    s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
    return name


def create_queue(sqs: Any, name: str) -> str:
    """A fresh queue; its URL."""
    return str(sqs.create_queue(QueueName=f"{name}-{uuid.uuid4().hex[:8]}")["QueueUrl"])
