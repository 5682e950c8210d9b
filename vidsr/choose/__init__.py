"""From what was asked for to a job with every choice made: model, backend, codec, what counts as still."""
