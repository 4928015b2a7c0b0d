"""Books for tests: entries in short, and a source that says what the test wants."""

from __future__ import annotations

from helexa.cortex.orchestrator.book import Book
from helexa.cortex.orchestrator.entries import KEPT_FILE, KeptEntries, Written
from helexa.cortex.settings import Alias, ModelEntry, OrchestratorSettings


def entry(model, *, aliases=(), **fields):
    return ModelEntry(id=model, aliases=tuple(Alias(name=name) for name in aliases), **fields)


class Source:
    """A file as `EntriesSource` knows it: `say` writes it."""

    where = "helexa.toml"

    def __init__(self, *entries):
        self.reads = 0
        self.stamps = 0
        self.now = Written()
        self.say(*entries)

    def say(self, *entries, problems=(), stale=(), **orchestrator):
        self.stamps += 1
        self.now = Written(
            entries=entries,
            origins=tuple(f"helexa.toml:{10 * (at + 1)}" for at in range(len(entries))),
            orchestrator=OrchestratorSettings(**orchestrator),
            stale=tuple(stale),
            problems=tuple(problems),
            stamp=self.stamps,
        )

    def given(self):
        return self.now

    def read(self):
        self.reads += 1
        return self.now

    def stamp(self):
        return self.stamps


class Shelf:
    """A home with a book in it; `reopen` is a restart."""

    def __init__(self, home, *entries):
        self.home = home
        self.source = Source(*entries)
        self.events = []
        self.told = []
        self.reopen()

    def reopen(self, **kept):
        self.kept = KeptEntries(self.home / KEPT_FILE, **kept)
        self.book = Book(self.kept, self.source, self.events.append)
        self.book.watch(lambda: self.told.append(self.book.revision))
        return self.book

    @property
    def models(self):
        return list(self.book.catalogue.entries)
