"""Clients that ask a gateway without a pause."""

import threading
from typing import Any

import openai

USER: Any = [{"role": "user", "content": "hello"}]


class Traffic:
    """Asks all the time in threads, and keeps what came."""

    def __init__(self, url: str, model: str = "shop") -> None:
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=60)
        self.model = model
        self.answered: list[str] = []
        self.faults: list[str] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.ask, args=(i % 2 == 0,)) for i in range(3)]

    def ask(self, stream: bool) -> None:
        while not self.over.is_set():
            try:
                if stream:
                    chunks = list(self.client.chat.completions.create(model=self.model, messages=USER, stream=True))
                    assert [c.choices[0].finish_reason for c in chunks][-1]
                    self.answered.append(chunks[0].model)
                else:
                    self.answered.append(self.client.chat.completions.create(model=self.model, messages=USER).model)
            except Exception as fault:
                self.faults.append(repr(fault))

    def __enter__(self) -> "Traffic":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(60)
