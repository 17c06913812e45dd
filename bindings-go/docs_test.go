package berth_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a piece of code in a document, with the file that it is taken from.
var block = regexp.MustCompile("(?m)^(?:<!-- file: (.+) -->\n)?```(go|toml|bash)\n((?s:.*?))^```$")

// TestDocumentsShowTheFilesThatTheTestsRun compares each block of code in a document with its file.
func TestDocumentsShowTheFilesThatTheTestsRun(t *testing.T) {
	for _, document := range []string{
		"README.md", "../docs/guide/bring-your-own-host-go.md", "../docs/guide/bring-your-own-scheduler-go.md",
	} {
		content, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		blocks := block.FindAllStringSubmatch(string(content), -1)
		if len(blocks) == 0 {
			t.Errorf("%s has no code", document)
		}
		for _, each := range blocks {
			file, code := each[1], each[3]
			if file == "" {
				t.Errorf("%s: code without a file:\n%s", document, code)
				continue
			}
			source, err := os.ReadFile(filepath.Join("..", file))
			if err != nil {
				t.Errorf("%s: %v", document, err)
			} else if !strings.Contains(string(source), code) {
				t.Errorf("%s does not show %s as it is", document, file)
			}
		}
	}
}
