"""What vidsr measures of itself; with PyTorch's threads waiting as `vidsr.cli` lets them wait."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
