"""What every service that touches a language model stands on: templates, tokens, base files, devices, adapters."""
