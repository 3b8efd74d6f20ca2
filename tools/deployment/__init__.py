"""Builds the gateway for AWS, looks into what was built, and deploys it: `python -m deployment`."""
