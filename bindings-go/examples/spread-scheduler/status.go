package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
)

// fate is how one replica fares.
type fate struct {
	Ready   bool
	Message string
	Host    string
	ID      string
}

// board shows how everything fares: one file for each object.
type board struct {
	dir string

	mu      sync.Mutex
	objects map[object]*shown
}

type shown struct {
	replicas map[int]fate
	problem  string // with the manifest itself
	content  []byte // of the file
}

func newBoard(dir string) *board {
	// What an earlier process has shown may be of what is deleted by now.
	if err := os.RemoveAll(dir); err != nil {
		slog.Warn("something that is out of date is still shown", "error", err)
	}
	return &board{dir: dir, objects: make(map[object]*shown)}
}

// all gives what is shown.
func (b *board) all() []object {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Collect(maps.Keys(b.objects))
}

// expect shows which replicas are wanted; none is a number, too.
func (b *board) expect(of object, numbers []int) {
	b.change(of, func(s *shown) {
		s.problem = ""
		maps.DeleteFunc(s.replicas, func(number int, _ fate) bool { return !slices.Contains(numbers, number) })
		for _, number := range numbers {
			if _, known := s.replicas[number]; !known {
				s.replicas[number] = fate{Message: "waits to be placed"}
			}
		}
	})
}

// unready is 0 for a replica that is ready, and else 1.
func (b *board) unready(of object, number int) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := b.objects[of]; s != nil && s.replicas[number].Ready {
		return 0
	}
	return 1
}

// refuse shows what is wrong with a manifest. What was wanted before goes on.
func (b *board) refuse(of object, problem error) {
	b.change(of, func(s *shown) { s.problem = "refused: " + problem.Error() })
}

// tell shows how a replica fares, as long as it is wanted.
func (b *board) tell(r replica, now fate) {
	b.change(r.Object, func(s *shown) {
		if _, isWanted := s.replicas[r.Number]; isWanted {
			s.replicas[r.Number] = now
		}
	})
}

// forget shows that an object is deleted.
func (b *board) forget(of object) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.objects, of)
	if err := os.Remove(b.path(of)); err != nil {
		slog.Error("what is deleted is still shown", "error", err)
	}
}

func (b *board) change(of object, change func(*shown)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.objects[of]
	if s == nil {
		s = &shown{replicas: make(map[int]fate)}
		b.objects[of] = s
	}
	change(s)
	content, err := json.MarshalIndent(s.status(of), "", "  ")
	if err == nil && !bytes.Equal(content, s.content) {
		s.content = content
		err = writeFile(b.path(of), content)
	}
	if err != nil {
		slog.Error("what is shown is out of date", "error", err)
	}
}

func (s *shown) status(of object) map[string]any {
	ready, messages := 0, []string{}
	var last fate
	for _, number := range slices.Sorted(maps.Keys(s.replicas)) {
		if last = s.replicas[number]; last.Ready {
			ready++
		}
		if !last.Ready || last.Message != "" {
			messages = append(messages, fmt.Sprintf("%s (%d)", last.Message, number))
		}
	}
	condition := map[string]string{"type": "Ready", "status": "False", "reason": "NotReady"}
	if ready == len(s.replicas) && s.problem == "" {
		condition["status"], condition["reason"] = "True", "Ready"
	}
	if s.problem != "" {
		condition["reason"] = "Refused"
		messages = append([]string{s.problem}, messages...)
	}
	condition["message"] = strings.Join(messages, "; ")
	status := map[string]any{
		"conditions": []any{condition},
		"replicas":   map[string]int{"expected": len(s.replicas), "ready": ready, "unavailable": len(s.replicas) - ready},
	}
	if of.Kind == "Workload" {
		status["hostId"], status["workloadId"] = last.Host, last.ID
	}
	return map[string]any{
		"apiVersion": "runtime.wasmcloud.dev/v1alpha1", "kind": of.Kind,
		"metadata": map[string]string{"name": of.Name, "namespace": of.Namespace}, "status": status,
	}
}

func (b *board) path(of object) string {
	return filepath.Join(b.dir, of.Namespace, of.Kind, of.Name+".json")
}
