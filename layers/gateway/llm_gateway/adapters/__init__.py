"""The stores and queues of each world behind the core's ports; all worlds pass the same contract suites."""
