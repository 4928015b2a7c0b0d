"""What is signed: how it is sealed, and what a record may say."""
