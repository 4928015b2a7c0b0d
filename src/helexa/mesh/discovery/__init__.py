"""How a node finds the first others: tickets, remembered peers, the LAN, an operator's DNS name.

Whatever is found is only a hint about where to knock. Who answers is proven by
the link, and who is let in is decided by admission; so nothing in here is
trusted, and everything in here is bounded.
"""
