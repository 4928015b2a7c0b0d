"""Who is let in, and how far they are trusted: the rules, and what was decided at run time."""
