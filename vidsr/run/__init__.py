"""A job, done: the stages composed, segments that survive a crash, threads, streams."""
