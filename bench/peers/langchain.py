"""Chroma → pgvector as it is scripted today: pages of a collection into PGVector.add_embeddings, up to a number of records.
Prints rows and seconds; what is imported, opened and made before the first page does not count."""

import sys
import time

import chromadb
from langchain_core.embeddings import Embeddings
from langchain_postgres import PGVector

path, name, url, most = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])


class Given(Embeddings):
    """Vectors come with the records."""

    def embed_documents(self, texts):
        raise NotImplementedError

    def embed_query(self, text):
        raise NotImplementedError


settings = chromadb.Settings(anonymized_telemetry=False)
collection = chromadb.PersistentClient(path=path, settings=settings).get_collection(name, embedding_function=None)
url = url.replace("postgresql://", "postgresql+psycopg://", 1)
store = PGVector(embeddings=Given(), collection_name=name, connection=url, use_jsonb=True)
rows, began = 0, time.perf_counter()
while rows < most:
    page = collection.get(limit=1000, offset=rows, include=["embeddings", "documents", "metadatas"])
    if not page["ids"]:
        break
    store.add_embeddings(
        texts=page["documents"],
        embeddings=[vector.tolist() for vector in page["embeddings"]],
        metadatas=page["metadatas"],
        ids=page["ids"],
    )
    rows += len(page["ids"])
print(rows, time.perf_counter() - began)
