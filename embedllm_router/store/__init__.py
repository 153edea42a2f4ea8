"""Keeps records of requests and feedback: in files that rotate, or in PostgreSQL. Writing never blocks a request.

    store = open_store(StoreOptions(path=folder))
    store.put(record)        # a few microseconds; a thread writes it to disk within flush_s
    store.close()

Reading is someone else's: `segments.readable` says which files there are, and any SQL engine reads them.
"""

from embedllm_router.store.opening import RecordStore, open_store
from embedllm_router.store.options import StoreOptions, default_store_path

__all__ = ["RecordStore", "StoreOptions", "default_store_path", "open_store"]
