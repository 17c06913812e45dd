package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestGeneratedCodeIsFresh(t *testing.T) {
	if err := run(t.Context(), "../../../proto", "../..", true); err != nil {
		t.Error(err)
	}
}

func TestStaleCodeIsFound(t *testing.T) {
	out := t.TempDir()
	if err := run(t.Context(), "../../../proto", out, false); err != nil {
		t.Fatal(err)
	}
	stray := filepath.Join(out, messagesDir, "gone.pb.go")
	if err := os.WriteFile(stray, []byte("package runtimev2"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), "../../../proto", out, true); err == nil {
		t.Error("a file that nothing generates is not found")
	}
	if err := run(t.Context(), "../../../proto", out, false); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), "../../../proto", out, true); err != nil {
		t.Error(err)
	}
}
