package main

import (
	"os"
	"path/filepath"
	"testing"
)

const schemaDir = "../../../proto"

// Modes of run.
const (
	writeFiles = false
	checkOnly  = true
)

func TestGeneratedCodeIsUpToDate(t *testing.T) {
	if err := run(t.Context(), schemaDir, "../..", checkOnly); err != nil {
		t.Error(err)
	}
}

func TestCheckDetectsStaleFile(t *testing.T) {
	out := t.TempDir()
	if err := run(t.Context(), schemaDir, out, writeFiles); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(out, messagesDir, "stale.pb.go")
	if err := os.WriteFile(stale, []byte("package runtimev2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), schemaDir, out, checkOnly); err == nil {
		t.Error("a stale file is not detected")
	}
	if err := run(t.Context(), schemaDir, out, writeFiles); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), schemaDir, out, checkOnly); err != nil {
		t.Error(err)
	}
}
