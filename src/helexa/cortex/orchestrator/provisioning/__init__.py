"""The fleet kept as the catalogue and the demand want it: `plan` decides, `actor` does.

Reading order: `demand` (what is asked for), `plan` (what to do about it), `room` (where a
request waits meanwhile), `actor` (the one task that acts).
"""
