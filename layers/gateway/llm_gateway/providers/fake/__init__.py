"""A provider that answers without a vendor, for test mode."""
