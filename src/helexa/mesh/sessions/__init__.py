"""The control protocol over one link: the handshake, frames, asks and answers."""
