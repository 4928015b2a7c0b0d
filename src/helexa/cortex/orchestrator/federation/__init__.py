"""Lending to the cortexes of other operators, and borrowing from them."""
