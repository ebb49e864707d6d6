"""Consumes requests and project definitions; emits feedback.signal.* and what is learnt of them, feedback.example.*."""
