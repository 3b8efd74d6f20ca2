"""Bounded Jinja2: no variable can forge a role, and no template can take more than its budget.

Knows nothing of files.
"""
