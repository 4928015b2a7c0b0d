"""Who is in the mesh and who is alive, as a pure core: `Membership` in `core.py`.

`presets.py` has the numbers and their reasons, `events.py` what goes in and
comes out. Inside, from the outside in: `partners.py` (whom news is exchanged
with), `checks.py` (looking whether somebody is there), `doubts.py` (from
suspicion to death), `hearsay.py` (signed statements), `learning.py`,
`exchange.py` and `comparing.py` (records), `own.py` (this node's own).
"""
