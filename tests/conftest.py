"""One thread a test process: tests run side by side, and small networks are slower on several."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
