"""How nodes reach one another: keys, links, sessions, and a mesh that knows who is alive.

The mesh moves frames and bytes between keys. It knows no models and no money.
To read it in one sitting, from below:

    identity, ticket, trust   who a node is, where it is, how far it is trusted
    transport, transports/    links between keys: the contract, tls, iroh, memory
    sessions/                 the control protocol over one link
    dialler, sticky, node     links made, accepted and kept
    statements/               what is signed, and what a record may say
    operators/, files/        who stands behind a node, and where that is kept
    admission/                who is let in
    discovery/                finding others, and joining them step by step
    membership/               who is in the mesh and who is alive: pure, `core.py` first
    overlay                   the loop that feeds membership from a clock and from links
"""
