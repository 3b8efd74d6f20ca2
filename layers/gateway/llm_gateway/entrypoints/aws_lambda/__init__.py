"""Lambda: one function for each endpoint and for each event of AWS."""
