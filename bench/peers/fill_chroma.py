"""Makes a Chroma directory with one collection, the same each time: python fill_chroma.py DIRECTORY COUNT DIMENSION."""

import sys

import chromadb
import numpy

path, count, dimension = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
client = chromadb.PersistentClient(path=path, settings=chromadb.Settings(anonymized_telemetry=False))
collection = client.create_collection("docs", embedding_function=None)
made = numpy.random.default_rng(7067)
for first in range(0, count, 2000):
    numbers = range(first, min(first + 2000, count))
    collection.add(
        ids=[f"id-{n:08}" for n in numbers],
        documents=[f"Document {n}: what a page of a manual says in a line or two, {n * 7919 % 100003}" for n in numbers],
        metadatas=[{"page": n % 400, "source": f"manual-{n % 97}.pdf", "score": n / 8} for n in numbers],
        embeddings=made.standard_normal((len(numbers), dimension), dtype=numpy.float32),
    )
assert collection.count() == count
