"""Who is let in, how much and in which order: limits, and turns at models without free slots."""
