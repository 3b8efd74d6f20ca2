"""The gateway's configuration, read from the environment."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar, get_args

from llm_gateway.errors import ConfigurationError
from llm_gateway.models.endpoint_url import checked_url
from llm_gateway.models.options import TIMEOUT_RANGE_S
from llm_gateway.suggestions import nearest

T = TypeVar("T")
Access = Literal["keys", "iam", "open"]
ENV_PREFIX = "LLM_GATEWAY_"
_OF_THE_SDK = ("openai_org_id", "openai_project_id")
FOR_TRYING = frozenset({"local", "dev"})
"""Names of deployments that may be lax, as in template.yaml; every other name counts as production."""
_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that can be set from outside, each as `LLM_GATEWAY_<NAME>` in the environment.

    Attributes:
        environment: Name of the deployment, a dimension of its logs.
        log_level: DEBUG, INFO, WARNING or ERROR.
        test_mode: True answers every call with the fake provider.
        test_latency: `realistic` lets the fake provider take as long as a vendor would, `none` no time.
        models: JSON with providers and models of the deployment's own; see docs/operations.md.
        models_file: Path or s3://bucket/key of a file of the same kind, laid under `models`.
        default_model: `provider/name` used when neither request nor prompt names one.
        default_timeout_s: A call's time when the request names none, 5 to 120 s.
        api_timeout_ms: How long the API in front waits for an answer; None without such an API.
        deadline_reserve_s: Kept back from Lambda's own timeout for accounting and the answer.
        retry_limit: Retries after a first failed attempt, 0 to 3.
        retry_first_wait_s: Longest wait before the first retry; it doubles with each further one.
        retry_longest_wait_s: Where the doubling ends.
        access: How callers prove who they are: by gateway `keys`, by AWS `iam`, or not at all (`open`).
        key_table: DynamoDB table of the gateway keys.
        key_file: File of the gateway keys, instead of the table.
        key_pepper_arn: Secrets Manager secret that the keys' hashes are keyed with.
        key_pepper_file: File with that secret; None is the file of the keys with `.pepper` behind its name.
        key_cache_ttl_s: How long a key is trusted before it is looked up again.
        max_body_bytes: Largest request body.
        max_rendered_chars: Largest rendered prompt.
        max_prompt_bytes: Largest prompt file.
        prompt_folder: Folder of the prompt files, instead of bucket and table.
        prompt_bucket: S3 bucket of the prompt files.
        prompt_table: DynamoDB table of the prompt index.
        prompt_cache_ttl_s: How long an environment may trust its view of what is current.
        prompt_cache_bytes: Bound of the compiled prompts kept in memory, in bytes of source.
        usage_table: DynamoDB table of ledger and rollups.
        usage_file: SQLite file of ledger and rollups, instead of the table; in `serve` of all it keeps.
        usage_queue_url: SQS queue for records that the ledger does not take; None has only the log.
        usage_retention_days: Life of a ledger item; rollups stay.
        usage_event_bus: Name of the EventBridge bus that each call is told to.
        outcome_table: DynamoDB table of idempotency keys and the answers given for them.
        idempotency_ttl_s: How long an idempotency key is remembered.
        budgets: JSON with what each calling service may spend; see docs/operations.md.
        budget_table: DynamoDB table of what they spent and hold.
        event_bus: EventBridge bus that is told of budgets that come to their end.
        answer_queue_url: SQS queue for answers to queued calls.
        failure_queue_url: SQS queue for errors of queued calls.
        checked_function: ARN of the version of call_prompt that a deployment is about to give traffic.
        deployment_check: JSON of the request that such a version is called with.
        lazy_imports: False loads all of the vendor's SDK at once, should a new release of it need that.
        lean_aws: False writes usage through the whole of the AWS SDK, at twice the CPU.
        openai_secret_arn: Secrets Manager secret with the OpenAI key, or a JSON object of keys by provider.
        openai_api_key: The same, given as it is, instead of a secret.
        openai_api_key_file: The same in a file.
        openai_base_url: Another OpenAI-compatible endpoint; None is OpenAI's own.
        openai_org_id: Organization that calls of the provider `openai` are billed to; also `OPENAI_ORG_ID`.
        openai_project_id: Project that they belong to; also `OPENAI_PROJECT_ID`.
        host: Address that `serve` listens on.
        http_port: Its port for HTTP; 0 takes a free one.
        grpc_port: Its port for gRPC; 0 takes a free one.
        max_concurrent_calls: Calls that `serve` answers at once; one more is refused.
        max_connections: HTTP connections that `serve` keeps open at once.
        header_timeout_s: Longest that a request's headers, or a TLS handshake, may take.
        body_timeout_s: Longest that a request's body may take after its headers.
        idle_timeout_s: How long a connection may wait for its next request.
        write_timeout_s: How long an answer may wait for a client that does not read.
        shutdown_grace_s: Time that calls under way have to end when `serve` is told to stop.
        tls_certificate_file: Certificate chain of both ports, PEM; None is plain text.
        tls_key_file: Its private key.
        grpc_reflection: True tells gRPC clients what services there are.
        metrics_endpoint: True serves GET /metrics.
    """

    environment: str = "local"
    log_level: str = "INFO"
    test_mode: bool = False
    test_latency: str = "realistic"
    models: str | None = None
    models_file: str | None = None
    default_model: str = "openai/gpt-4o-mini"
    default_timeout_s: float = 60.0
    api_timeout_ms: int | None = None
    deadline_reserve_s: float = 1.5
    retry_limit: int = 3
    retry_first_wait_s: float = 0.5
    retry_longest_wait_s: float = 8.0
    access: Access = "keys"
    key_table: str | None = None
    key_file: str | None = None
    key_pepper_arn: str | None = None
    key_pepper_file: str | None = None
    key_cache_ttl_s: float = 60.0
    max_body_bytes: int = 1_048_576
    max_rendered_chars: int = 1_000_000
    max_prompt_bytes: int = 1_048_576
    prompt_folder: str | None = None
    prompt_bucket: str | None = None
    prompt_table: str | None = None
    prompt_cache_ttl_s: float = 1.0
    prompt_cache_bytes: int = 16_777_216
    usage_table: str | None = None
    usage_file: str | None = None
    usage_queue_url: str | None = None
    usage_retention_days: int = 400
    usage_event_bus: str | None = None
    outcome_table: str | None = None
    idempotency_ttl_s: float = 3_600
    budgets: str | None = None
    budget_table: str | None = None
    event_bus: str = "default"
    answer_queue_url: str | None = None
    failure_queue_url: str | None = None
    checked_function: str | None = None
    deployment_check: str = '{"prompt": "deployment_check", "variables": {"word": "ok"}}'
    lazy_imports: bool = True
    lean_aws: bool = True
    openai_secret_arn: str | None = None
    openai_api_key: str | None = field(default=None, repr=False)
    openai_api_key_file: str | None = None
    openai_base_url: str | None = None
    openai_org_id: str | None = None
    openai_project_id: str | None = None
    host: str = "127.0.0.1"
    http_port: int = 8080
    grpc_port: int = 50051
    max_concurrent_calls: int = 256
    max_connections: int = 1_000
    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    idle_timeout_s: float = 75.0
    write_timeout_s: float = 30.0
    shutdown_grace_s: float = 30.0
    tls_certificate_file: str | None = None
    tls_key_file: str | None = None
    grpc_reflection: bool = True
    metrics_endpoint: bool = True

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Read and check the environment.

        Raises:
            ConfigurationError: Naming every variable that is unknown or has an unusable value.
        """
        source = os.environ if environ is None else environ
        prefixed = {
            name.removeprefix(ENV_PREFIX): value.strip()
            for name, value in source.items()
            if name.startswith(ENV_PREFIX) and value.strip()
        }
        # One spelling for each setting: whatever checks a variable by its name then checks the setting.
        given = {_NAMES[name]: value for name, value in prefixed.items() if name in _NAMES}
        for name in _OF_THE_SDK:  # variables of OpenAI's own tools, which the provider `openai` honours
            if value := source.get(name.upper(), "").strip():
                given.setdefault(name, value)
        problems = [_unknown(name) for name in prefixed.keys() - _NAMES.keys()]
        values: dict[str, object] = {}
        for name, text in given.items():
            try:
                values[name] = _READERS[name](_utf8(text))
            except ValueError as error:
                problems.append(f"{ENV_PREFIX}{name.upper()} {error}")
        if problems:
            raise ConfigurationError(
                "; ".join(sorted(problems)) + ".", details={"problems": [f"{p}." for p in sorted(problems)]}
            )
        return cls(**values)  # type: ignore[arg-type]

    def required(self, name: str) -> str:
        """The text of a setting that this process cannot do without.

        Raises:
            ConfigurationError: Naming the variable to set.
        """
        value = getattr(self, name)
        if not isinstance(value, str) or not value:
            raise ConfigurationError(f"Set {ENV_PREFIX}{name.upper()}; it is empty.")
        return value


def process_environment() -> Mapping[str, str]:
    """The environment of this process."""
    return os.environ


def _unknown(name: str) -> str:
    meant = "".join(f" (perhaps {ENV_PREFIX}{known} is meant)" for known in nearest(name, _NAMES))
    shown = name.encode(errors="backslashreplace").decode()
    return f"{ENV_PREFIX}{shown} is not a setting{meant}"


def _utf8(value: str) -> str:
    """Python hands bytes of the environment that are no UTF-8 on as half characters."""
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValueError("must be UTF-8 text") from None
    return value


def _text(value: str) -> str:
    return value


def _flag(value: str) -> bool:
    match value.lower():
        case "true" | "1" | "yes" | "on":
            return True
        case "false" | "0" | "no" | "off":
            return False
    raise ValueError("must be true or false")


def _number(kind: Callable[[str], T], low: float, high: float) -> Callable[[str], T]:
    def read(value: str) -> T:
        try:
            number = kind(value)
        except ValueError:
            raise ValueError(f"must be a number from {low:.9g} to {high:.9g}") from None
        if not low <= float(value) <= high:
            raise ValueError(f"must be a number from {low:.9g} to {high:.9g}")
        return number

    return read


def _level(value: str) -> str:
    if value.upper() not in _LEVELS:
        raise ValueError(f"must be one of {', '.join(_LEVELS)}")
    return value.upper()


def _one_of(*choices: str) -> Callable[[str], str]:
    def read(value: str) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return read


def _header(value: str) -> str:
    if not (value.isascii() and value.isprintable()):
        raise ValueError("must be plain ASCII text")
    return value


def _model(value: str) -> str:
    provider, _, name = value.partition("/")
    if not provider or not name:
        raise ValueError("must look like provider/model, for example openai/gpt-4o-mini")
    return value


_READERS: Mapping[str, Callable[[str], object]] = {
    "environment": _text,
    "log_level": _level,
    "test_mode": _flag,
    "test_latency": _one_of("realistic", "none"),
    "models": _text,
    "models_file": _text,
    "default_model": _model,
    "default_timeout_s": _number(float, *TIMEOUT_RANGE_S),
    "api_timeout_ms": _number(int, 1_000, 900_000),
    "deadline_reserve_s": _number(float, 0.1, 10),
    "retry_limit": _number(int, 0, 3),
    "retry_first_wait_s": _number(float, 0, 10),
    "retry_longest_wait_s": _number(float, 0, 60),
    "access": _one_of(*get_args(Access)),
    "key_table": _text,
    "key_file": _text,
    "key_pepper_arn": _text,
    "key_pepper_file": _text,
    "key_cache_ttl_s": _number(float, 0, 3_600),
    "max_body_bytes": _number(int, 1_024, 6_000_000),
    "max_rendered_chars": _number(int, 1_000, 10_000_000),
    "max_prompt_bytes": _number(int, 1_024, 10_000_000),
    "prompt_folder": _text,
    "prompt_bucket": _text,
    "prompt_table": _text,
    "prompt_cache_ttl_s": _number(float, 0, 3_600),
    "prompt_cache_bytes": _number(int, 0, 1_000_000_000),
    "usage_table": _text,
    "usage_file": _text,
    "usage_queue_url": _text,
    "usage_retention_days": _number(int, 1, 3_650),
    "usage_event_bus": _text,
    "outcome_table": _text,
    "idempotency_ttl_s": _number(float, 60, 86_400),
    "budgets": _text,
    "budget_table": _text,
    "event_bus": _text,
    "answer_queue_url": _text,
    "failure_queue_url": _text,
    "checked_function": _text,
    "deployment_check": _text,
    "lazy_imports": _flag,
    "lean_aws": _flag,
    "openai_secret_arn": _text,
    "openai_api_key": _text,
    "openai_api_key_file": _text,
    "openai_base_url": checked_url,
    "openai_org_id": _header,
    "openai_project_id": _header,
    "host": _text,
    "http_port": _number(int, 0, 65_535),
    "grpc_port": _number(int, 0, 65_535),
    "max_concurrent_calls": _number(int, 1, 10_000),
    "max_connections": _number(int, 1, 100_000),
    "header_timeout_s": _number(float, 0.1, 300),
    "body_timeout_s": _number(float, 0.1, 600),
    "idle_timeout_s": _number(float, 0.1, 3_600),
    "write_timeout_s": _number(float, 0.1, 600),
    "shutdown_grace_s": _number(float, 0, 600),
    "tls_certificate_file": _text,
    "tls_key_file": _text,
    "grpc_reflection": _flag,
    "metrics_endpoint": _flag,
}

_NAMES = {name.upper(): name for name in _READERS}
