"""What calls cost: one record for each call, sums over records, and the check of one against the other."""
