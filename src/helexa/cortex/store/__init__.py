"""Where a cortex keeps what must outlive it: schema, engine, and the rules of one writer."""
