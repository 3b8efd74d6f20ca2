"""The ways in: each turns its world's request into the gateway's and the answer back.

None of them decides anything about a call.
"""
