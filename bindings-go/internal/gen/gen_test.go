package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGeneratedCodeIsUpToDate(t *testing.T) {
	if err := run(t.Context(), "../../../proto", "../..", true); err != nil {
		t.Error(err)
	}
}

func TestCheckDetectsStaleFile(t *testing.T) {
	out := t.TempDir()
	if err := run(t.Context(), "../../../proto", out, false); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(out, messagesDir, "stale.pb.go")
	if err := os.WriteFile(stale, []byte("package runtimev2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), "../../../proto", out, true); err == nil {
		t.Error("a stale file is not detected")
	}
	if err := run(t.Context(), "../../../proto", out, false); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), "../../../proto", out, true); err != nil {
		t.Error(err)
	}
}
