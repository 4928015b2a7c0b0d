"""How nodes reach one another: identity, tickets, links authenticated by key, sessions.

The mesh moves frames and bytes between keys. It knows no models and no money.
"""
