"""What training, evaluation and serving must do alike with a language model: template, tokens, files, device, adapters.

Nothing here imports torch but `device`, `measured`, `adapters`, `active_adapters`, `linear_product` and
`lora_linear`: the gateway renders without it.
"""
