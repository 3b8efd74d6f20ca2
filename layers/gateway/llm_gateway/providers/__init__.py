"""One file per vendor; vendor types and vendor errors end here."""
