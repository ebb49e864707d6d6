"""Serving's pure rules: requests, answers, templates, routes, the plan for Triton. Touches nothing outside."""
