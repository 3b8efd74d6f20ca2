"""One call, from request to answer: who may make it, its attempts, and the account of its end.

A call with an idempotency key is made once.
"""
