"""Makes the sample data: a SQLite file and a Chroma directory, the same each time for a data set.

    pip install chromadb            # what the data of this folder was made with: 1.5.9
    python make_sample.py golden    # 200 items; what lies in data/
    python make_sample.py full      # 50,000 items with as many vectors of 1024 dimensions, about 280 MB, some minutes

Nothing is random: everything follows from the number of the item and the seed. Vectors lie around the five topics that
the sample queries ask for, and their floats are eighths, so that the files pack well.
"""

import hashlib
import json
import random
import shutil
import sqlite3
import sys
from pathlib import Path

SEED = 7067
DIMENSIONS = 1024
SIZES = {"golden": 200, "full": 50_000}
TOPICS = ["modern furniture", "outdoor activities", "food photography", "vintage items", "nature scenes"]
WORDS = {
    "modern furniture": ["sofa", "desk", "lamp", "shelf", "armchair"],
    "outdoor activities": ["kayak", "tent", "bicycle", "climbing rope", "hiking boots"],
    "food photography": ["ramen", "crème brûlée", "sourdough", "寿司", "salad"],
    "vintage items": ["typewriter", "gramophone", "rotary phone", "Polaroid", "cassette deck"],
    "nature scenes": ["waterfall", "pine forest", "sand dune", "glacier", "meadow 🌼"],
}
SCHEMA = """
CREATE TABLE items (
    id TEXT PRIMARY KEY,
    filename TEXT NOT NULL,
    file_path TEXT NOT NULL,
    created_at TEXT NOT NULL,
    updated_at TEXT NOT NULL
);
CREATE TABLE analyses (
    id TEXT PRIMARY KEY,
    item_id TEXT NOT NULL,
    raw_response TEXT,
    created_at TEXT NOT NULL
);
CREATE TABLE embeddings (
    id TEXT PRIMARY KEY,
    item_id TEXT NOT NULL,
    embedding_source TEXT,
    created_at TEXT NOT NULL
);
"""


def identity(kind: str, number: int) -> str:
    digest = hashlib.md5(f"{kind}{number}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-a{digest[17:20]}-{digest[20:]}"


def moment(number: int, way: int) -> str:
    """A second of 2025, as the application's several versions wrote it."""
    day, second = number % 28 + 1, number * 7919 % 86_400
    date = f"2025-{number % 12 + 1:02}-{day:02}"
    time = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
    forms = [f"{date} {time}", f"{date}T{time}", f"{date}T{time}.{number % 1000:03}", f"{date}T{time}Z", f"{date} {time}.5"]
    return forms[way % len(forms)]


def topic(number: int) -> str:
    return TOPICS[number % len(TOPICS)]


def word(number: int) -> str:
    return WORDS[topic(number)][number // len(TOPICS) % 5]


def response(number: int) -> str | None:
    """What a model said of an item: JSON, now and then with what JSON allows and columns do not like."""
    if number % 40 == 39:
        return None
    said = {"category": topic(number), "objects": [word(number)], "confidence": (number % 100) / 100}
    if number % 17 == 0:
        said["note"] = None
    if number % 23 == 0:
        said["nested"] = {"ids": [12345678901234567890, -0.1], "empty": {}}
    return json.dumps(said, ensure_ascii=number % 2 == 0)


def vectors(count: int):
    """One vector an item: its topic's own, and a little of its own."""
    centre_of = random.Random(SEED)
    centres = {name: [centre_of.randint(-8, 8) for _ in range(DIMENSIONS)] for name in TOPICS}
    for number in range(count):
        own = random.Random(SEED * 1_000_003 + number)
        yield [(at + own.randint(-3, 3)) / 8 for at in centres[topic(number)]]


def make_sqlite(path: Path, count: int) -> None:
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as database:
        database.executescript(SCHEMA)
        for n in range(count):
            item, source = identity("item", n), {"text": f"{word(n)}, {topic(n)}", "model": "voyage-3.5-lite"}
            made = moment(n, n)
            database.execute(
                "INSERT INTO items VALUES (?,?,?,?,?)",
                (item, f"IMG_{n:05}.jpg", f"/photos/{n // 100:03}/IMG_{n:05}.jpg", made, moment(n, n + 1)),
            )
            database.execute("INSERT INTO analyses VALUES (?,?,?,?)", (identity("analysis", n), item, response(n), made))
            database.execute(
                "INSERT INTO embeddings VALUES (?,?,?,?)",
                (identity("embedding", n), item, json.dumps(source, ensure_ascii=False), made),
            )
        database.commit()
        database.execute("VACUUM")


def make_chroma(path: Path, name: str, count: int) -> None:
    import chromadb

    shutil.rmtree(path, ignore_errors=True)
    client = chromadb.PersistentClient(path=str(path), settings=chromadb.Settings(anonymized_telemetry=False))
    collection = client.create_collection(name, metadata={"hnsw:space": "cosine"}, embedding_function=None)
    batch, made = 1_000, list(vectors(count)) if count <= 1_000 else vectors(count)
    made = iter(made)
    for first in range(0, count, batch):
        numbers = range(first, min(first + batch, count))
        collection.add(
            ids=[identity("embedding", n) for n in numbers],
            documents=[f"{word(n)}, {topic(n)}" for n in numbers],
            metadatas=[{"item_id": identity("item", n), "category": topic(n), "rank": n, "score": n / 8} for n in numbers],
            embeddings=[next(made) for _ in numbers],
        )
    print(f"{path}: {collection.count()} vectors")


if __name__ == "__main__":
    dataset = sys.argv[1]
    folder = Path(__file__).parent / "data"
    folder.mkdir(exist_ok=True)
    make_sqlite(folder / f"collections_{dataset}.db", SIZES[dataset])
    make_chroma(folder / f"chroma_{dataset}", f"collections_vectors_{dataset}", SIZES[dataset])
