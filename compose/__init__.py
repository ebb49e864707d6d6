"""The ways to run Noria: processes on one machine, containers, Kubernetes, and what watches them."""
