"""Requests over time, made up: who asks for which model when. The same for simulated fleets and
for real processes.
"""

from helexa.testing.provisioning.traces import LETTERS, Ask, letters, zipf

__all__ = ["LETTERS", "Ask", "letters", "zipf"]
