"""A Triton backend named vllm that serves with transformers on CPU or CUDA, to the vLLM backend's tensors and layout."""
