package main

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// incarnation is one life of a workload: an id that was started on a host, or is about to be.
type incarnation struct {
	ID   string
	Host string
	// Of is the replica whose life it is.
	Of replica
	// Content tells whether it is still what is wanted.
	Content string
	// Completed tells that it ended well: it is never started again.
	Completed bool
	// Orphaned is when another incarnation took its place, while its host was lost or it was not ended yet.
	Orphaned time.Time
}

// replica is one of the workloads of an object.
type replica struct {
	Object object
	Number int
}

// ledger knows every id that may be on a host. An id is written down before its start is sent, and struck
// out when its host has said NOT_FOUND: so a scheduler that was killed in between starts nothing twice and
// forgets no stop.
type ledger struct {
	dir string

	mu      sync.Mutex
	entries map[string]incarnation
}

func openLedger(dir string) (*ledger, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	l := &ledger{dir: dir, entries: make(map[string]incarnation)}
	for _, file := range files {
		var entry incarnation
		content, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(content, &entry)
		}
		if err != nil {
			return nil, err
		}
		l.entries[entry.ID] = entry
	}
	return l, nil
}

// all gives every entry.
func (l *ledger) all() []incarnation {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.entries))
}

// change writes down what has become of an entry.
func (l *ledger) change(entry incarnation) error {
	_, _, err := l.put(func(map[string]incarnation) (incarnation, bool) { return entry, true })
	return err
}

// put adds an entry that the function makes of the others, or changes one. The function may choose a host by
// what is there, and nobody chooses at the same time.
func (l *ledger) put(choose func(others map[string]incarnation) (incarnation, bool)) (incarnation, bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	entry, ok := choose(l.entries)
	if !ok {
		return entry, false, nil
	}
	content, err := json.Marshal(entry)
	if err == nil {
		err = writeFile(l.path(entry.ID), content)
	}
	if err == nil {
		l.entries[entry.ID] = entry
	}
	return entry, err == nil, err
}

// strike takes an entry out: nothing of it is on a host any more.
func (l *ledger) strike(id string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.entries, id)
	return os.Remove(l.path(id))
}

func (l *ledger) path(id string) string { return filepath.Join(l.dir, id+".json") }

// writeFile sees that a reader finds the old file or the new one, and nothing in between.
func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".part", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

// lock waits until nobody else has the lock, or ctx ends. It is gone with the process, however that ends.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(err, file.Close())
		}
		pause(ctx, 200*time.Millisecond)
	}
	return func() {}, file.Close()
}
