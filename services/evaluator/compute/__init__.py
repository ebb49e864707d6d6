"""What asks models and keeps their answers: torch, transformers, pyarrow. Imported by the worker's child process alone."""

import os

# Read when torch's OpenMP is loaded. Threads that spin while they wait made two threads on a busy two-core machine 10 times
# slower than one (177 s against 17 s for 91 answers); threads that sleep took 10 s there.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
