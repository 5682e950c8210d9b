"""The trainer: `python -m train --help`, from a checkout. It imports vidsr; nothing in vidsr imports it."""
