import sqlite3
import sys

db = sqlite3.connect(sys.argv[1], isolation_level=None)
values = [
    None, 0, -1, 2**63 - 1, -(2**63), 2**53 + 1, 0.0, 0.1, 1.0, 1e308 * 10, -1e308 * 10, 5e-324, 2.0**53,
    2.0**63, -(2.0**63), 1.7976931348623157e308, 123456789.12345679, "", "a\0b", "é😀", '"\\', b"", b"\x00\xff",
]
for key, value in enumerate(values):
    db.execute("INSERT OR REPLACE INTO loose (k, x) VALUES (?, ?)", (f"text {key}", value if key % 2 else str(key)))
    db.execute("UPDATE OR REPLACE loose SET x = ? WHERE k = ?", (value, f"text {key}"))
for value in values:
    db.execute("INSERT OR REPLACE INTO loose (k, x) VALUES (?, ?)", (value, None))
with_other_types = [(value, str(index)) for index, value in enumerate(values)]
db.executemany("INSERT OR REPLACE INTO pairs VALUES (7, ?2, ?1)", with_other_types)
