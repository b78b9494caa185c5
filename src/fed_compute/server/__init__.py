"""The coordinator over HTTP: FastAPI in and out, problem documents, live news."""
