"""Writes docs/openapi.json from the code, or checks that it is current.

python -m openapi           write it
python -m openapi --check   fail if it is not what the code says
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

DOCUMENT = Path(__file__).parent.parent / "docs" / "openapi.json"


def current() -> str:
    """The document as the code has it now. Builds every part but reaches nothing."""
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    from llm_gateway.bootstrap.services import Parts
    from llm_gateway.bootstrap.settings import Settings
    from llm_gateway.entrypoints.http.complete import complete_app, openapi_document

    stores = {"prompt_bucket": "b", "prompt_table": "p", "usage_table": "u", "outcome_table": "o"}
    stores |= {"key_table": "k", "key_pepper_arn": "a"}
    settings = Settings(test_mode=True, **stores)  # type: ignore[arg-type]
    return json.dumps(openapi_document(complete_app(Parts(settings, "openapi"))), indent=2) + "\n"


def main() -> int:
    """Write or check; the exit code says whether all is well."""
    if "--check" not in sys.argv:
        DOCUMENT.write_text(current(), encoding="utf-8")
        print(f"wrote {DOCUMENT.name}")
        return 0
    if DOCUMENT.exists() and DOCUMENT.read_text(encoding="utf-8") == current():
        print("docs/openapi.json is current")
        return 0
    print("docs/openapi.json is not what the code says: run `make openapi` and commit the result")
    return 1


if __name__ == "__main__":
    sys.exit(main())
