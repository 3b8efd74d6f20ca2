"""What the gateway costs in time and reads, measured; never part of the tests."""
