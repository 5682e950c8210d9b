"""From pictures and episodes to packs of crops."""
