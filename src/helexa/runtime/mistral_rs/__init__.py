"""mistral.rs: what it knows, takes and means; used by its adapter."""
