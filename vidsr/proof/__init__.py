"""Is the result the source, enlarged, with nothing else touched?"""
