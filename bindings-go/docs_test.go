package berth_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// codeBlock matches a fenced code block and the comment that names its file.
var codeBlock = regexp.MustCompile("(?m)^(?:<!-- file: (.+) -->\n)?```(go|toml|bash)\n((?s:.*?))^```$")

// TestDocumentsQuoteFilesVerbatim compares each code block of the documents with its file.
func TestDocumentsQuoteFilesVerbatim(t *testing.T) {
	for _, document := range []string{
		"README.md", "../docs/guide/bring-your-own-host-go.md", "../docs/guide/bring-your-own-scheduler-go.md",
	} {
		content, err := os.ReadFile(document)
		if err != nil {
			t.Fatal(err)
		}
		blocks := codeBlock.FindAllStringSubmatch(string(content), -1)
		if len(blocks) == 0 {
			t.Errorf("%s has no code block", document)
		}
		for _, each := range blocks {
			file, code := each[1], each[3]
			if file == "" {
				t.Errorf("%s: code block without a file:\n%s", document, code)
				continue
			}
			source, err := os.ReadFile(filepath.Join("..", file))
			if err != nil {
				t.Errorf("%s: %v", document, err)
			} else if !strings.Contains(string(source), code) {
				t.Errorf("%s: code block differs from %s", document, file)
			}
		}
	}
}
