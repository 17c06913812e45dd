"""The decisions that survive a restart, in an SQLite database."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from codec import Heartbeat, Interface
from fleet import Host
from incarnation import Incarnation
from manifests import Key
from replica import Replica
from violation import violates

SCHEMA = """
CREATE TABLE IF NOT EXISTS objects (
    kind TEXT, namespace TEXT, name TEXT, manifest TEXT, good TEXT,
    PRIMARY KEY (kind, namespace, name));
CREATE TABLE IF NOT EXISTS hosts (id TEXT PRIMARY KEY, heartbeat TEXT, lost INTEGER);
CREATE TABLE IF NOT EXISTS replicas (
    uid TEXT PRIMARY KEY, kind TEXT, namespace TEXT, name TEXT, replica TEXT, template TEXT,
    created REAL, retiring INTEGER);
CREATE TABLE IF NOT EXISTS incarnations (
    id TEXT PRIMARY KEY, replica TEXT, host TEXT, process TEXT, wanted INTEGER, state TEXT);
"""


class Lock:
    """A file lock that only one instance of the scheduler holds."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file: TextIO = open(directory / "lock", "w")  # noqa: SIM115

    def acquire(self) -> bool:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        self._file.close()


class Store:
    """Writes decisions; `commit` is called before the scheduler acts on them."""

    def __init__(self, directory: Path) -> None:
        path = directory / "state.db"
        # The database contains resolved secrets.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
        self._db = sqlite3.connect(path, isolation_level="DEFERRED")
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.executescript(SCHEMA)

    def commit(self) -> None:
        self._db.commit()

    def close(self) -> None:
        self._db.commit()
        self._db.close()

    def put_object(self, key: Key, manifest: dict[str, Any], good: str) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)",
            (*key, json.dumps(manifest), good),
        )

    def delete_object(self, key: Key) -> None:
        self._db.execute("DELETE FROM objects WHERE kind=? AND namespace=? AND name=?", key)

    def objects(self) -> list[tuple[Key, dict[str, Any], str]]:
        rows = self._db.execute("SELECT * FROM objects").fetchall()
        return [(Key(*row[:3]), json.loads(row[3]), row[4]) for row in rows]

    def put_host(self, host: Host) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO hosts VALUES (?, ?, ?)",
            (host.id, json.dumps(asdict(host.heartbeat)), host.lost),
        )

    def delete_host(self, host_id: str) -> None:
        self._db.execute("DELETE FROM hosts WHERE id=?", (host_id,))

    def hosts(self, now: float) -> list[Host]:
        hosts = []
        for _, text, lost in self._db.execute("SELECT * FROM hosts").fetchall():
            value = json.loads(text)
            for name in ("imports", "exports"):
                value[name] = tuple(
                    Interface(**{**entry, "interfaces": tuple(entry["interfaces"])})
                    for entry in value[name]
                )
            last_sign = now - 3600.0 if violates("fence-forgotten-over-restart") else now
            host = Host(Heartbeat(**value), last_sign, last_sign, lost=bool(lost))
            host.first_process = host.heartbeat.process
            hosts.append(host)
        return hosts

    def put_replica(self, replica: Replica) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO replicas VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                replica.uid,
                *replica.key,
                replica.name,
                replica.template.dump(),
                replica.created,
                replica.retiring and not violates("restart-shrinks-another-replica"),
            ),
        )

    def delete_replica(self, uid: str) -> None:
        self._db.execute("DELETE FROM replicas WHERE uid=?", (uid,))

    def replicas(self) -> list[tuple[Any, ...]]:
        """Returns rows of uid, kind, namespace, name, replica name, template, created, retiring."""
        return self._db.execute("SELECT * FROM replicas ORDER BY created").fetchall()

    def put_incarnation(self, inc: Incarnation, replica: str) -> None:
        wanted, state = inc.wanted, inc.state
        if state == "COMPLETED" and violates("completion-forgotten-over-restart"):
            state = "RUNNING"
        if replica and not wanted and violates("restart-shrinks-another-replica"):
            wanted, state = True, "RUNNING"
        self._db.execute(
            "INSERT OR REPLACE INTO incarnations VALUES (?, ?, ?, ?, ?, ?)",
            (inc.id, replica, inc.host, inc.process, wanted, state),
        )

    def delete_incarnation(self, workload_id: str) -> None:
        self._db.execute("DELETE FROM incarnations WHERE id=?", (workload_id,))

    def incarnations(self) -> list[tuple[Incarnation, str]]:
        """Returns each incarnation with the uid of its replica, which is empty for an orphan."""
        return [
            (Incarnation(id, host, process, wanted=bool(wanted), state=state), replica)
            for id, replica, host, process, wanted, state in self._db.execute(
                "SELECT * FROM incarnations"
            ).fetchall()
        ]
