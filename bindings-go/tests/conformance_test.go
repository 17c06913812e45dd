//go:build conformance

package tests

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// suite returns the path of berth-conformance, from BERTH_CONFORMANCE or the PATH.
func suite(t *testing.T) string {
	if program := os.Getenv("BERTH_CONFORMANCE"); program != "" {
		return program
	}
	program, err := exec.LookPath("berth-conformance")
	if err != nil {
		t.Fatal("berth-conformance not found: set BERTH_CONFORMANCE, or run `cargo install --path conformance`")
	}
	return program
}

// runSuite runs the suite in a directory. The suite exits with 0 if all claimed profiles pass.
func runSuite(t *testing.T, dir string, args ...string) {
	command := exec.Command(suite(t), args...)
	command.Dir = dir
	report, err := command.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, report)
	}
	t.Logf("%s", report)
}

// copyExample copies an example with its binary to a temporary directory.
func copyExample(t *testing.T, example string) (dir string) {
	dir = t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "examples", example))); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(build(t, example), filepath.Join(dir, example)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestMinimalHostConforms(t *testing.T) {
	runSuite(t, t.TempDir(), "host", "--no-color", "--profile", "core", "--", build(t, "minimal-host"), "{nats_url}")
}

func TestScriptHostConforms(t *testing.T) {
	runSuite(t, copyExample(t, "script-host"), "host", "--no-color", "--target", "target.toml")
}

func TestSpreadSchedulerConforms(t *testing.T) {
	runSuite(t, copyExample(t, "spread-scheduler"), "scheduler", "--no-color", "--target", "target.toml")
}
