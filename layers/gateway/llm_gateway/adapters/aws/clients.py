"""Clients of AWS's SDK, each made when it is first needed and then kept."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from boto3 import Session
    from botocore.config import Config
    from mypy_boto3_dynamodb import DynamoDBClient
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient
    from mypy_boto3_sqs import SQSClient

_CONNECT_TIMEOUT_S = 1.0
_READ_TIMEOUT_S = 2.0


class AwsClients:
    """One session and the clients made from it; a process that asks for none never loads the SDK."""

    @cached_property
    def session(self) -> Session:
        """Credentials and region."""
        from boto3 import Session

        return Session()

    @cached_property
    def dynamodb(self) -> DynamoDBClient:
        """Tables."""
        return self.session.client("dynamodb", config=self.config)

    @cached_property
    def s3(self) -> S3Client:
        """Buckets."""
        return self.session.client("s3", config=self.config)

    @cached_property
    def sqs(self) -> SQSClient:
        """Queues."""
        return self.session.client("sqs", config=self.config)

    @cached_property
    def secrets(self) -> SecretsManagerClient:
        """Secrets."""
        return self.session.client("secretsmanager", config=self.config)

    @cached_property
    def events(self) -> Any:
        """Event buses."""
        return self.session.client("events", config=self.config)

    @cached_property
    def sts(self) -> Any:
        """Who we are."""
        return self.session.client("sts", config=self.config)

    @cached_property
    def config(self) -> Config:
        """How long they wait."""
        from botocore.config import Config

        return Config(
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=_READ_TIMEOUT_S,
            retries={"mode": "standard", "total_max_attempts": 3},
            max_pool_connections=16,
        )
