"""One thread a test process: tests run side by side, and small networks are slower on several."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
# Threads that wait must not keep a core busy that other tests need.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
