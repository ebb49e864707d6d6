"""What trains: tensors on one device. Knows neither Kafka nor SQL nor the artifact store; runs in a child process alone."""

import os

# Read when torch loads its OpenMP: waiting threads sleep instead of spinning, since others need the cores too.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
