"""For tests of programs that use vision_app: a provider that answers without network and without cost.

```python
from vision_app.testing import MockProvider, answer_text

provider = MockProvider(answer_text("photo", "A red square"))
```

For a test of the whole system use the GigaChat simulator (`vision_app/simulator/`): it speaks HTTP and keeps a bill.
"""

from vision_app.testing.provider import Call, MockProvider, Scripted, answer_text

__all__ = ["Call", "MockProvider", "Scripted", "answer_text"]
