lock:
	uv pip compile pyproject.toml --extra stack --extra test --generate-hashes --no-emit-index-url --universal --python-version 3.11 --custom-compile-command "make lock" -q -o requirements.lock
