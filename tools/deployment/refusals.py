"""What stops a build or a deployment before it begins."""

from __future__ import annotations


class RefusedError(Exception):
    """A build or a deployment cannot begin; the message says in sentences what to change."""
