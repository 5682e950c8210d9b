"""Are weights any good?"""
