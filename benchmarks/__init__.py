import time

BEGUN = time.monotonic()  # when the process began, about: importing PyTorch from a cold disk counts, too
