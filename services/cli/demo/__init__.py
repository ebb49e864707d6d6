"""The demo: the whole loop on real parts, watched from outside through the same topics and interfaces anybody has."""
