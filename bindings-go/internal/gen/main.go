// Command gen makes the Go code of the schema under proto/, or says which of it is stale.
//
//	go run . -schema ../../../proto          # writes
//	go run . -schema ../../../proto -check   # writes nothing; exit code 1 when something is stale
//
// No protoc is needed: the schema is compiled here and handed to the plugins that go.mod pins.
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
	schema := flag.String("schema", "../../../proto", "the `directory` of the schema")
	out := flag.String("out", "../..", "the `directory` of the module berth.dev/go")
	check := flag.Bool("check", false, "only look whether the files are up to date")
	flag.Parse()
	if err := run(context.Background(), *schema, *out, *check); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, schema, out string, check bool) error {
	files, err := generate(ctx, schema)
	if err != nil {
		return err
	}
	stale, err := compare(out, files)
	if err != nil {
		return err
	}
	if check {
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

// compare lists, in order, what differs from what was generated. A generated file without a source is
// stale, too; its content is nil.
func compare(out string, files map[string][]byte) ([]string, error) {
	var stale []string
	for _, path := range slices.Sorted(maps.Keys(files)) {
		there, err := os.ReadFile(filepath.Join(out, path))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if err != nil || !bytes.Equal(there, files[path]) {
			stale = append(stale, path)
		}
	}
	for _, dir := range []string{messagesDir, stubsDir} {
		there, err := filepath.Glob(filepath.Join(out, dir, "*.pb.go"))
		if err != nil {
			return nil, err
		}
		for _, file := range there {
			path := filepath.ToSlash(filepath.Join(dir, filepath.Base(file)))
			if _, wanted := files[path]; !wanted {
				stale = append(stale, path)
			}
		}
	}
	return stale, nil
}

func write(path string, content []byte) error {
	if content == nil {
		return os.Remove(path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}
