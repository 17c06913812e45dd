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

// replicaStatus is the status of one replica.
type replicaStatus struct {
	Ready   bool
	Message string
	Host    string
	ID      string
}

// statusFiles writes the status of each object to a file of its own.
type statusFiles struct {
	dir string

	mu      sync.Mutex
	objects map[objectKey]*objectStatus
}

type objectStatus struct {
	replicas map[int]replicaStatus
	problem  string // why the manifest is invalid, if it is
	content  []byte // the written status file
}

func newStatusFiles(dir string) *statusFiles {
	// The files of an earlier process may show objects that were deleted since.
	if err := os.RemoveAll(dir); err != nil {
		slog.Warn("cannot remove stale status files", "error", err)
	}
	return &statusFiles{dir: dir, objects: make(map[objectKey]*objectStatus)}
}

// all returns the objects that have a status.
func (f *statusFiles) all() []objectKey {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Keys(f.objects))
}

// setReplicas sets the numbers of the wanted replicas of an object. The list may be empty.
func (f *statusFiles) setReplicas(key objectKey, numbers []int) {
	f.update(key, func(s *objectStatus) {
		s.problem = ""
		maps.DeleteFunc(s.replicas, func(number int, _ replicaStatus) bool { return !slices.Contains(numbers, number) })
		for _, number := range numbers {
			if _, known := s.replicas[number]; !known {
				s.replicas[number] = replicaStatus{Message: "waiting for placement"}
			}
		}
	})
}

// readinessRank returns the sort key of a replica: 0 if it is ready, otherwise 1.
func (f *statusFiles) readinessRank(key objectKey, number int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s := f.objects[key]; s != nil && s.replicas[number].Ready {
		return 0
	}
	return 1
}

// refuse shows the problem of an invalid manifest. The replicas of the latest valid manifest remain.
func (f *statusFiles) refuse(key objectKey, problem error) {
	f.update(key, func(s *objectStatus) { s.problem = "refused: " + problem.Error() })
}

// set sets the status of a replica, if it is still wanted.
func (f *statusFiles) set(r replica, status replicaStatus) {
	f.update(r.Object, func(s *objectStatus) {
		if _, isWanted := s.replicas[r.Number]; isWanted {
			s.replicas[r.Number] = status
		}
	})
}

// remove removes the status of a deleted object.
func (f *statusFiles) remove(key objectKey) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.objects, key)
	if err := os.Remove(f.path(key)); err != nil {
		slog.Error("cannot remove status file", "error", err)
	}
}

func (f *statusFiles) update(key objectKey, change func(*objectStatus)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.objects[key]
	if s == nil {
		s = &objectStatus{replicas: make(map[int]replicaStatus)}
		f.objects[key] = s
	}
	change(s)
	content, err := json.MarshalIndent(s.object(key), "", "  ")
	if err == nil && !bytes.Equal(content, s.content) {
		s.content = content
		err = writeFile(f.path(key), content)
	}
	if err != nil {
		slog.Error("cannot write status file", "error", err)
	}
}

// object returns the content of the status file: the object with its status.
func (s *objectStatus) object(key objectKey) map[string]any {
	ready, messages := 0, []string{}
	var lastReplica replicaStatus // of a Workload, the only one
	for _, number := range slices.Sorted(maps.Keys(s.replicas)) {
		if lastReplica = s.replicas[number]; lastReplica.Ready {
			ready++
		}
		if !lastReplica.Ready || lastReplica.Message != "" {
			messages = append(messages, fmt.Sprintf("%s (%d)", lastReplica.Message, number))
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
	if key.Kind == "Workload" {
		status["hostId"], status["workloadId"] = lastReplica.Host, lastReplica.ID
	}
	return map[string]any{
		"apiVersion": "runtime.wasmcloud.dev/v1alpha1", "kind": key.Kind,
		"metadata": map[string]string{"name": key.Name, "namespace": key.Namespace}, "status": status,
	}
}

func (f *statusFiles) path(key objectKey) string {
	return filepath.Join(f.dir, key.Namespace, key.Kind, key.Name+".json")
}
