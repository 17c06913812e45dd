package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// incarnation is one lifetime of a workload on a host: an id that was started there, or is about to be started.
type incarnation struct {
	ID      string
	Host    string
	Replica replica
	// Spec is the spec of the workload, to detect changes.
	Spec string
	// Completed is whether the workload has ended successfully. A completed workload is never started again.
	Completed bool
	// RetiredAt is when the incarnation was replaced or became unwanted; zero until then. Its stop may not be
	// confirmed yet.
	RetiredAt time.Time
}

// replica is one of the workloads of an object.
type replica struct {
	Object objectKey
	Number int
}

// stateFiles stores every incarnation that may be on a host, in a file of its own. A file is written before the
// start is sent, and removed when the host has replied NOT_FOUND. A scheduler that is killed at any time
// therefore starts nothing twice and forgets no stop.
type stateFiles struct {
	dir string

	mu      sync.Mutex
	entries map[string]incarnation
}

func openStateFiles(dir string) (*stateFiles, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	s := &stateFiles{dir: dir, entries: make(map[string]incarnation)}
	for _, file := range files {
		var entry incarnation
		content, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(content, &entry)
		}
		if err != nil {
			return nil, err
		}
		s.entries[entry.ID] = entry
	}
	return s, nil
}

// all returns every entry.
func (s *stateFiles) all() []incarnation {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Values(s.entries))
}

// update stores a changed entry.
func (s *stateFiles) update(entry incarnation) error {
	_, _, err := s.put(func(map[string]incarnation) (incarnation, bool) { return entry, true })
	return err
}

// put stores the entry that the function chooses from the existing entries. No other goroutine changes the
// entries while the function runs.
func (s *stateFiles) put(choose func(existing map[string]incarnation) (incarnation, bool)) (incarnation, bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	entry, ok := choose(s.entries)
	if !ok {
		return entry, false, nil
	}
	content, err := json.Marshal(entry)
	if err == nil {
		err = writeFile(s.path(entry.ID), content)
	}
	if err == nil {
		s.entries[entry.ID] = entry
	}
	return entry, err == nil, err
}

// remove removes the entry of an incarnation that is no longer on any host.
func (s *stateFiles) remove(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entries, id)
	return os.Remove(s.path(id))
}

func (s *stateFiles) path(id string) string { return filepath.Join(s.dir, id+".json") }

// writeFile replaces a file atomically.
func writeFile(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(path+".part", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".part", path)
}

// lock waits for an exclusive lock, or until ctx ends. The lock is released when the process ends, even if it
// crashes.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	for isWaiting := false; ctx.Err() == nil; isWaiting = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, errors.Join(err, file.Close())
		}
		if !isWaiting {
			slog.Info("waiting for the lock of another scheduler on the same directory", "lock", path)
		}
		sleep(ctx, 200*time.Millisecond)
	}
	return nil, errors.Join(ctx.Err(), file.Close())
}
