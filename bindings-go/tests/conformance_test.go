//go:build conformance

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// suite gives the program that judges: from BERTH_CONFORMANCE, or from the PATH.
func suite(t *testing.T) string {
	if program := os.Getenv("BERTH_CONFORMANCE"); program != "" {
		return program
	}
	program, err := exec.LookPath("berth-conformance")
	if err != nil {
		t.Fatal("there is no berth-conformance: name it in BERTH_CONFORMANCE, or `cargo install --path conformance`")
	}
	return program
}

// judge runs the suite in a directory; it ends with 0 when everything that is claimed held.
func judge(t *testing.T, dir string, args ...string) {
	command := exec.Command(suite(t), args...)
	command.Dir = dir
	verdict, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, verdict)
	}
	t.Logf("%s", verdict)
}

// beside puts an example's program beside its target.toml, as a user does.
func beside(t *testing.T, example string) (dir string) {
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", example))); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(build(t, example), filepath.Join(dir, example)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTheMinimalHostConforms(t *testing.T) {
	judge(t, t.TempDir(), "host", "--no-color", "--profile", "core", "--", build(t, "minimal-host"), "{nats_url}")
}

func TestTheScriptHostConforms(t *testing.T) {
	judge(t, beside(t, "script-host"), "host", "--no-color", "--target", "target.toml")
}

func TestTheSpreadSchedulerConforms(t *testing.T) {
	judge(t, beside(t, "spread-scheduler"), "scheduler", "--no-color", "--target", "target.toml")
}
