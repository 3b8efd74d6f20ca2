"""Adapters of the gateway's stores."""
