"""Triton as this project runs it: the vllm-compatible backend, the model repository, the server process, the client."""
