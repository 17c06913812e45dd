// Command gen generates the Go code of the schema in proto/, or checks that it is up to date.
//
//	go run . -schema ../../../proto          # writes the files
//	go run . -schema ../../../proto -check   # writes nothing; exits with 1 if a file is stale
//
// It needs no protoc: it compiles the schema and runs the plugins at the versions that go.mod pins.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

func main() {
	schema := flag.String("schema", "../../../proto", "schema `directory`")
	out := flag.String("out", "../..", "`directory` of the module berth.dev/go")
	check := flag.Bool("check", false, "check that the files are up to date, write nothing")
	flag.Parse()
	if err := run(context.Background(), *schema, *out, *check); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, schemaDir, out string, checkOnly bool) error {
	files, err := generate(ctx, schemaDir)
	if err != nil {
		return err
	}
	stale, err := compare(out, files)
	if err != nil {
		return err
	}
	if checkOnly {
		if len(stale) > 0 {
			return fmt.Errorf("out of date: %v; run `go run .` in bindings-go/internal/gen", stale)
		}
		return nil
	}
	for _, path := range stale {
		if err := write(filepath.Join(out, path), files[path]); err != nil {
			return err
		}
		fmt.Println("wrote", path)
	}
	return nil
}

// compare returns the sorted paths of stale files, including generated files that no longer have a source.
func compare(out string, files map[string][]byte) ([]string, error) {
	var stale []string
	for _, path := range slices.Sorted(maps.Keys(files)) {
		existing, err := os.ReadFile(filepath.Join(out, path))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err != nil || !bytes.Equal(existing, files[path]) {
			stale = append(stale, path)
		}
	}
	for _, dir := range []string{messagesDir, stubsDir} {
		existing, err := filepath.Glob(filepath.Join(out, dir, "*.pb.go"))
		if err != nil {
			return nil, err
		}
		for _, file := range existing {
			path := filepath.ToSlash(filepath.Join(dir, filepath.Base(file)))
			if _, generated := files[path]; !generated {
				stale = append(stale, path)
			}
		}
	}
	return stale, nil
}

// write writes a file, or removes it if the content is nil.
func write(path string, content []byte) error {
	if content == nil {
		return os.Remove(path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}
