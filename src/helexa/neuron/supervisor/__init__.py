"""Runtime children kept as somebody wants them: decided in `step`, done by one owner each."""
