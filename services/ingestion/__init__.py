"""Consumes submitted records, feedback signals and project definitions; emits accepted and refused records."""
